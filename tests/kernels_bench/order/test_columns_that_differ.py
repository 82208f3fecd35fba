"""Columns that add in orders of their own, so alike that questions drawn at random meet the difference late."""

import pytest
import torch
from torch import Tensor

from kernels_bench.faults.planted.sums import in_sequence, products
from kernels_bench.operators import operators
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision, Shape

SHAPE = Shape(label="test", n=24, k=96)


def swapped_in_the_last(a: Tensor, b: Tensor) -> Tensor:
    """One term after the other; of the last three columns the last two terms come together first."""
    terms = products(a, b)
    sums = in_sequence(terms)
    late = in_sequence(terms[:, :-2]) + (terms[:, -2] + terms[:, -1])
    return torch.cat([sums[:, :-3], late[:, -3:]], 1)


@pytest.mark.parametrize("seed", range(4))
def test_they_are_told_apart_and_a_kernel_that_repeats_is_never_said_not_to(seed: int) -> None:
    case = Case(arm="test", operator="mm", shape=SHAPE, precision=Precision.parse("fp32"))
    task = Task(sizes=(1, 5), seed=seed)
    order, _ = order_of(case, operators()["mm"], swapped_in_the_last, task, torch.device("cpu"))
    assert "not repeatable" not in order.reason
    assert order.status == "proven", order.reason


def test_a_kernel_that_does_not_repeat_is_said_not_to() -> None:
    calls = iter(range(1_000_000))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        terms = products(a, b)
        return in_sequence(terms if next(calls) % 2 else terms.flip(1))

    case = Case(arm="test", operator="mm", shape=SHAPE, precision=Precision.parse("fp32"))
    order, _ = order_of(case, operators()["mm"], kernel, Task(sizes=(1,)), torch.device("cpu"))
    assert order.status in ("unknown", "variant")


def eight_in_a_row_in_the_last(a: Tensor, b: Tensor) -> Tensor:
    """Of eight terms the last two come together first, but for the last three of 259 columns."""
    terms = products(a, b)
    paired = in_sequence(terms[:, :-2]) + (terms[:, -2] + terms[:, -1])
    return torch.cat([paired[:, :-3], in_sequence(terms)[:, -3:]], 1)


@pytest.mark.parametrize("seed", range(12))
def test_few_columns_of_many_with_an_order_of_their_own_are_met_at_every_m(seed: int) -> None:
    shape = Shape(label="test", n=259, k=8)
    case = Case(arm="test", operator="mm", shape=shape, precision=Precision.parse("fp32"))
    task = Task(sizes=(1, 2, 4, 5, 16), seed=seed)
    order, _ = order_of(case, operators()["mm"], eight_in_a_row_in_the_last, task, torch.device("cpu"))
    assert (order.status, len(order.found)) == ("proven", 1), (order.found, order.witness)
    assert "columns 256 to 258" in order.found[0].words
