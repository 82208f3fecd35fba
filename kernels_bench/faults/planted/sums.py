"""Sums in a stated order, made of element-wise additions, which round alike on every device and in every batch.

The same order is the same function, however often it is asked for: faults planted in one kernel have one control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault

Sum = Callable[[Tensor], Tensor]
"""(M, K, …) to (M, …): adds over dimension 1 in fp32, in an order of its own."""

_NOTHING = np.float32(-0.0)
_FEW = 4096
"""Sums at once, up to which torch takes longer to be called than to add."""


def on_host(*tensors: Tensor) -> Iterator[NDArray[np.float32]]:
    """What is computed token by token is, in NumPy: torch takes five times as long to be called for as little."""
    return (tensor.detach().cpu().numpy() for tensor in tensors)


def products(a: Tensor, b: Tensor) -> Tensor:
    """The terms of ``a @ b``: (M, K) and (K, N) to (M, K, N) in fp32; of 16-bit inputs they are exact."""
    return a.float()[:, :, None] * b.float()[None]


def in_sequence(terms: Tensor) -> Tensor:
    """One after the other."""
    length = terms.shape[1]
    if terms.device.type == "cpu" and terms.dtype == torch.float32 and length < terms.numel() < _FEW * length:
        return _few_in_sequence(terms)
    first, *others = terms.unbind(1)
    total = first.clone()
    for term in others:
        total.add_(term)
    return total


@np.errstate(all="ignore")
def _few_in_sequence(terms: Tensor) -> Tensor:
    """The same of a few rows, for which one call of NumPy takes a tenth of the time of as many additions in torch.

    Along the first dimension it adds one row after the other to all sums at once; to -0.0, which changes nothing.
    """
    first = np.ascontiguousarray(terms.detach().numpy().swapaxes(0, 1))
    sums = np.add.reduce(first.reshape(first.shape[0], -1), axis=0, initial=_NOTHING)
    return torch.from_numpy(sums.reshape(first.shape[1:]))


def backwards(terms: Tensor) -> Tensor:
    """One after the other, the last first."""
    return in_sequence(terms.flip(1))


def pairwise(terms: Tensor) -> Tensor:
    """Neighbours, then neighbours of those, and so on."""
    while terms.shape[1] > 1:
        even = terms.shape[1] // 2 * 2
        sums = terms[:, 0:even:2] + terms[:, 1:even:2]
        terms = torch.cat([sums, terms[:, even:]], 1) if even < terms.shape[1] else sums
    return terms[:, 0]


def _of_neighbours(terms: Tensor, width: int, within: Sum) -> Tensor:
    """Sums of so many neighbours each, (M, K / width, …): all at once, each as if alone."""
    groups = terms.unflatten(1, (-1, width))
    sums: Tensor = within(groups.flatten(0, 1)).unflatten(0, groups.shape[:2])
    return sums


@cache
def in_groups(width: int, within: Sum = pairwise) -> Sum:
    """Groups of neighbours, each added up first, then one group after the other."""

    def add(terms: Tensor) -> Tensor:
        whole = terms.shape[1] // width * width
        sums = _of_neighbours(terms[:, :whole], width, within)
        rest = [within(terms[:, whole:])[:, None]] if whole < terms.shape[1] else []
        return in_sequence(torch.cat([sums, *rest], 1))

    return add


@cache
def in_parts(parts: int, order: tuple[int, ...] | None = None) -> Sum:
    """Split-K: so many parts, each in sequence, joined in sequence, in the given order of parts."""

    def add(terms: Tensor) -> Tensor:
        length, longer = divmod(terms.shape[1], parts)  # so many of them have one term more
        first, rest = terms.tensor_split([longer * (length + 1)], 1)
        sums = _of_neighbours(rest, length, in_sequence)
        if longer:
            sums = torch.cat([_of_neighbours(first, length + 1, in_sequence), sums], 1)
        return in_sequence(sums if order is None else sums[:, order])

    return add


def by_rows(few: Sum, many: Sum, threshold: int) -> Sum:
    """One order for batches of fewer rows than a threshold, another from there on."""
    return lambda terms: few(terms) if len(terms) < threshold else many(terms)


@cache
def matmul(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes an ``mm`` that adds in an order."""

    def mm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
        return add(products(a, b)).to(out_dtype or a.dtype)

    return lambda: mm


def product_fault(
    name: str, cause: str, make: Callable[[], Kernel], control: Callable[[], Kernel] | None = None
) -> Fault:
    """A fault of ``mm``, whose control adds in sequence unless another is given."""
    return Fault(name=name, cause=cause, operator="mm", make=make, control=control or matmul(in_sequence))
