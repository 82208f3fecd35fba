"""samebits' GEMM in any of its `tiles`, with a fixed number of parts of K.

The order of addition depends on K and on the number of parts alone.  Each part of K is added up from zero, in ascending
order, and the parts' sums are added as a balanced binary tree: of any run of parts the first half's sum and the second
half's.  So the parts may be shared out among one, two, four, … programs with the same bits: each program adds up the
tree of its own run, and writes its sum to memory where there are several, which another kernel adds up.  Few rows get
as many programs as there are parts, since most processors would be idle otherwise; many get one.

So the number of runs may be chosen by M, while tile and parts are the caller's, and are the same at every M.  As in
`gemm`, M reaches the kernel as a plain run-time number.

Where the operands lie decides how fast they are loaded, and no bit.  So they are copied first where that pays: 16-bit
ones whose rows begin anywhere, for many rows, to rows that begin at a multiple of 16 bytes; and in full precision A's
rows, for a swapped tile, so that they lie side by side: FMA units are fed from shared memory, of which the threads of a
warp read at once what lies side by side.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernel: Triton has its own types)
from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, result_dtype
from kernels_bench.arms.samebits.tiles import GRAIN, MOST_SHARED, Tile, tiles
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows

GROUP = 8
"""Tiles of rows whose programs follow each other for each tile of columns, so that both stay in the L2."""

JOINED, FEW_JOINED = 1024, 128
"""Elements of the result that a program joins, and where there would be no program for each processor."""

COPIED_FROM = 64
"""Rows of a 16-bit GEMM from which on operands whose rows are not aligned are copied: fewer read the weight about once,
so that a copy of it would cost as much."""

ALIGNED = 16
"""Bytes that are loaded at once where a row begins at a multiple of them."""

SIDE = 64
"""Rows and columns that a program copies, and a multiple of which the rows of a copy have."""


@triton.jit
def _sum_of_run(  # noqa: PLR0917
    left, right, left_in, right_in, left_step, right_step, ks, first, part_k, k,
    PARTS: tl.constexpr, UPCAST: tl.constexpr, EVEN_K: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The product over so many parts of K from ``first`` on: (ROWS, K) at `left` times (K, COLUMNS) at `right`."""
    acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    if PARTS > 1:
        for half in range(2):
            acc += _sum_of_run(
                left, right, left_in, right_in, left_step, right_step, ks, first + half * (PARTS // 2) * part_k,
                part_k, k, PARTS // 2, UPCAST, EVEN_K, ROWS, COLUMNS, BLOCK_K,
            )  # fmt: skip
    else:
        end = tl.minimum(first + part_k, k)
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
def _sum_of_runs(sums, mine, size, FIRST: tl.constexpr, RUNS: tl.constexpr):
    """The sum of so many runs' sums from ``FIRST`` on, in the same tree as theirs."""
    if RUNS == 1:
        total = tl.load(sums + FIRST * size + mine, mask=mine < size, other=0.0)
    else:
        total = _sum_of_runs(sums, mine, size, FIRST, RUNS // 2)
        total += _sum_of_runs(sums, mine, size, FIRST + RUNS // 2, RUNS // 2)
    return total


@triton.jit(do_not_specialize=["size"])
def _gemm_join_kernel(  # noqa: PLR0917
    sums, bias, c, size, n, HAS_BIAS: tl.constexpr, RUNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """C (M, N), of ``size`` elements, from the sums (RUNS, M, N) of its runs."""
    mine = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = _sum_of_runs(sums, mine, size.to(tl.int64), 0, RUNS)
    if HAS_BIAS:
        total += tl.load(bias + mine % n, mask=mine < size, other=0.0).to(tl.float32)
    tl.store(c + mine, total.to(c.dtype.element_ty), mask=mine < size)


@triton.jit
def _store(acc, bias, c, rows, cols, m, n, HAS_BIAS: tl.constexpr):  # noqa: PLR0917
    """Write a tile of the result, to which a bias is added in fp32."""
    if HAS_BIAS:
        acc += tl.load(bias + cols, mask=cols < n, other=0.0).to(tl.float32)
    tl.store(c + rows * n + cols, acc.to(c.dtype.element_ty), mask=(rows < m) & (cols < n))


@triton.jit(do_not_specialize=["rows", "columns"])
def _copy_kernel(  # noqa: PLR0917
    matrix, copy, rows, columns, row_step, column_step, width, SIDE: tl.constexpr,
):  # fmt: skip
    """A (rows, columns) matrix of any strides to contiguous rows of ``width``, with zeros behind its columns."""
    blocks = tl.cdiv(width, SIDE)
    block = tl.program_id(0).to(tl.int64)
    row = (block // blocks * SIDE + tl.arange(0, SIDE))[:, None]
    column = (block % blocks * SIDE + tl.arange(0, SIDE))[None, :]
    inside = (row < rows) & (column < columns)
    value = tl.load(matrix + row * row_step + column * column_step, mask=inside, other=0.0)
    tl.store(copy + row * width + column, value, mask=(row < rows) & (column < width))


@triton.jit(do_not_specialize=["m"])
def _gemm_tile_kernel(  # noqa: PLR0917
    a, b, bias, c,
    m, n, k, part_k,
    a_row, a_k, b_k, b_n,
    HAS_BIAS: tl.constexpr, UPCAST: tl.constexpr, SWAPPED: tl.constexpr, EVEN_K: tl.constexpr,
    PARTS: tl.constexpr, SIDE_BY_SIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """C = A B + bias; C is (M, N) contiguous, or (runs, M, N): over each run of parts.

    Where A's rows lie ``SIDE_BY_SIDE``, there are as many as its columns' step, of which those from M on count nowhere:
    a mask by that step, unlike one by M, is known to be the same for neighbours that are loaded at once.
    """
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
        right = a + ks[:, None].to(tl.int64) * a_k + rows * a_row
        left_in, right_in, left_step, right_step = cols < n, rows < (a_k if SIDE_BY_SIDE else m), b_k, a_k
    else:
        rows, cols = row[:, None], col[None, :]
        left = a + rows * a_row + ks[None, :].to(tl.int64) * a_k
        right = b + ks[:, None].to(tl.int64) * b_k + cols * b_n
        left_in, right_in, left_step, right_step = rows < m, cols < n, a_k, b_k

    run = tl.program_id(1)
    acc = _sum_of_run(
        left, right, left_in, right_in, left_step, right_step, ks, run * PARTS * part_k,
        part_k, k, PARTS, UPCAST, EVEN_K, ROWS, COLUMNS, BLOCK_K,
    )  # fmt: skip
    _store(acc, bias, c + run.to(tl.int64) * m * n, rows, cols, m, n, HAS_BIAS)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _runs(tile: Tile, programs: int, item_bytes: int, device: torch.device) -> int:
    """Among how many programs the parts of one tile of the result are shared out; no bit depends on it.

    As many as the processors take at once, with what else they have to do: more would only write more and read it back.
    """
    at_once = _processors(device) * max(1, MOST_SHARED // tile.shared_bytes(item_bytes))
    runs = tile.parts
    while runs > 1 and programs * runs > at_once:
        runs //= 2
    return runs


def _copied(matrix: Tensor, width: int) -> Tensor:
    """A contiguous (R, ``width``) copy of an (R, C) matrix of any strides; columns from C on are zeros."""
    rows, columns = matrix.shape
    copy = torch.empty((rows, width), dtype=matrix.dtype, device=matrix.device)
    if copy.numel() == 0:
        return copy
    grid = (triton.cdiv(rows, SIDE) * triton.cdiv(width, SIDE),)
    _copy_kernel[grid](matrix, copy, rows, columns, *matrix.stride(), width, SIDE=SIDE, num_warps=8)
    return copy


def _aligned(rows: Tensor) -> bool:
    """Whether each row begins where `ALIGNED` bytes can be loaded at once."""
    row = row_stride(rows) * rows.element_size()
    return rows.stride(-1) == 1 and row % ALIGNED == 0 and rows.data_ptr() % ALIGNED == 0


def _laid_out(tile: Tile, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, bool]:
    """A and B as the kernel loads them fast, in which K may end with zeros; whether A's rows lie side by side."""
    m, k = a.shape
    if a.dtype == torch.float32 and tile.swapped:
        return _copied(a.t(), triton.cdiv(m, SIDE) * SIDE).t(), b, True
    # Either B's columns or its rows are what is contiguous, and has to begin at such multiples.
    fast = _aligned(a) and (_aligned(b.t()) or _aligned(b))
    if a.dtype == torch.float32 or m < COPIED_FROM or fast:
        return unit_stride_rows(a), b, False
    block = max(tile.k, SIDE)
    width = triton.cdiv(k, block) * block
    return _copied(a, width), _copied(b.t(), width).t(), False


def gemm(tile: Tile, a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype, runs: int | None = None) -> Tensor:
    """(M, K) x (K, N) + (N,) -> (M, N), in a tile; ``runs``, a power of two, is chosen by M unless it is given."""
    (m, k), n = a.shape, b.shape[1]
    tile = tile.at(m)
    c = torch.empty((m, n), dtype=dtype, device=a.device)
    if c.numel() == 0:
        return c
    part_k = triton.cdiv(triton.cdiv(k, GRAIN), tile.parts) * GRAIN
    a, b, side_by_side = _laid_out(tile, a, b)
    k = b.shape[0]
    bias = bias if bias is None else bias.contiguous()
    programs = triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n)
    runs = runs or _runs(tile, programs, a.element_size(), a.device)
    # Of this call alone, since two streams, or two graphs that are replayed at once, may be in the same GEMM.
    sums = c if runs == 1 else torch.empty((runs, m, n), dtype=torch.float32, device=a.device)
    _gemm_tile_kernel[programs, runs](
        a, b, bias if runs == 1 else None, sums,
        m, n, k, part_k,
        row_stride(a), a.stride(1), *b.stride(),
        HAS_BIAS=bias is not None and runs == 1,
        # The interpreter (of 3.7.1) multiplies the raw bits of bfloat16; fp32 holds such products exactly.
        UPCAST=bool(triton.knobs.runtime.interpret),
        SWAPPED=tile.swapped, EVEN_K=k % tile.k == 0,
        PARTS=tile.parts // runs, SIDE_BY_SIDE=side_by_side,
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, GROUP=GROUP,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if runs > 1:
        block = JOINED if c.numel() > JOINED * _processors(a.device) else FEW_JOINED
        _gemm_join_kernel[(triton.cdiv(c.numel(), block),)](
            sums, bias, c, c.numel(), n, HAS_BIAS=bias is not None, RUNS=runs, BLOCK=block, num_warps=block // 128
        )
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
