"""Running sums, and the logits that top-k and top-p leave, on the CPU."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows
from kernels_bench.arms.samebits.cpu import rows
from kernels_bench.arms.samebits.cpu.rows import chunks, each_row
from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.arms.samebits.top_k_top_p import cut


def cumsum(x: Tensor) -> Tensor:
    """Sums of the first elements of each row of (M, N), added one after the other in float64 -> (M, N).

    Raises ValueError for shapes that do not fit.
    """
    check_rows(x)
    sums = [each_row(partial(torch.cumsum, dim=0), chunk.float()) for chunk in chunks(x)]
    return rounded(torch.cat(sums), x.dtype)


def top_k_top_p(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """`top_k_top_p.cut` of `logits` (M, N), with `k` and `p` (M,)."""
    return cut(rows.softmax, cumsum, logits, k, p)
