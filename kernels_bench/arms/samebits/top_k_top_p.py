"""The samebits cut of top-k and top-p, made of a device's softmax and cumulative sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows


def cut(
    softmax: Callable[[Tensor], Tensor], cumsum: Callable[[Tensor], Tensor], logits: Tensor, k: Tensor, p: Tensor
) -> Tensor:
    """-inf in the place of `logits` (M, N) below the k-th largest, and of those that p leaves out -> (M, N).

    Of each row's `k` (M,) largest as many are kept, from the largest on, as are needed for a share of `p` (M,) in their
    softmax. Raises ValueError for shapes that do not fit.
    """
    check_rows(logits)
    largest, order = logits.sort(dim=1, descending=True, stable=True)
    edge = largest.gather(1, k.long().clamp(max=logits.shape[1])[:, None] - 1)
    largest = largest.masked_fill(largest < edge, -torch.inf)
    before = cumsum(softmax(largest)).roll(1, 1)
    before[:, 0] = 0  # so that the largest always stays
    left_out = (before >= p[:, None]) & (p[:, None] < 1)  # a sum of shares may be rounded to 1 before all are in it
    return torch.empty_like(logits).scatter_(1, order, largest.masked_fill(left_out, -torch.inf))
