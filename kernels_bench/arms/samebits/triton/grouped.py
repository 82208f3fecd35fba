"""The samebits product of rows with matrices of their own choice, in Triton: experts, and adapters.

Rows are sorted by their choice and cut into blocks of one height, each of rows of one choice; a block is multiplied as
`gemm` does it. Which rows share a block hangs on the batch; a sum is walked in blocks of K of one size, in
ascending order, whoever shares it. Nothing waits for the device, so that a CUDA graph can hold it all.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernel: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.triton.gemm import TILE_16BIT, TILE_FP32, row_stride, unit_stride_rows


@triton.jit
def _grouped_gemm_kernel(  # noqa: PLR0917
    x, matrices, out, order, choices, firsts, ends,
    n, k, x_row, matrix, matrix_row, experts,
    TOP: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Write out[i] = x[i // TOP] times the transpose of its matrix, of one block of sorted i and one of columns."""
    block = tl.program_id(0)
    choice = tl.load(choices + block)
    if choice < experts:
        places = tl.load(firsts + block) + tl.arange(0, BLOCK_M)
        inside = places < tl.load(ends + block)
        row = tl.load(order + places, mask=inside, other=0)[:, None]
        cols = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)[None, :]
        ks = tl.arange(0, BLOCK_K)
        x_tile = x + row // TOP * x_row + ks[None, :]
        m_tile = matrices + choice.to(tl.int64) * matrix + cols * matrix_row + ks[:, None]
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in range(0, k, BLOCK_K):
            in_k = ks < k - start
            x_block = tl.load(x_tile, mask=inside[:, None] & in_k[None, :], other=0.0)
            m_block = tl.load(m_tile, mask=in_k[:, None] & (cols < n), other=0.0)
            if UPCAST:
                x_block, m_block = x_block.to(tl.float32), m_block.to(tl.float32)
            acc = tl.dot(x_block, m_block, acc, input_precision="ieee")
            x_tile += BLOCK_K
            m_tile += BLOCK_K
        tl.store(out + row * n + cols, acc, mask=inside[:, None] & (cols < n))


def chosen(x: Tensor, matrices: Tensor, ids: Tensor, top: int = 1) -> Tensor:
    """Rows of ``x`` (M, K), each times the transposes of ``top`` of ``matrices`` (choices, N, K) -> (M top, N).

    In fp32. ``ids`` (M top,) say which, those of a row beside each other.
    """
    (experts, n, k), pairs = matrices.shape, len(ids)
    out = torch.empty((pairs, n), dtype=torch.float32, device=x.device)
    if not out.numel():
        return out
    tile = TILE_FP32 if x.dtype == torch.float32 else TILE_16BIT
    x, matrices = unit_stride_rows(x), unit_stride_rows(matrices.to(x.dtype))
    order = ids.argsort(stable=True)
    counts = (ids[:, None] == torch.arange(experts, device=x.device)).sum(0)
    ends, blocks = counts.cumsum(0), ((counts + tile.m - 1) // tile.m).cumsum(0)
    # As many as there can be at most: how many there are only the device knows.
    block = torch.arange(min(pairs, triton.cdiv(pairs, tile.m) + experts), device=x.device)
    choices = torch.searchsorted(blocks, block, right=True)
    known = choices.clamp(max=experts - 1)
    before = torch.where(known > 0, blocks[known - 1], 0)
    firsts = ends[known] - counts[known] + (block - before) * tile.m
    _grouped_gemm_kernel[(len(block), triton.cdiv(n, tile.n))](
        x, matrices, out, order, choices, firsts, ends[known],
        n, k, row_stride(x), matrices.stride(0), matrices.stride(1), experts,
        TOP=top, UPCAST=bool(triton.knobs.runtime.interpret),
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out
