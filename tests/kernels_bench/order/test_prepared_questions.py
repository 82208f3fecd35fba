"""Questions whose answers are foretold: they hold for one order alone, in every launch, column and row."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels_bench.operators import RowTensors, operators
from kernels_bench.order import Tree
from kernels_bench.order.batch_sweep import NOT_ASKED, OrderSweep, Task, read_orders
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.order.probing.launches import GROUPED, launched_in_turn
from kernels_bench.order.probing.prober import Prober
from kernels_bench.order.probing.triple_prober import TripleProber
from kernels_bench.order.trees.by_column import difference, uniform
from kernels_bench.order.trees.expected import AT_ONCE, usual_order
from kernels_bench.records.cases import Precision, Shape
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from support import BASELINES
from support.known_orders import (
    Nested,
    always,
    binary_nests,
    built,
    fused,
    known_orders,
    mean_kernel,
    mm_kernel,
    nests,
    softmax_kernel,
)

CPU = torch.device("cpu")
BASELINE = BASELINES / "h100-80gb-hbm3"
Launch = Callable[[RowTensors, tuple[torch.Tensor, ...]], RowTensors]
N = 40


def asker(operator: str, launch: Launch, k: int, m: int, dtype: str = "fp32") -> Prober:
    of = operators()[operator]
    shape = Shape(label="test", k=k, n=N if operator == "mm" else None)
    return (CancellationProber if of.signed else TripleProber)(
        of, shape, Precision.parse(dtype), launch, m=m, device=CPU
    )


def agrees(asks: Prober, order: Tree, seed: int = 0) -> bool:
    """Whether a kernel gives all that an order foretells."""
    return all(bool(asks.gives(posed)) for posed in asks.posed(uniform(order, asks.sums), seed))


def read(launch: Launch, k: int, guesses: tuple[Tree, ...] = (), operator: str = "mm") -> OrderSweep:
    return read_orders(lambda m: asker(operator, launch, k, m), Task([1, 3, 8], guesses=guesses))


def relabelled(nested: Nested, names: list[int]) -> Nested:
    return names[nested] if isinstance(nested, int) else [relabelled(part, names) for part in nested]


@settings(max_examples=60)
@given(nests(14), st.randoms(use_true_random=False), st.integers(0, 9), st.sampled_from(["mm", "mean"]))
def test_an_order_foretells_its_own_kernel_and_no_other(nested: Nested, draw: object, seed: int, operator: str) -> None:
    order = built(nested)
    names = list(range(order.terms))
    draw.shuffle(names)  # type: ignore[attr-defined]
    other = built(relabelled(nested, names))
    launch = (mm_kernel if operator == "mm" else mean_kernel)(always(order))
    asks = asker(operator, launch, order.terms, m=3)
    assert agrees(asks, order, seed)
    assert agrees(asks, other, seed) == (other == order)


@settings(max_examples=25)
@given(binary_nests(), st.randoms(use_true_random=False), st.integers(1, 9))
def test_likewise_where_all_terms_are_positive(nested: Nested, draw: object, m: int) -> None:
    order = built(nested)
    names = list(range(order.terms))
    draw.shuffle(names)  # type: ignore[attr-defined]
    other = built(relabelled(nested, names))
    asks = asker("softmax", softmax_kernel(always(order)), order.terms, m)
    assert agrees(asks, order)
    assert agrees(asks, other) == (other == order)


@given(st.data())
@settings(max_examples=40)
def test_one_column_of_one_row_that_adds_otherwise_is_seen(data: st.DataObject) -> None:
    orders = [built(known_orders(48)[name]) for name in ("groups of 16", "strided 4")]
    row, column = data.draw(st.integers(0, 2)), data.draw(st.integers(0, N - 1))

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        (result,) = mm_kernel(always(orders[0]))(rows, weights)
        (odd,) = mm_kernel(always(orders[1]))(rows, weights)
        result[row, column] = odd[row, column]
        return (result,)

    assert not agrees(asker("mm", launch, 48, m=3), orders[0])


def test_a_right_guess_spares_the_reading_and_a_wrong_one_changes_nothing() -> None:
    orders = {name: built(nested) for name, nested in known_orders(48).items()}
    launch = mm_kernel(always(orders["pairwise"]))
    unaided, guessed = read(launch, 48), read(launch, 48, (orders["pairwise"],))
    misled = read(launch, 48, (orders["reversed"], orders["groups of 16"]))
    for found in (guessed, misled):
        assert found.trees == unaided.trees == dict.fromkeys((1, 3, 8), orders["pairwise"])
        assert found.refused == {}
    assert guessed.launches < unaided.launches < misled.launches


@given(st.integers(1, 200), st.sampled_from(sorted({*AT_ONCE.values(), 4})))
def test_usual_orders_are_running_sums_of_groups(terms: int, at_once: int) -> None:
    assert usual_order(terms, at_once) == built(fused(range(terms), at_once))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("k", [128, 1015, 3584, 4096])
def test_usual_orders_were_found_on_an_h100(precision: str, k: int) -> None:
    found = {
        one.digest
        for record in read_records(BASELINE)
        if isinstance(record, Verification) and record.order is not None
        if (record.case.arm, record.case.precision.input, record.case.shape.k) == ("samebits", precision, k)
        for one in record.order.found
    }
    assert usual_order(k, AT_ONCE[precision]).digest in found


def test_a_guess_that_holds_at_some_m_alone_is_no_proof_for_the_others() -> None:
    first, second = (built(known_orders(48)[name]) for name in ("pairwise", "sequential"))
    found = read(mm_kernel(lambda m, row: first if m > 2 else second), 48, (second, first))
    assert found.trees == {8: first, 3: first, 1: second}
    assert next(iter(found.layouts)) == 1
    assert found.mismatch is not None
    assert found.mismatch[0] == 3
    assert "meet in a sum of" in found.mismatch[1]


def test_a_kernel_that_answers_otherwise_once_is_not_proven() -> None:
    usual, odd = (built(known_orders(48)[name]) for name in ("pairwise", "sequential"))
    calls = 0

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        nonlocal calls
        calls += len(rows[0]) == 3
        return mm_kernel(always(odd if len(rows[0]) == 3 and calls == 2 else usual))(rows, weights)

    found = read(launch, 48)
    assert set(found.trees) == {1, 8}
    assert found.refused == {3: "it adds in this order in some launches or columns, and in others not"}


@pytest.mark.parametrize("operator", ["mm", "mean", "softmax"])
def test_many_small_pieces_and_few_columns_say_the_same(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = built(known_orders(48)["pairwise"])
    kernel = {"mm": mm_kernel, "mean": mean_kernel, "softmax": softmax_kernel}[operator](always(order))
    whole = read(kernel, 48, operator=operator)
    monkeypatch.setattr("kernels_bench.order.probing.prepared_questions.PIECE_BYTES", 1000)
    monkeypatch.setattr("kernels_bench.order.probing.prober.MOST_COLUMNS", 16)
    parts = read(kernel, 48, operator=operator)
    assert parts.trees == whole.trees == dict.fromkeys((1, 3, 8), order)


def test_kernels_that_reuse_their_result_or_write_into_their_rows_are_read() -> None:
    order = built(known_orders(48)["pairwise"])
    buffers: dict[int, torch.Tensor] = {}

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        (result,) = mean_kernel(always(order))(rows, weights)
        rows[0].fill_(7)
        return (buffers.setdefault(len(result), result.clone()).copy_(result),)

    assert read(launch, 48, operator="mean").trees == dict.fromkeys((1, 3, 8), order)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("operator", ["mm", "mean", "softmax"])
def test_sums_of_few_terms(operator: str, k: int) -> None:
    order = built(known_orders(k)["sequential"])
    kernel = {"mm": mm_kernel, "mean": mean_kernel, "softmax": softmax_kernel}[operator](always(order))
    assert read(kernel, k, operator=operator).trees == dict.fromkeys((1, 3, 8), order)


def test_what_is_drawn_asks_every_question() -> None:
    asks = asker("mm", mm_kernel(always(built(known_orders(48)["pairwise"]))), 48, m=1)
    for posed in asks.posed(uniform(built(known_orders(48)["pairwise"]), N), 0):
        chosen = posed.drawn(7, np.random.default_rng(3))
        assert chosen.shape[1] == 7
        assert set(chosen.flatten().tolist()) == set(range(len(posed)))


def test_no_order_is_read_once_two_differ_and_no_more_are_wanted() -> None:
    first, second = (built(known_orders(48)[name]) for name in ("pairwise", "sequential"))
    launch = mm_kernel(lambda m, row: first if m == 3 else second)
    found = read_orders(lambda m: asker("mm", launch, 48, m), Task([1, 3, 8, 9, 16], every=False))
    assert found.trees == {1: second, 3: first, 8: second, 9: second, 16: second}
    orders = {3: first, 8: built(known_orders(48)["reversed"])}
    launch = mm_kernel(lambda m, row: orders.get(m, second))
    found = read_orders(lambda m: asker("mm", launch, 48, m), Task([1, 3, 8, 9], every=False))
    assert found.trees == {1: second, 3: first, 9: second}
    assert found.refused == {8: NOT_ASKED}
    assert found.mismatch is not None


def test_launches_in_turn_are_as_many_launches() -> None:
    sizes = []

    def launch(rows: RowTensors) -> RowTensors:
        sizes.append(len(rows[0]))
        return (rows[0].add_(1),)

    rows = torch.arange(24.0).view(12, 2)
    (result,) = launched_in_turn(launch, (rows,), 3, lambda: None)
    assert sizes == [3, 3, 3, 3]
    assert torch.equal(result, torch.arange(24.0).view(12, 2) + 1)
    assert torch.equal(rows, torch.arange(24.0).view(12, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("m", [1, 3])
def test_launches_replayed_from_a_graph_give_what_launches_give(m: int) -> None:
    rows = torch.randn(m * 301, 1000, device="cuda")
    calls = 0

    def launch(given: RowTensors) -> RowTensors:
        nonlocal calls
        calls += 1
        return (torch.softmax(given[0], -1), given[0].sum(-1))

    found = launched_in_turn(launch, (rows,), m, lambda: None)
    assert calls == GROUPED + 1
    for begin in range(0, len(rows), m):
        for got, expected in zip(found, launch((rows[begin : begin + m].clone(),)), strict=True):
            assert torch.equal(got[begin : begin + m], expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_what_no_graph_holds_is_launched_one_by_one() -> None:
    rows = torch.randn(301, 100, device="cuda")

    def launch(given: RowTensors) -> RowTensors:
        return (given[0] * float(given[0].sum()),)  # which waits for the device

    (found,) = launched_in_turn(launch, (rows,), 1, lambda: None)
    assert torch.equal(found, torch.cat([launch((row[None],))[0] for row in rows]))


@settings(max_examples=150)
@given(nests(12), st.randoms(use_true_random=False))
def test_two_orders_are_told_apart_by_two_terms(nested: Nested, draw: object) -> None:
    order = built(nested)
    names = list(range(order.terms))
    draw.shuffle(names)  # type: ignore[attr-defined]
    other = built(relabelled(nested, names))
    assume(other != order)
    words = difference(uniform(order, 4), uniform(other, 9))
    first, second, *sizes = (int(number) for number in re.findall(r"\d+", words))
    below = [tree.below(np.eye(tree.terms, dtype=np.int64)) for tree in (order, other)]
    meet = [tree.meeting(np.array([first]), np.array([second]))[0] for tree in (order, other)]
    assert (below[0][meet[0]] != below[1][meet[1]]).any()
    assert sizes == [tree.sizes[node] for tree, node in zip((other, order), meet[::-1], strict=True)][: len(sizes)]
