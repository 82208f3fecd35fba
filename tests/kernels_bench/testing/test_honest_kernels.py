"""Honest kernels that look like faulty ones are not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels_bench import Operator, check
from kernels_bench.operators.definitions import floats, integers

WIDTH = 9
CONSTANT, TABLE = torch.tensor([3.0]), torch.arange(64 * WIDTH, dtype=torch.float32).view(64, WIDTH)


def operator(results: list[Any], dtype: str, **more: Any) -> Operator:
    rows = more.pop("rows", {"x": ("d",)})
    return Operator.define("honest", rows=rows, shapes={"s": {"d": WIDTH}}, results=results, dtypes=(dtype,), **more)


def state_and_its_last_part(x: Tensor) -> tuple[Tensor, Tensor]:
    states = torch.stack([x, x * 2], 1)
    return states, states[:, 1]


def with_the_scale_that_it_was_given(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return x * scale, scale.expand(len(x), 1)


def with_a_constant_of_its_own(x: Tensor) -> tuple[Tensor, Tensor]:
    return x * CONSTANT, CONSTANT.expand(len(x), 1)


def a_view_of_its_own_table_for_one_row(ids: Tensor) -> Tensor:
    return TABLE[int(ids[0]) :][:1] if len(ids) == 1 else TABLE[ids.long()]


def one_more(x: Tensor) -> Tensor:
    """Of NaN in 16 bits torch gives other bits in vectors than at their ends."""
    return x * 3 + 1


@pytest.mark.parametrize(
    ("kernel", "computed"),
    [
        (state_and_its_last_part, operator([(2, "d"), ("d",)], "fp32")),
        (with_the_scale_that_it_was_given, operator([("d",), (1,)], "fp32", shared={"scale": (1,)})),
        (with_a_constant_of_its_own, operator([("d",), (1,)], "fp32")),
        (
            a_view_of_its_own_table_for_one_row,
            operator([("d",)], "fp32", rows={"ids": integers(high=64, dtype="int32")}),
        ),
        (one_more, operator([floats("d")], "bf16")),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_honest_kernel_is_not_accused(kernel: Callable[..., Any], computed: Operator) -> None:
    found = check(kernel, computed, device="cpu", budget_s=0.5)
    assert found.held, found.summary()


def test_what_the_kernel_keeps_is_as_it_was() -> None:
    assert CONSTANT.item() == 3.0
    assert torch.equal(TABLE, torch.arange(64 * WIDTH, dtype=torch.float32).view(64, WIDTH))
