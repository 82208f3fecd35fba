"""The samebits row operators in Triton: norms, softmax, log_softmax and mean; one program a row, or a few.

The order of every sum is written in the source and depends on the row's length and on the number of lanes alone: column
c is added to lane c mod `LANES`, in ascending order, and the lanes are then added in pairs (`sum_of_lanes`). No
`tl.sum` adds more than two terms, because its order follows the layout that the compiler picks, which follows the width
of the loads, which follows the alignment of the row: a row could change its bits with its place in memory.

M says which rows there are, and nothing else: no kernel is specialised on it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows, result_dtype
from kernels_bench.arms.samebits.tiles import ROW_TILE, ROW_TILES, RowTile
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows

LANES = tl.constexpr(ROW_TILE.lanes)
WARPS = ROW_TILE.warps
MOST_LEVELS = tl.constexpr(16)
MOST_UNROLLED = 8
"""A norm's blocks up to which its loops are unrolled, so that all loads are under way at once."""


def blocks_of(n: int, lanes: int) -> int:
    """How many blocks a norm's loops are unrolled to, by the row's length alone; 0 where they stay loops."""
    blocks = triton.cdiv(n, lanes)
    return blocks if blocks <= MOST_UNROLLED else 0


@triton.jit
def load_block(row, start, n, other, LANES: tl.constexpr):
    """The block of a row that begins at column `start`, in fp32; `other` beyond the row's end."""
    cols = start + tl.arange(0, LANES)
    return tl.load(row + cols, mask=cols < n, other=other).to(tl.float32)


@triton.jit
def _all_blocks(row, n, BLOCKS: tl.constexpr, LANES: tl.constexpr):
    """Every block of a row: a tuple, since the loads are to be under way at once."""
    blocks = ()
    for block in tl.static_range(BLOCKS):
        blocks += (load_block(row, block * LANES, n, 0.0, LANES),)  # type: ignore[assignment]  # a longer tuple
    return blocks


@triton.jit
def store_block(row, start, n, values):
    """Write `values`, rounded to the row's dtype, to the block that begins at column `start`."""
    cols = start + tl.arange(0, values.shape[0])
    tl.store(row + cols, values.to(row.dtype.element_ty), mask=cols < n)


@triton.jit
def sum_of_lanes(lanes):
    """The sum of a power of two of lanes: neighbours are added in pairs, level by level."""
    for _ in tl.static_range(MOST_LEVELS):
        if lanes.shape[0] > 1:
            # Of two terms there is but one order, whatever the layout. (tl.split says the same, but compiles for
            # seconds where rows are unaligned.)
            lanes = tl.sum(tl.reshape(lanes, (lanes.shape[0] // 2, 2)), axis=1)
    return tl.sum(lanes, axis=0)  # one lane is left


@triton.jit
def row_sums(x):
    """Sums of the rows of (M, a power of two): neighbours are added in pairs, level by level, whatever the layout."""
    for _ in tl.static_range(MOST_LEVELS):
        if x.shape[1] > 1:
            x = tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)), axis=2)
    return tl.reshape(x, (x.shape[0],))


@triton.jit
def inverse_rms(squares, n, eps):
    """1 / sqrt(mean + eps), from the lanes of a sum of n squares."""
    return tl.rsqrt(tl.div_rn(sum_of_lanes(squares), n * 1.0) + eps)


@triton.jit
def _row_of(number, m, n, ROWS: tl.constexpr):
    """One of a program's rows, and how many columns of it there are: none where it is beyond the last row."""
    row = tl.program_id(0).to(tl.int64) * ROWS + number
    return row, n if ROWS == 1 else tl.where(row < m, n, 0)


@triton.jit(do_not_specialize=["m"])
def _rms_norm_kernel(  # noqa: PLR0917
    x, weight, y, x_row, m, n, eps,
    BEYOND_ONE: tl.constexpr, BLOCKS: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write y = x / sqrt(mean(x²) + eps) * weight, or times 1 + weight."""
    for number in tl.static_range(ROWS):
        row, width = _row_of(number, m, n, ROWS)
        mine, result = x + row * x_row, y + row * n
        squares = tl.zeros((LANES,), dtype=tl.float32)
        if BLOCKS > 0:  # all is loaded once, the weight too, before the first sum is known
            values = _all_blocks(mine, width, BLOCKS, LANES)
            factors = _all_blocks(weight, width, BLOCKS, LANES)
            for block in tl.static_range(BLOCKS):
                squares = tl.fma(values[block], values[block], squares)  # outright: not for the compiler to fuse or not
            scale = inverse_rms(squares, n, eps)
            for block in tl.static_range(BLOCKS):
                store_block(result, block * LANES, width, _normed(values[block], factors[block], scale, BEYOND_ONE))
        else:
            for start in range(0, width, LANES):
                value = load_block(mine, start, width, 0.0, LANES)
                squares = tl.fma(value, value, squares)
            scale = inverse_rms(squares, n, eps)
            for start in range(0, width, LANES):
                value, factor = load_block(mine, start, width, 0.0, LANES), load_block(weight, start, width, 0.0, LANES)
                store_block(result, start, width, _normed(value, factor, scale, BEYOND_ONE))


@triton.jit
def _normed(values, factor, scale, BEYOND_ONE: tl.constexpr):
    """A block of y, before it is rounded."""
    normed = values * scale
    return tl.fma(normed, factor, normed) if BEYOND_ONE else normed * factor


@triton.jit
def _added(x, residual, start, n, dtype: tl.constexpr, LANES: tl.constexpr):
    """A block of x + residual, rounded to `dtype`, in fp32."""
    added = load_block(x, start, n, 0.0, LANES) + load_block(residual, start, n, 0.0, LANES)
    return added.to(dtype).to(tl.float32)


@triton.jit
def _all_added(x, residual, n, dtype: tl.constexpr, BLOCKS: tl.constexpr, LANES: tl.constexpr):
    """Every block of it."""
    blocks = ()
    for block in tl.static_range(BLOCKS):
        blocks += (_added(x, residual, block * LANES, n, dtype, LANES),)  # type: ignore[assignment]
    return blocks


@triton.jit(do_not_specialize=["m"])
def _fused_add_rms_norm_kernel(  # noqa: PLR0917
    x, residual, weight, y, summed, x_row, residual_row, m, n, eps,
    BLOCKS: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write summed = x + residual, rounded; y = summed / sqrt(mean(summed²) + eps) * weight."""
    dtype: tl.constexpr = summed.dtype.element_ty
    for number in tl.static_range(ROWS):
        row, width = _row_of(number, m, n, ROWS)
        mine, others = x + row * x_row, residual + row * residual_row
        result, kept = y + row * n, summed + row * n
        squares = tl.zeros((LANES,), dtype=tl.float32)
        if BLOCKS > 0:
            values = _all_added(mine, others, width, dtype, BLOCKS, LANES)
            factors = _all_blocks(weight, width, BLOCKS, LANES)
            for block in tl.static_range(BLOCKS):
                squares = tl.fma(values[block], values[block], squares)
            scale = inverse_rms(squares, n, eps)
            for block in tl.static_range(BLOCKS):
                store_block(kept, block * LANES, width, values[block])
                store_block(result, block * LANES, width, _normed(values[block], factors[block], scale, False))
        else:
            for start in range(0, width, LANES):
                value = _added(mine, others, start, width, dtype, LANES)
                squares = tl.fma(value, value, squares)
            scale = inverse_rms(squares, n, eps)
            for start in range(0, width, LANES):
                # Only now, since a load cannot overtake a store that might be of its place.
                value = _added(mine, others, start, width, dtype, LANES)
                store_block(kept, start, width, value)
                factor = load_block(weight, start, width, 0.0, LANES)
                store_block(result, start, width, _normed(value, factor, scale, False))


@triton.jit(do_not_specialize=["m"])
def _softmax_kernel(x, y, x_row, m, n, LOG: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr):  # noqa: PLR0917
    """Write y = exp(x - max) / sum(exp(x - max)), or its logarithm."""
    for number in tl.static_range(ROWS):
        row, width = _row_of(number, m, n, ROWS)
        mine, result = x + row * x_row, y + row * n
        tops = tl.full((LANES,), float("-inf"), dtype=tl.float32)
        for start in range(0, width, LANES):
            tops = tl.maximum(tops, load_block(mine, start, width, float("-inf"), LANES))
        top = tl.max(tops, axis=0)  # the order of a maximum does not show
        powers = tl.zeros((LANES,), dtype=tl.float32)
        for start in range(0, width, LANES):
            powers += tl.exp(load_block(mine, start, width, float("-inf"), LANES) - top)
        total = sum_of_lanes(powers)
        for start in range(0, width, LANES):
            shifted = load_block(mine, start, width, float("-inf"), LANES) - top
            if LOG:
                store_block(result, start, width, shifted - tl.log(total))
            else:
                store_block(result, start, width, tl.div_rn(tl.exp(shifted), total))


@triton.jit(do_not_specialize=["m"])
def _mean_kernel(x, y, x_row, m, n, LANES: tl.constexpr, ROWS: tl.constexpr):
    """Write y = sum(x) / n."""
    for number in tl.static_range(ROWS):
        row, width = _row_of(number, m, n, ROWS)
        mine = x + row * x_row
        lanes = tl.zeros((LANES,), dtype=tl.float32)
        for start in range(0, width, LANES):
            lanes += load_block(mine, start, width, 0.0, LANES)
        place = y + row
        found = tl.div_rn(sum_of_lanes(lanes), n * 1.0).to(y.dtype.element_ty)
        if ROWS == 1:
            tl.store(place, found)
        else:
            tl.store(place, found, mask=row < m)


def _grid(tile: RowTile, m: int) -> tuple[int]:
    return (triton.cdiv(m, tile.rows),)


def _constants(tile: RowTile) -> dict[str, int]:
    return {"LANES": tile.lanes, "ROWS": tile.rows, "num_warps": tile.warps}


def _rms_norm(x: Tensor, weight: Tensor, eps: float, beyond_one: bool, tile: RowTile) -> Tensor:
    check_rows(x, weight)
    m, n = x.shape
    y = torch.empty((m, n), dtype=result_dtype((x, weight), None), device=x.device)
    x = unit_stride_rows(x)
    if m:
        _rms_norm_kernel[_grid(tile, m)](
            x, weight.contiguous(), y, row_stride(x), m, n, eps,
            BEYOND_ONE=beyond_one, BLOCKS=blocks_of(n, tile.lanes), **_constants(tile),
        )  # fmt: skip
    return y


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, tile: RowTile = ROW_TILE) -> Tensor:
    """Each row x of (M, N) as x / sqrt(mean(x²) + eps) * `weight` (N,) -> (M, N), in the inputs' dtype.

    In fp32, rounded once; ``tile`` says in which order. Raises ValueError for shapes that do not fit, TypeError for
    dtypes (see `result_dtype`).
    """
    return _rms_norm(x, weight, eps, beyond_one=False, tile=tile)


def gemma_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` times 1 + `weight`, as Gemma's models have it."""
    return _rms_norm(x, weight, eps, beyond_one=True, tile=ROW_TILE)


def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, tile: RowTile = ROW_TILE
) -> tuple[Tensor, Tensor]:
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
        _fused_add_rms_norm_kernel[_grid(tile, m)](
            x, residual, weight.contiguous(), y, summed, *strides, m, n, eps,
            BLOCKS=blocks_of(n, tile.lanes), **_constants(tile),
        )  # fmt: skip
    return y, summed


def _softmax(x: Tensor, dtype: torch.dtype, log: bool, tile: RowTile) -> Tensor:
    """(M, N) -> (M, N)."""
    m, n = x.shape
    y = torch.empty((m, n), dtype=dtype, device=x.device)
    x = unit_stride_rows(x)
    if m:
        _softmax_kernel[_grid(tile, m)](x, y, row_stride(x), m, n, LOG=log, **_constants(tile))
    return y


def softmax(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: RowTile = ROW_TILE) -> Tensor:
    """Each row x of (M, N) as exp(x - max) / sum(exp(x - max)) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    return _softmax(x, result_dtype((x,), out_dtype), log=False, tile=tile)


def log_softmax(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: RowTile = ROW_TILE) -> Tensor:
    """Each row x of (M, N) as x - max - log(sum(exp(x - max))) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    return _softmax(x, result_dtype((x,), out_dtype), log=True, tile=tile)


def mean(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: RowTile = ROW_TILE) -> Tensor:
    """The mean of each row of `x` (M, N) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    m, n = x.shape
    y = torch.empty((m,), dtype=result_dtype((x,), out_dtype), device=x.device)
    x = unit_stride_rows(x)
    if m:
        _mean_kernel[_grid(tile, m)](x, y, row_stride(x), m, n, **_constants(tile))
    return y


def kernels(label: str) -> dict[str, Callable[..., Any]]:
    """The kernels of one tile."""
    found: dict[str, Callable[..., Any]] = {
        "rms_norm": rms_norm, "fused_add_rms_norm": fused_add_rms_norm,
        "softmax": softmax, "log_softmax": log_softmax, "mean": mean,
    }  # fmt: skip
    return {operator: partial(function, tile=ROW_TILES[label]) for operator, function in found.items()}
