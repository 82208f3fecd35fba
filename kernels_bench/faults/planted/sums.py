"""Sums in a stated order, made of element-wise additions, which round alike on every device and in every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Sum = Callable[[Tensor], Tensor]
"""(M, K, …) to (M, …): adds over dimension 1 in fp32, in an order of its own."""


def products(a: Tensor, b: Tensor) -> Tensor:
    """The terms of ``a @ b``: (M, K) and (K, N) to (M, K, N) in fp32; of 16-bit inputs they are exact."""
    return a.float()[:, :, None] * b.float()[None]


def in_sequence(terms: Tensor) -> Tensor:
    """One after the other."""
    first, *others = terms.unbind(1)
    total = first.clone()
    for term in others:
        total.add_(term)
    return total


def backwards(terms: Tensor) -> Tensor:
    """One after the other, the last first."""
    return in_sequence(terms.flip(1))


def pairwise(terms: Tensor) -> Tensor:
    """Neighbours, then neighbours of those, and so on."""
    while terms.shape[1] > 1:
        even = terms.shape[1] // 2 * 2
        terms = torch.cat([terms[:, 0:even:2] + terms[:, 1:even:2], terms[:, even:]], 1)
    return terms[:, 0]


def in_groups(width: int, within: Sum = pairwise) -> Sum:
    """Groups of neighbours, each added up first, then one group after the other."""

    def add(terms: Tensor) -> Tensor:
        return in_sequence(torch.stack([within(group) for group in terms.split(width, 1)], 1))

    return add


def in_parts(parts: int, order: Sequence[int] | None = None) -> Sum:
    """Split-K: so many parts, each in sequence, joined in sequence, in the given order of parts."""

    def add(terms: Tensor) -> Tensor:
        sums = [in_sequence(part) for part in terms.tensor_split(parts, 1)]
        return in_sequence(torch.stack([sums[part] for part in order or range(parts)], 1))

    return add


def by_rows(few: Sum, many: Sum, threshold: int) -> Sum:
    """One order for batches of fewer rows than a threshold, another from there on."""
    return lambda terms: few(terms) if len(terms) < threshold else many(terms)


def matmul(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes an ``mm`` that adds in an order."""

    def mm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
        return add(products(a, b)).to(out_dtype or a.dtype)

    return lambda: mm
