"""samebits' GEMM on a CPU in `CPU_TILES`: products of a few terms are folded in halves, by element-wise operations.

IEEE 754 rounds these alike wherever they stand, so that rows may be computed at once without being neighbours to each
other: the order of addition depends on K and on the number of parts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, result_dtype
from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.arms.samebits.tiles import CPU_TILES, CpuTile

TERMS = 64
"""That are folded together; sums of so many are added one after the other."""


def _in_order(a: Tensor, b: Tensor) -> Tensor:
    """Fp32 (M, K) x (K, N) -> (M, N)."""
    total = a.new_zeros(a.shape[0], b.shape[1])
    for left, right in zip(a.split(TERMS, 1), b.split(TERMS, 0), strict=True):
        total += _folded(left[:, :, None] * right)
    return total


def _folded(terms: Tensor) -> Tensor:
    """(M, K, N) -> (M, N): fold the right half of K onto the left one until one term remains."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        terms, width = terms[:, :half], half
    return terms[:, 0]


def _rows(tile: CpuTile, a: Tensor, b: Tensor) -> Tensor:
    """A few rows, part by part."""
    total = a.new_zeros(a.shape[0], b.shape[1])
    for left, right in zip(a.tensor_split(tile.parts, 1), b.tensor_split(tile.parts, 0), strict=True):
        total += _in_order(left, right)
    return total


def _gemm(tile: CpuTile, a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(M, K) x (K, N) + (N,) -> (M, N)."""
    out = torch.empty(a.shape[0], b.shape[1], dtype=torch.float32)
    wide = b.float()
    for start in range(0, len(a), tile.rows):
        out[start : start + tile.rows] = _rows(tile, a[start : start + tile.rows].float(), wide)
    if bias is not None:
        out += bias.float()
    return rounded(out, dtype)


def mm(tile: CpuTile, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """As `gemm.mm`."""
    check_gemm(a, b, None, ndim=2)
    return _gemm(tile, a, b, None, result_dtype((a, b), out_dtype))


def linear(
    tile: CpuTile, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out_dtype: torch.dtype | None = None
) -> Tensor:
    """As `gemm.linear`."""
    check_gemm(x, weight.t(), bias, ndim=2)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return _gemm(tile, x, weight.t(), bias, result_dtype(inputs, out_dtype))


def addmm(tile: CpuTile, bias: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """As `gemm.addmm`."""
    check_gemm(a, b, bias, ndim=2)
    return _gemm(tile, a, b, bias, result_dtype((a, b, bias), out_dtype))


def kernels(label: str) -> dict[str, Callable[..., Tensor]]:
    """The kernels of one tile."""
    found: dict[str, Callable[..., Tensor]] = {"mm": mm, "linear": linear, "linear_bias": linear, "addmm": addmm}
    return {operator: partial(function, CPU_TILES[label]) for operator, function in found.items()}
