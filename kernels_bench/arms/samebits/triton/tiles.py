"""samebits' GEMM in any of its `tiles`, with a fixed number of parts of K.

The order of addition depends on K and on the number of parts alone.  Each part of K is added up from zero, in ascending
order, and the parts' sums are added in ascending order of part.  Two schedules do this, with the same bits:

* in parallel: a program for each part writes its sum to memory, and the last one of a tile to arrive, which an atomic
  counter tells, adds all of them, its own read back too.  It is for batches that leave most processors idle otherwise.
* in order: one program walks the parts one after the other, each from zero, and adds each sum as it is complete.

So the schedule may be chosen by M, while tile and parts are the caller's, and are the same at every M.  As in
`gemm`, M reaches the kernel as a plain run-time number.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernel: Triton has its own types)
from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, result_dtype
from kernels_bench.arms.samebits.tiles import GRAIN, Tile, tiles
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows

Schedule = Literal["parallel", "in order"]

GROUP = 8
"""Tiles of rows whose programs follow each other for each tile of columns, so that both stay in the L2."""


@triton.jit
def _sum_of_part(  # noqa: PLR0917
    left, right, left_in, right_in, left_step, right_step, ks, first, end,
    UPCAST: tl.constexpr, EVEN_K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The product over one part of K, from zero: (ROWS, K) at `left` times (K, COLUMNS) at `right`."""
    acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    left += first.to(tl.int64) * left_step
    right += first.to(tl.int64) * right_step
    for start in range(first, end, BLOCK_K):
        if EVEN_K:
            left_block = tl.load(left, mask=left_in, other=0.0)
            right_block = tl.load(right, mask=right_in, other=0.0)
        else:
            in_k = ks < end - start
            left_block = tl.load(left, mask=left_in & in_k[None, :], other=0.0)
            right_block = tl.load(right, mask=right_in & in_k[:, None], other=0.0)
        if UPCAST:
            left_block, right_block = left_block.to(tl.float32), right_block.to(tl.float32)
        acc = tl.dot(left_block, right_block, acc, input_precision="ieee")
        left += BLOCK_K * left_step
        right += BLOCK_K * right_step
    return acc


@triton.jit
def _store(acc, bias, c, rows, cols, m, n, HAS_BIAS: tl.constexpr):  # noqa: PLR0917
    """Write a tile of the result, to which a bias is added in fp32."""
    if HAS_BIAS:
        acc += tl.load(bias + cols, mask=cols < n, other=0.0).to(tl.float32)
    tl.store(c + rows * n + cols, acc.to(c.dtype.element_ty), mask=(rows < m) & (cols < n))


@triton.jit(do_not_specialize=["m"])
def _tile_kernel(  # noqa: PLR0917
    a, b, bias, c, sums, arrived,
    m, n, k, part_k,
    a_row, b_k, b_n,
    HAS_BIAS: tl.constexpr, UPCAST: tl.constexpr, SWAPPED: tl.constexpr, EVEN_K: tl.constexpr,
    PARTS: tl.constexpr, PARALLEL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """C = A B + bias; A is (M, K) with K contiguous, C (M, N) contiguous."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    tile = tl.program_id(0)
    group = tile // (GROUP * tiles_n)
    height = tl.minimum(tiles_m - group * GROUP, GROUP)
    tile_m = group * GROUP + tile % (GROUP * tiles_n) % height
    tile_n = tile % (GROUP * tiles_n) // height
    # int64 from here on: offsets may exceed 2^31 elements.
    row = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K)
    ROWS: tl.constexpr = BLOCK_N if SWAPPED else BLOCK_M
    COLUMNS: tl.constexpr = BLOCK_M if SWAPPED else BLOCK_N
    if SWAPPED:
        rows, cols = row[None, :], col[:, None]
        left = b + cols * b_n + ks[None, :].to(tl.int64) * b_k
        right = a + ks[:, None] + rows * a_row
        left_in, right_in, left_step, right_step = cols < n, rows < m, b_k, 1
    else:
        rows, cols = row[:, None], col[None, :]
        left = a + rows * a_row + ks[None, :]
        right = b + ks[:, None].to(tl.int64) * b_k + cols * b_n
        left_in, right_in, left_step, right_step = rows < m, cols < n, 1, b_k

    if PARTS == 1:
        acc = _sum_of_part(
            left, right, left_in, right_in, left_step, right_step, ks, part_k * 0, k,
            UPCAST, EVEN_K, ROWS, COLUMNS, BLOCK_K,
        )  # fmt: skip
        _store(acc, bias, c, rows, cols, m, n, HAS_BIAS)
    elif not PARALLEL:
        acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for part in range(PARTS):
            first = part * part_k
            acc += _sum_of_part(
                left, right, left_in, right_in, left_step, right_step, ks, first, tl.minimum(first + part_k, k),
                UPCAST, EVEN_K, ROWS, COLUMNS, BLOCK_K,
            )  # fmt: skip
        _store(acc, bias, c, rows, cols, m, n, HAS_BIAS)
    else:
        part = tl.program_id(1)
        first = part * part_k
        acc = _sum_of_part(
            left, right, left_in, right_in, left_step, right_step, ks, first, tl.minimum(first + part_k, k),
            UPCAST, EVEN_K, ROWS, COLUMNS, BLOCK_K,
        )  # fmt: skip
        places = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        mine = sums + tile.to(tl.int64) * (PARTS * ROWS * COLUMNS) + places
        tl.store(mine + part * (ROWS * COLUMNS), acc)
        # All threads' stores come before the one atomic of the program, which releases them to whoever acquires it.
        tl.debug_barrier()
        before = tl.atomic_add(arrived + tile, 1, sem="acq_rel", scope="gpu")
        if before == PARTS - 1:
            tl.debug_barrier()
            total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
            for number in range(PARTS):
                # From the L2: another processor wrote it, and what this one's L1 holds of it may be old.
                total += tl.load(mine + number * (ROWS * COLUMNS), cache_modifier=".cg")
            _store(total, bias, c, rows, cols, m, n, HAS_BIAS)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _schedule(tile: Tile, programs: int, device: torch.device) -> Schedule:
    """How the parts are computed; no bit depends on it.

    In parallel only where whole tiles leave processors idle: else it is but more to write and to read back.
    """
    return "parallel" if tile.parts > 1 and programs < _processors(device) else "in order"


def gemm(
    tile: Tile, a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype, schedule: Schedule | None = None
) -> Tensor:
    """(M, K) x (K, N) + (N,) -> (M, N), in a tile; ``schedule`` is chosen by M unless it is given."""
    (m, k), n = a.shape, b.shape[1]
    a = unit_stride_rows(a)
    c = torch.empty((m, n), dtype=dtype, device=a.device)
    if c.numel() == 0:
        return c
    programs = triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n)
    in_parallel = (schedule or _schedule(tile, programs, a.device)) == "parallel"
    # Of this call alone, since two streams, or two graphs that are replayed at once, may be in the same GEMM.
    sums = torch.empty(programs * tile.parts * tile.m * tile.n, device=a.device) if in_parallel else None
    arrived = torch.zeros(programs, dtype=torch.int32, device=a.device) if in_parallel else None
    _tile_kernel[programs, tile.parts if in_parallel else 1](
        a, b, bias if bias is None else bias.contiguous(), c, sums, arrived,
        m, n, k, triton.cdiv(triton.cdiv(k, GRAIN), tile.parts) * GRAIN,
        row_stride(a), *b.stride(),
        HAS_BIAS=bias is not None,
        # The interpreter (of 3.7.1) multiplies the raw bits of bfloat16; fp32 holds such products exactly.
        UPCAST=bool(triton.knobs.runtime.interpret),
        SWAPPED=tile.swapped, EVEN_K=k % tile.k == 0,
        PARTS=tile.parts, PARALLEL=in_parallel,
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, GROUP=GROUP,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return c


def mm(tile: Tile, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """As `gemm.mm`."""
    check_gemm(a, b, None, ndim=2)
    return gemm(tile, a, b, None, result_dtype((a, b), out_dtype))


def linear(
    tile: Tile, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out_dtype: torch.dtype | None = None
) -> Tensor:
    """As `gemm.linear`."""
    check_gemm(x, weight.t(), bias, ndim=2)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return gemm(tile, x, weight.t(), bias, result_dtype(inputs, out_dtype))


def addmm(tile: Tile, bias: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """As `gemm.addmm`."""
    check_gemm(a, b, bias, ndim=2)
    return gemm(tile, a, b, bias, result_dtype((a, b, bias), out_dtype))


def kernels(label: str) -> dict[str, Callable[..., Tensor]]:
    """The kernels of one tile."""
    tile, _ = tiles()[label]
    found: dict[str, Callable[..., Tensor]] = {"mm": mm, "linear": linear, "linear_bias": linear, "addmm": addmm}
    return {operator: partial(function, tile) for operator, function in found.items()}
