"""Orders read off a kernel's results over the batch, and never claimed where the data contradict them."""

from __future__ import annotations

import re
import time
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.arms import Unsupported
from kernels_bench.faults.planted.sums import in_sequence, products
from kernels_bench.operators import operators
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.order.trees.description import sentence
from kernels_bench.records.cases import Precision, Shape
from support.known_orders import (
    Nested,
    always,
    built,
    fused,
    known_orders,
    mean_kernel,
    mm_kernel,
    nests,
    one_after_the_other,
    split,
)
from support.read_orders import read

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("terms", "dtype"),
    [
        *((terms, dtype) for terms in (1, 2, 3, 17) for dtype in ("fp32", "bf16", "fp16")),
        (64, "fp16"),
        *(pytest.param(64, dtype, marks=pytest.mark.long) for dtype in ("fp32", "bf16")),
        (100, "bf16"),
    ],
)
def test_known_orders_are_read_off_a_kernels_results(terms: int, dtype: str) -> None:
    for name, nested in known_orders(terms).items():
        order = built(nested)
        found = read(mm_kernel(always(order)), "mm", terms, dtype)
        assert found.refused == {}, name
        assert set(found.trees.values()) == {order}, name
        assert found.mismatch is None


@settings(max_examples=50)
@given(nests(40), st.sampled_from(["fp32", "bf16"]))
def test_any_order_is_read_off_a_kernels_results(nested: Nested, dtype: str) -> None:
    order = built(nested)
    found = read(mm_kernel(always(order)), "mm", order.terms, dtype)
    assert (set(found.trees.values()), found.refused) == ({order}, {})


@settings(max_examples=20)
@given(nests(24))
def test_any_order_is_read_off_a_row_kernels_results(nested: Nested) -> None:
    order = built(nested)
    found = read(mean_kernel(always(order)), "mean", order.terms)
    assert (set(found.trees.values()), found.refused) == ({order}, {})


def test_a_split_that_depends_on_the_batch_is_seen_and_told() -> None:
    whole = built(fused(range(64), 16))
    in_four = built(split(64, 4, lambda part: fused(part, 16), one_after_the_other))
    found = read(mm_kernel(lambda m, row: in_four if m < 3 else whole), "mm", 64)
    assert found.trees == {1: in_four, 3: whole, 8: whole}
    assert found.mismatch is not None
    assert found.mismatch[0] == 3
    assert sentence(in_four) == "4 parts of 16 terms, added one after the other: each 16 terms at once"
    assert sentence(whole) == "4 groups of 16 terms, each at once, one after the other"


def test_two_rows_of_one_launch_with_different_orders_are_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]
    found = read(mm_kernel(lambda m, row: orders[row == 7]), "mm", 32)
    assert found.trees.keys() == {1, 3}
    assert re.search("row 7 adds in another order than row 0", found.uneven[8])
    assert found.refused == {}


def test_a_dropped_tail_is_no_proof() -> None:
    order = built(fused(range(48), 16))

    def drops(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        kept = weights[0].clone()
        kept[-5:] = 0
        return mm_kernel(always(order))(rows, (kept,))

    found = read(drops, "mm", 48)
    assert found.trees == {}
    assert len(found.refused) == 3


def test_an_order_that_depends_on_the_data_is_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        negative = bool((weights[0] == -1).any())  # as no question is, and every check
        return mm_kernel(always(orders[negative]))(rows, weights)

    found = read(launch, "mm", 32)
    assert found.trees == {}
    assert all("its order depends on its data" in reason for reason in found.refused.values())


def test_a_kernel_that_is_not_repeatable_is_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        return mm_kernel(always(orders[calls % 2]))(rows, weights)

    found = read(launch, "mm", 32)
    assert found.trees == {}
    assert len(found.refused) == 3


def test_sums_that_are_not_swamped_are_no_proof() -> None:
    """An accumulator that holds both the huge terms and the units, as no binary format has."""

    def exact(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        columns = weights[0].double()
        huge = columns.abs() > 2**50
        return ((rows[0].double() @ columns.masked_fill(huge, 0)).float(),)

    found = read(exact, "mm", 32)
    assert found.trees == {}
    assert all("lost" in reason or "meets" in reason for reason in found.refused.values())


def test_a_result_rounded_in_between_is_no_proof() -> None:
    """Parts joined in bf16 lose units that no huge term took: it has no odd numbers above 256."""

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        halves = products(rows[0], weights[0]).tensor_split(2, 1)
        return ((in_sequence(halves[0]).bfloat16() + in_sequence(halves[1]).bfloat16()).float(),)

    found = read(launch, "mm", 601)
    assert found.trees == {}


def test_what_cannot_be_read_is_unsupported() -> None:
    shape = Shape(label="test", k=64)
    with pytest.raises(Unsupported, match="attention_decode"):
        CancellationProber(
            operators()["attention_decode"],
            shape,
            Precision.parse("fp32"),
            mean_kernel(always(built(0))),
            m=1,
            device=CPU,
        )
    long = Shape(label="test", k=1 << 16, n=8)
    with pytest.raises(Unsupported, match="fp16 has no numbers"):
        CancellationProber(
            operators()["mm"], long, Precision.parse("fp16"), mean_kernel(always(built(0))), m=1, device=CPU
        )


@pytest.mark.parametrize("operator", ["mm", "linear", "linear_bias", "addmm", "bmm", "bmm_heads"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_cpu_arm_is_proven_over_the_batch(operator: str, dtype: str) -> None:
    from kernels_bench.arms import arms

    kernel = arms()["samebits"].kernels()[operator]
    chosen = operators()[operator]
    shape = Shape(label="test", k=33, n=16, b=2 if operator == "bmm_heads" else None)

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return chosen.split_result(kernel(*chosen.arguments(rows, weights)))

    found = read_orders(
        lambda m: CancellationProber(chosen, shape, Precision.parse(dtype), launch, m=m, device=CPU),
        Task([1, 2, 3, 5, 9, 17]),
    )
    assert found.refused == found.uneven == {}
    # Columns may have orders of their own, as the library gives its last tile, but the same ones at every M.
    assert len(found.distinct) == 1
    assert found.layouts.keys() == {1, 2, 3, 5, 9, 17}


def test_what_cannot_be_done_in_time_is_not_begun() -> None:
    shape, precision = Shape(label="test", k=4096), Precision.parse("fp32")
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        return (rows[0].mean(1),)

    found = read_orders(
        lambda m: CancellationProber(operators()["mean"], shape, precision, launch, m=m, device=CPU),
        Task([1, 2], budget_s=0.1),
    )
    assert calls == 0
    assert found.refused.keys() == {1, 2}
    assert "it takes 6143 launches at least" in found.refused[1]


def test_what_takes_too_long_a_launch_is_not_begun_on_a_cpu() -> None:
    shape, precision = Shape(label="test", k=512), Precision.parse("fp32")
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        time.sleep(0.005)
        return (rows[0].mean(1),)

    found = read_orders(
        lambda m: CancellationProber(operators()["mean"], shape, precision, launch, m=m, device=CPU),
        Task([1, 2], budget_s=1.0),
    )
    assert calls == 16
    assert "it takes 767 launches at least" in found.refused[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_what_takes_too_long_a_launch_is_not_begun_on_a_gpu_either() -> None:
    shape, precision = Shape(label="test", k=1 << 14), Precision.parse("fp32")

    def swept(cycles: int) -> OrderSweep:
        def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            torch.cuda._sleep(cycles)
            return (rows[0].mean(1),)

        cuda = torch.device("cuda")
        asking = partial(CancellationProber, operators()["mean"], shape, precision, launch, device=cuda)
        return read_orders(lambda m: asking(m=m), Task([1, 2], budget_s=0.9))

    assert "launches at least" in swept(1_000_000).refused[1]
    assert "launches at least" not in swept(1).refused.get(1, "")
