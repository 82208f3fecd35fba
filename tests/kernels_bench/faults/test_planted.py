"""The kernels that faults are planted in do what they say, and what shows a fault is what it is named after."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

from kernels_bench.faults import Fault, faults, planted, score
from kernels_bench.faults.base import HEADS
from kernels_bench.faults.planted.paged_attention import attention, exponential
from kernels_bench.faults.planted.sums import in_groups, in_parts, in_sequence
from kernels_bench.operators import operators
from kernels_bench.relations import make_batch

CPU = torch.device("cpu")

SHOWN_BY = {
    "alone_by_content": "batch_size", "two_alike": "batch_size", "longest_alone_split": "batch_size",
    "m_window": "batch_size", "tuned_table": "batch_size",
    "subnormals_flushed": "special_values", "negative_zero": "special_values", "nan_payload": "special_values",
    "masked_block": "special_values", "first_call": "history", "packed_weights": "history",
    "rows_that_are_a_view": "layout", "rows_at_an_odd_address": "layout", "workspace_of_two_calls": "concurrency",
    "cascade_of_different_sequences": "shared_pages", "many_rows": "large_batch", "one_call_of_700": "repeat",
    "element_in_a_million": "repeat", "rotary_scaled_by_the_longest": "batch_size", "ties_of_experts": "special_values",
    "expert_of_all_but_one": "neighbour_routing", "adapter_of_all": "position",
    "next_adapters_rows": "neighbour_content", "previous_adapters_rows": "neighbour_content",
}  # fmt: skip
"""Of every kind some, and the relation that is there to show them."""


def unseen() -> Iterator[Fault]:
    for file in iter_modules(planted.__path__, planted.__name__ + "."):
        yield from getattr(import_module(file.name), "UNSEEN", ())


@pytest.mark.parametrize("name", SHOWN_BY)
def test_a_fault_is_shown_by_the_relation_that_is_there_for_it(name: str) -> None:
    found = score(faults()[name], seed=4, device=CPU)
    assert (found.verdict, found.flagged_by) == ("variant", SHOWN_BY[name])
    assert found.right
    assert found.companies > 0


@pytest.mark.parametrize("fault", list(unseen()), ids=lambda fault: fault.name)
@pytest.mark.xfail(strict=True, reason="known to be missed")
def test_what_is_seen_belongs_to_the_faults(fault: Fault) -> None:
    assert score(fault, seed=1, device=CPU).right


def test_what_is_missed_counts_in_no_score() -> None:
    assert not {fault.name for fault in unseen()} & set(faults())


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
