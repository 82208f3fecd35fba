"""The samebits GEMM in Triton: one fixed tile for every M, no split-K, no autotuning.

The bits of an output row cannot depend on the batch: K is walked in blocks of one size, in ascending order,
by one program for each tile of the result; a row's neighbours share its tile but no sum; and M reaches the
kernel as a plain run-time number, never as a compile-time property (`do_not_specialize`).

What Triton does specialise on is layout: strides, and the alignment of pointers. That makes loads wider or
narrower; the order of the sum is fixed by `tl.dot` and the loop around it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernel: Triton has its own types)
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, result_dtype


class Tile(NamedTuple):
    """One program's share of a GEMM, and how it is pipelined."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


TILE_16BIT = Tile(m=64, n=128, k=64, warps=4, stages=4)
# An fp32 dot in full precision runs on FMA units, with its operands in registers: smaller blocks.
TILE_FP32 = Tile(m=64, n=64, k=16, warps=4, stages=3)


@triton.jit(do_not_specialize=["m"])
def _gemm_kernel(  # noqa: PLR0917
    a, b, bias, c,
    m, n, k,
    a_batch, a_row,
    b_batch, b_k, b_n,
    HAS_BIAS: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """C[batch] = A[batch] B[batch] + bias; A is (B, M, K) with K contiguous, C (B, M, N) contiguous."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    tile = tl.program_id(0).to(tl.int64)  # int64 from here on: offsets may exceed 2^31 elements
    batch = tile // (tiles_m * tiles_n)
    rows = tile % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    cols = tile // tiles_m % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    ks = tl.arange(0, BLOCK_K)

    a_tile = a + batch * a_batch + rows * a_row + ks[None, :]
    b_tile = b + batch * b_batch + ks[:, None].to(tl.int64) * b_k + cols * b_n
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        in_k = ks < k - start
        a_block = tl.load(a_tile, mask=(rows < m) & in_k[None, :], other=0.0)
        b_block = tl.load(b_tile, mask=in_k[:, None] & (cols < n), other=0.0)
        if UPCAST:
            a_block, b_block = a_block.to(tl.float32), b_block.to(tl.float32)
        acc = tl.dot(a_block, b_block, acc, input_precision="ieee")
        a_tile += BLOCK_K
        b_tile += BLOCK_K * b_k

    if HAS_BIAS:
        acc += tl.load(bias + cols, mask=cols < n, other=0.0).to(tl.float32)
    tl.store(c + (batch * m + rows) * n + cols, acc.to(c.dtype.element_ty), mask=(rows < m) & (cols < n))


def unit_stride_rows(x: Tensor) -> Tensor:
    """`x` (..., N) itself if its last dimension is contiguous, else a copy that is.

    A stride along the row could be M itself (a transposed view), which the JIT must not see.
    """
    return x if x.stride(-1) == 1 else x.clone(memory_format=torch.contiguous_format)


def row_stride(x: Tensor) -> int:
    """The distance between rows of `x` (..., M, N), in elements.

    A lone row's stride is used by no one and may be anything, 1 in a transposed view: it is kept at N or
    more, so that M = 1 does not compile to a kernel of its own.
    """
    return x.stride(-2) if x.shape[-2] > 1 else max(x.stride(-2), x.shape[-1])


def _gemm(a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(B, M, K) x (B, K, N) + (N,) -> (B, M, N)."""
    (batches, m, k), n = a.shape, b.shape[2]
    a = unit_stride_rows(a)
    c = torch.empty((batches, m, n), dtype=dtype, device=a.device)
    if c.numel() == 0:
        return c
    tile = TILE_FP32 if a.dtype == torch.float32 else TILE_16BIT
    grid = (batches * triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n),)
    _gemm_kernel[grid](
        a, b, bias if bias is None else bias.contiguous(), c,
        m, n, k,
        a.stride(0) if batches > 1 else 0, row_stride(a),
        *b.stride(),
        HAS_BIAS=bias is not None,
        # The interpreter (of 3.7.1) multiplies the raw bits of bfloat16; fp32 holds such products exactly.
        UPCAST=bool(triton.knobs.runtime.interpret),
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return c


def mm(a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`a` (M, K) times `b` (K, N) -> (M, N); any strides, `b` is never copied.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, None, ndim=2)
    return _gemm(a[None], b[None], None, result_dtype((a, b), out_dtype))[0]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`x` (M, K) times the transpose of `weight` (N, K), plus `bias` (N,) in fp32 -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(x, weight.t(), bias, ndim=2)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return _gemm(x[None], weight.t()[None], bias, result_dtype(inputs, out_dtype))[0]


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`bias` (N,) plus `a` (M, K) times `b` (K, N), added in fp32 -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, bias, ndim=2)
    return _gemm(a[None], b[None], bias, result_dtype((a, b, bias), out_dtype))[0]


def bmm(a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`a` (B, M, K) times `b` (B, K, N) -> (B, M, N), in one launch; any strides.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, None, ndim=3)
    return _gemm(a, b, None, result_dtype((a, b), out_dtype))
