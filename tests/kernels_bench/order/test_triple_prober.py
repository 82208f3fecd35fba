"""Orders of positive terms, where nothing cancels: triples, and the row operators that they are asked of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels_bench.arms import Unsupported, arms
from kernels_bench.operators import operators
from kernels_bench.order import Inconsistent, Tree
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.probing.triple_prober import TripleProber
from kernels_bench.order.reconstruct.triples import confirm_triples, meets_first, reveal_triples, triples_certificate
from kernels_bench.order.trees.tree import Ints
from kernels_bench.records.cases import Precision, Shape
from support.known_orders import (
    Nested,
    binary_nests,
    built,
    known_orders,
    one_after_the_other,
    pairwise,
    softmax_kernel,
)

CPU = torch.device("cpu")
ROWS = ("softmax", "log_softmax", "rms_norm", "fused_add_rms_norm")


def oracle(order: Tree) -> Callable[[Ints, Ints, Ints], NDArray[np.bool_]]:
    return lambda first, second, third: meets_first(order, first, second, third)


def read(launch: Callable[..., tuple[torch.Tensor, ...]], operator: str, k: int, dtype: str = "fp32") -> OrderSweep:
    def asking(m: int) -> TripleProber:
        shape = Shape(label="test", k=k)
        return TripleProber(operators()[operator], shape, Precision.parse(dtype), launch, m=m, device=CPU)

    return read_orders(asking, Task([1, 3, 9]))


@settings(max_examples=150)
@given(binary_nests(), st.integers(0, 5))
def test_any_binary_tree_is_read_out(nested: Nested, seed: int) -> None:
    order = built(nested)
    assert reveal_triples(order.terms, oracle(order), seed) == order


@given(binary_nests(9))
def test_what_a_tree_answers_is_what_its_parts_say(nested: Nested) -> None:
    order = built(nested)
    held = [set(np.flatnonzero(below)) for below in order.below(np.eye(order.terms, dtype=np.int64)).astype(bool)]
    for i in range(order.terms):
        for j in range(order.terms):
            for k in range(order.terms):
                if len({i, j, k}) == 3:
                    together = any({j, k} <= terms and i not in terms for terms in held)
                    assert bool(oracle(order)(np.array([i]), np.array([j]), np.array([k]))[0]) == together


@settings(max_examples=150)
@given(binary_nests(8), binary_nests(8))
def test_no_other_tree_has_all_triples_of_a_certificate(one: Nested, other: Nested) -> None:
    known, asked = built(one), built(other)
    if known.terms == asked.terms:
        assert len(triples_certificate(known)[0]) == max(0, known.terms - 2)
        assert (confirm_triples(known, oracle(asked)) is None) == (known == asked)


def test_several_terms_added_at_once_are_refused() -> None:
    order = built([[0, 1, 2, 3], 4])

    def ask(first: Ints, second: Ints, third: Ints) -> NDArray[np.bool_]:
        at_once = order.meeting(second, third) == order.meeting(first, second)
        four = order.sizes[order.meeting(first, second)] == 4
        met: NDArray[np.bool_] = meets_first(order, first, second, third) | (at_once & four)
        return met

    with pytest.raises(Inconsistent, match=r"at once|do not meet"):
        reveal_triples(5, ask)
    with pytest.raises(ValueError, match="additions of two"):
        triples_certificate(order)


@settings(max_examples=20)
@given(binary_nests(24))
def test_any_order_is_read_off_a_softmax(nested: Nested) -> None:
    order = built(nested)
    found = read(softmax_kernel(lambda m, row: order), "softmax", order.terms)
    assert found.refused == {}
    assert set(found.trees.values()) == {order}


def test_an_order_that_depends_on_the_batch_is_seen() -> None:
    orders = [built(one_after_the_other(range(20))), built(pairwise(list(range(20))))]
    found = read(softmax_kernel(lambda m, row: orders[m > 3]), "softmax", 20)
    assert found.trees == {1: orders[0], 3: orders[0], 9: orders[1]}
    assert found.mismatch is not None


def test_a_kernel_that_is_not_repeatable_is_no_proof() -> None:
    orders = [built(known_orders(20)[name]) for name in ("sequential", "pairwise")]
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        return softmax_kernel(lambda m, row: orders[calls % 2])(rows, weights)

    found = read(launch, "softmax", 20)
    assert found.trees == {}
    assert len(found.refused) == 3


@pytest.mark.parametrize("operator", ROWS)
@pytest.mark.parametrize("k", [1, 2, 33, 64, 100])
def test_the_cpu_arm_is_proven_over_the_batch(operator: str, k: int) -> None:
    kernel, chosen = arms()["samebits"].kernels()[operator], operators()[operator]

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return chosen.split_result(kernel(*chosen.probe_arguments(rows, weights)))

    found = read(launch, operator, k)
    assert found.refused == {}
    assert found.trees.keys() == {1, 3, 9}
    assert len(set(found.trees.values())) == 1


def test_a_result_that_does_not_show_it_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="bf16 does not show the order of softmax"):
        read(softmax_kernel(lambda m, row: built(0)), "softmax", 8, "bf16")
