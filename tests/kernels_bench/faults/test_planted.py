"""The kernels that faults are planted in do what they say, and what is known to be missed is missed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

from kernels_bench.faults import Fault, faults, planted, score
from kernels_bench.faults.base import HEADS
from kernels_bench.faults.planted.paged_attention import attention, exponential
from kernels_bench.faults.planted.sums import in_groups, in_parts, in_sequence, pairwise
from kernels_bench.operators import operators
from kernels_bench.relations import make_batch
from kernels_bench.verification.bitwise import same_bits

CPU = torch.device("cpu")


def unseen() -> Iterator[Fault]:
    for file in iter_modules(planted.__path__, planted.__name__ + "."):
        yield from getattr(import_module(file.name), "UNSEEN", ())


@pytest.mark.parametrize("fault", list(unseen()), ids=lambda fault: fault.name)
@pytest.mark.xfail(strict=True, reason="known to be missed")
def test_what_is_seen_belongs_to_the_faults(fault: Fault) -> None:
    assert score(fault, seed=1, device=CPU).right


def test_what_is_missed_counts_in_no_score() -> None:
    assert not {fault.name for fault in unseen()} & set(faults())


@pytest.mark.parametrize("terms", [1, 7, 8, 48, 50])
def test_groups_are_added_up_as_if_each_were_alone(terms: int) -> None:
    x = torch.randn(5, terms, 3, generator=torch.Generator().manual_seed(terms)).exp() - 1
    alone = [pairwise(group) for group in x.split(8, 1)]
    assert torch.equal(in_groups(8)(x), in_sequence(torch.stack(alone, 1)))


@pytest.mark.parametrize("sums", [2, 3, 16, 17])
@pytest.mark.parametrize("terms", [2, 9, 300])
def test_few_sums_are_added_in_the_order_of_many(sums: int, terms: int) -> None:
    """By NumPy, which adds otherwise along the last dimension."""
    few = torch.randn(1, terms, sums, generator=torch.Generator().manual_seed(0))
    few[0, :, -1] = -0.0
    many = in_sequence(few.repeat(1, 1, 5000))
    assert same_bits(in_sequence(few), many[:, :sums])


@pytest.mark.parametrize("add", [in_sequence, in_groups(8), in_parts(2)])
@pytest.mark.parametrize("operator", ["attention_decode", "attention_prefill"])
def test_the_planted_attention_is_attention(add: object, operator: str) -> None:
    known, universe = operators()[operator], 6
    tables, weights = (given(HEADS, universe, torch.float32, 3, CPU) for given in (known.rows, known.shared_inputs))
    company = make_batch(f"first:{universe}", universe)
    rows = known.gather(company, universe, HEADS, tables, weights)
    got = attention(add)(*known.arguments(rows, weights))  # type: ignore[arg-type]
    lines = torch.as_tensor(known.lines(company, universe, HEADS).ids)
    exact, allowed = known.reference_and_tolerance(known.inputs_of(lines, tables), weights, torch.float32)
    assert ((got.double() - exact[0]).abs() <= allowed[0]).all()
    assert exact[0].abs().max() > 0.1


def test_the_planted_exponential_is_one_and_the_same_at_every_place() -> None:
    x = -torch.rand(1001, generator=torch.Generator().manual_seed(0)) * 80
    together = exponential(x)
    assert torch.equal(together[500:], exponential(x[500:].clone()))
    assert torch.equal(together, torch.stack([exponential(one) for one in x]))
    assert ((together.double() / x.double().exp() - 1).abs() < 2e-5).all()
    assert exponential(torch.tensor([0.0, -torch.inf, torch.nan])).nan_to_num(-1).tolist() == [1, 0, -1]


def test_a_fault_of_one_kind_of_device_is_known_there_alone() -> None:
    assert "fallback_while_busy" in faults("cpu")
    assert "fallback_while_busy" not in faults("cuda")
    assert set(faults("cuda")) < set(faults("cpu"))
