"""Row operators whose launch shape or formula the batch decides on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.sums import Sum, by_rows, in_groups, in_parts, in_sequence, pairwise


def rms_norm(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes an ``rms_norm`` whose squares are added in an order."""

    def kernel(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        mean = add(wide * wide)[:, None] / x.shape[1]
        return (wide * _each(torch.rsqrt, mean + eps) * weight.float()).to(x.dtype)

    return lambda: kernel


@cache
def mean(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``mean`` that adds in an order."""
    return lambda: lambda x: (add(x.float()) / x.shape[1]).to(x.dtype)


def _each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function row by row, each in memory of its own: no standard says how it rounds in a vector of several."""
    return torch.stack([function(row.clone()) for row in x])


def _own(x: Tensor) -> Tensor:
    return x.amax(1, keepdim=True)


def softmax(add: Sum, highest: Callable[[Tensor], Tensor] = _own) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``softmax`` that adds in an order and subtracts a maximum, each row's own unless another is given."""

    def kernel(x: Tensor) -> Tensor:
        powers = _each(torch.exp, x.float() - highest(x.float()))
        return (powers / add(powers)[:, None]).to(x.dtype)

    return lambda: kernel


def log_softmax(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``log_softmax`` that adds in an order."""

    def kernel(x: Tensor) -> Tensor:
        shifted = x.float() - _own(x.float())
        return (shifted - _each(torch.log, add(_each(torch.exp, shifted))[:, None])).to(x.dtype)

    return lambda: kernel


def _batchs(x: Tensor) -> Tensor:
    return x.amax()


FAULTS = (
    Fault(
        name="persistent_reduction",
        cause="a persistent reduction for few rows, a loop for many (Inductor's norms)",
        operator="rms_norm",
        shape=ROW,
        make=rms_norm(by_rows(pairwise, in_groups(8), 16)),
        control=rms_norm(pairwise),
    ),
    Fault(
        name="mean_by_rows",
        cause="a row is shared by more threads where there are few rows",
        operator="mean",
        shape=ROW,
        make=mean(by_rows(in_parts(6), in_parts(2), 9)),
        control=mean(in_parts(6)),
    ),
    Fault(
        name="batch_maximum",
        cause="softmax subtracts the batch's maximum instead of the row's",
        operator="softmax",
        shape=ROW,
        make=softmax(in_sequence, _batchs),
        control=softmax(in_sequence),
    ),
    Fault(
        name="softmax_two_kernels",
        cause="a second softmax kernel from 32 rows on",
        operator="softmax",
        shape=ROW,
        make=softmax(by_rows(in_sequence, pairwise, 32)),
        control=softmax(pairwise),
    ),
    Fault(
        name="log_softmax_by_rows",
        cause="log_softmax in blocks for fewer than 64 rows",
        operator="log_softmax",
        shape=ROW,
        make=log_softmax(by_rows(in_groups(16), in_sequence, 64)),
        control=log_softmax(in_groups(16)),
    ),
)
