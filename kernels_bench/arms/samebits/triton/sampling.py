"""The samebits arm in Triton: cumulative sums, and the cut of top-k and top-p, which stands on them.

A row is cut into `LANES` stretches of one length, which depends on the row's length alone. Each stretch is added from
its first element to its last, then the stretches' sums from the first to the last, and in the end every element of a
stretch again, on what stands before it. No scan of Triton's is used: its order follows the layout that the compiler
picks, as that of `tl.sum` does.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows
from kernels_bench.arms.samebits.top_k_top_p import cut
from kernels_bench.arms.samebits.triton import rows
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows

LANES = tl.constexpr(512)
WARPS = 4


@triton.jit
def _stretch_sums_kernel(x, sums, x_row, n, length):
    """Write each stretch's sum, in float64."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, LANES)
    total = tl.zeros((LANES,), dtype=tl.float64)
    for step in range(0, length):
        place = lanes * length + step
        total += tl.load(x + row * x_row + place, mask=place < n, other=0.0).to(tl.float32).to(tl.float64)
    tl.store(sums + row * LANES + lanes, total)


@triton.jit
def _begin_kernel(sums):
    """Replace each stretch's sum by that of all stretches before it."""
    sums += tl.program_id(0).to(tl.int64) * LANES
    before = tl.full((), 0.0, tl.float64)  # nothing that is read times zero: an infinity would make it a NaN
    for lane in range(0, LANES):
        here = tl.load(sums + lane)
        tl.store(sums + lane, before)
        before += here


@triton.jit
def _cumsum_kernel(x, sums, y, x_row, n, length):
    """Write each element's sum, beginning with what stands before its stretch."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, LANES)
    total = tl.load(sums + row * LANES + lanes)
    for step in range(0, length):
        place = lanes * length + step
        total += tl.load(x + row * x_row + place, mask=place < n, other=0.0).to(tl.float32).to(tl.float64)
        tl.store(y + row * n + place, total.to(tl.float32).to(y.dtype.element_ty), mask=place < n)


def cumsum(x: Tensor) -> Tensor:
    """Sums of the first elements of each row of (M, N), in float64 and rounded by way of fp32 -> (M, N).

    Raises ValueError for shapes that do not fit.
    """
    check_rows(x)
    m, n = x.shape
    y = torch.empty((m, n), dtype=x.dtype, device=x.device)
    x = unit_stride_rows(x)
    sums = torch.empty((m, LANES.value), dtype=torch.float64, device=x.device)
    length = triton.cdiv(n, LANES.value)
    if m:
        _stretch_sums_kernel[(m,)](x, sums, row_stride(x), n, length, num_warps=WARPS)
        _begin_kernel[(m,)](sums, num_warps=1)
        _cumsum_kernel[(m,)](x, sums, y, row_stride(x), n, length, num_warps=WARPS)
    return y


def top_k_top_p(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """`top_k_top_p.cut` of `logits` (M, N), with `k` and `p` (M,)."""
    return cut(rows.softmax, cumsum, logits, k, p)
