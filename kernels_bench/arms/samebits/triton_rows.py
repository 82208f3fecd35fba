"""The samebits row operators in Triton: norms, softmax, log_softmax and mean; one program a row.

The order of every sum is written in the source and depends on the row's length alone: column c is added to
lane c mod `BLOCK`, in ascending order, and the lanes are then added in pairs (`sum_of_lanes`). No `tl.sum` adds more
than two terms, because its order follows the layout that the compiler picks, which follows the width of the
loads, which follows the alignment of the row: a row could change its bits with its place in memory.

M is not an argument of any kernel: there is nothing to specialise on.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows, result_dtype
from kernels_bench.arms.samebits.triton_gemm import row_stride, unit_stride_rows

LEVELS = tl.constexpr(10)
BLOCK = tl.constexpr(2**10)  # columns a step, and lanes of a sum
WARPS = 4


@triton.jit
def load_block(row, start, n, other):
    """The block of a row that begins at column `start`, in fp32; `other` beyond the row's end."""
    cols = start + tl.arange(0, BLOCK)
    return tl.load(row + cols, mask=cols < n, other=other).to(tl.float32)


@triton.jit
def store_block(row, start, n, values):
    """Write `values`, rounded to the row's dtype, to the block that begins at column `start`."""
    cols = start + tl.arange(0, BLOCK)
    tl.store(row + cols, values.to(row.dtype.element_ty), mask=cols < n)


@triton.jit
def sum_of_lanes(lanes):
    """The sum of `BLOCK` lanes: neighbours are added in pairs, level by level."""
    for _ in tl.static_range(LEVELS):
        # Of two terms there is but one order, whatever the layout. (tl.split says the same, but compiles for
        # seconds where rows are unaligned.)
        lanes = tl.sum(tl.reshape(lanes, (lanes.shape[0] // 2, 2)), axis=1)
    return tl.sum(lanes, axis=0)  # one lane is left


@triton.jit
def inverse_rms(squares, n, eps):
    """1 / sqrt(mean + eps), from the lanes of a sum of n squares."""
    return tl.rsqrt(tl.div_rn(sum_of_lanes(squares), n * 1.0) + eps)


@triton.jit
def _rms_norm_kernel(x, weight, y, x_row, n, eps, BEYOND_ONE: tl.constexpr):
    """Write y = x / sqrt(mean(x²) + eps) * weight, or times 1 + weight."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    y += row * n
    squares = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        values = load_block(x, start, n, 0.0)
        squares = tl.fma(values, values, squares)  # outright: not for the compiler to fuse or not
    scale = inverse_rms(squares, n, eps)
    for start in range(0, n, BLOCK):
        normed, factor = load_block(x, start, n, 0.0) * scale, load_block(weight, start, n, 0.0)
        if BEYOND_ONE:
            store_block(y, start, n, tl.fma(normed, factor, normed))
        else:
            store_block(y, start, n, normed * factor)


@triton.jit
def _added(x, residual, start, n, dtype: tl.constexpr):
    """A block of x + residual, rounded to `dtype`, in fp32."""
    return (load_block(x, start, n, 0.0) + load_block(residual, start, n, 0.0)).to(dtype).to(tl.float32)


@triton.jit
def _fused_add_rms_norm_kernel(  # noqa: PLR0917
    x, residual, weight, y, summed, x_row, residual_row, n, eps
):
    """Write summed = x + residual, rounded; y = summed / sqrt(mean(summed²) + eps) * weight."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    residual += row * residual_row
    y += row * n
    summed += row * n
    squares = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        values = _added(x, residual, start, n, summed.dtype.element_ty)
        store_block(summed, start, n, values)
        squares = tl.fma(values, values, squares)
    scale = inverse_rms(squares, n, eps)
    for start in range(0, n, BLOCK):
        # Added again, not read back: another thread may have stored it.
        values = _added(x, residual, start, n, summed.dtype.element_ty)
        store_block(y, start, n, values * scale * load_block(weight, start, n, 0.0))


@triton.jit
def _softmax_kernel(x, y, x_row, n, LOG: tl.constexpr):
    """Write y = exp(x - max) / sum(exp(x - max)), or its logarithm."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    y += row * n
    tops = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        tops = tl.maximum(tops, load_block(x, start, n, float("-inf")))
    top = tl.max(tops, axis=0)  # the order of a maximum does not show
    powers = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        powers += tl.exp(load_block(x, start, n, float("-inf")) - top)
    total = sum_of_lanes(powers)
    for start in range(0, n, BLOCK):
        shifted = load_block(x, start, n, float("-inf")) - top
        if LOG:
            store_block(y, start, n, shifted - tl.log(total))
        else:
            store_block(y, start, n, tl.div_rn(tl.exp(shifted), total))


@triton.jit
def _mean_kernel(x, y, x_row, n):
    """Write y = sum(x) / n."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    lanes = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        lanes += load_block(x, start, n, 0.0)
    tl.store(y + row, tl.div_rn(sum_of_lanes(lanes), n * 1.0).to(y.dtype.element_ty))


def _rms_norm(x: Tensor, weight: Tensor, eps: float, beyond_one: bool) -> Tensor:
    check_rows(x, weight)
    m, n = x.shape
    y = torch.empty((m, n), dtype=result_dtype((x, weight), None), device=x.device)
    x = unit_stride_rows(x)
    if m:
        operands = (x, weight.contiguous(), y, row_stride(x), n, eps)
        _rms_norm_kernel[(m,)](*operands, BEYOND_ONE=beyond_one, num_warps=WARPS)
    return y


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each row x of (M, N) as x / sqrt(mean(x²) + eps) * `weight` (N,) -> (M, N), in the inputs' dtype.

    In fp32, rounded once. Raises ValueError for shapes that do not fit, TypeError for dtypes (see
    `result_dtype`).
    """
    return _rms_norm(x, weight, eps, beyond_one=False)


def gemma_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` times 1 + `weight`, as Gemma's models have it."""
    return _rms_norm(x, weight, eps, beyond_one=True)


def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`summed` = x + residual, rounded, and `rms_norm` of it; both (M, N), new, returned as (normed, summed).

    The norm is that of the rounded sum, as in vLLM's CUDA operator of this name, which writes both over its
    inputs. Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight, residual)
    m, n = x.shape
    y = torch.empty((m, n), dtype=result_dtype((x, residual, weight), None), device=x.device)
    summed = torch.empty_like(y)
    x, residual = unit_stride_rows(x), unit_stride_rows(residual)
    strides = row_stride(x), row_stride(residual)
    if m:
        _fused_add_rms_norm_kernel[(m,)](x, residual, weight.contiguous(), y, summed, *strides, n, eps, num_warps=WARPS)
    return y, summed


def _softmax(x: Tensor, dtype: torch.dtype, log: bool) -> Tensor:
    """(M, N) -> (M, N)."""
    m, n = x.shape
    y = torch.empty((m, n), dtype=dtype, device=x.device)
    x = unit_stride_rows(x)
    if m:
        _softmax_kernel[(m,)](x, y, row_stride(x), n, LOG=log, num_warps=WARPS)
    return y


def softmax(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Each row x of (M, N) as exp(x - max) / sum(exp(x - max)) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    return _softmax(x, result_dtype((x,), out_dtype), log=False)


def log_softmax(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Each row x of (M, N) as x - max - log(sum(exp(x - max))) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    return _softmax(x, result_dtype((x,), out_dtype), log=True)


def mean(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """The mean of each row of `x` (M, N) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    m, n = x.shape
    y = torch.empty((m,), dtype=result_dtype((x,), out_dtype), device=x.device)
    x = unit_stride_rows(x)
    if m:
        _mean_kernel[(m,)](x, y, row_stride(x), n, num_warps=WARPS)
    return y
