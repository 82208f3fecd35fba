"""Norms, softmaxes and means on the CPU: sums folded in halves, and what is not rounded alike one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_rows, result_dtype
from kernels_bench.arms.samebits.cpu.gemm import lined_up
from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.arms.samebits.tiles import CPU_TILES, CpuTile

USUAL = CpuTile(rows=32)
"""Rows are worked on together for the sake of caches and memory only: no bit depends on how many."""


def row_sum(x: Tensor, parts: int = 1) -> Tensor:
    """Fp32 (M, N) -> (M, 1): each of some parts of N is folded, and their sums are added in ascending order."""
    total, *others = (_folded(part) for part in x.tensor_split(parts, 1) if part.shape[1])
    for part in others:
        total = total + part
    return total


def _folded(x: Tensor) -> Tensor:
    """Fp32 (M, N) -> (M, 1): fold the right half onto the left one until one column remains."""
    width = x.shape[1]
    while width > 1:
        half = (width + 1) // 2
        folded = x[:, :half].clone()
        folded[:, : width - half] += x[:, half:width]
        x, width = folded, half
    return x


def each_row(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply `function` to each row of (M, N), which the calls find alike in memory; fp32 (M, N)."""
    rows, out = lined_up(*x.shape).copy_(x), torch.empty(x.shape, dtype=torch.float32)
    for row, result in zip(rows.unbind(), out.unbind(), strict=True):
        result.copy_(function(row))
    return out


def chunks(x: Tensor, tile: CpuTile = USUAL) -> list[Tensor]:
    """`x` (M, N) in pieces of a few rows, one piece at least."""
    return [x[start : start + tile.rows] for start in range(0, max(len(x), 1), tile.rows)]


def _rms_norm(x: Tensor, weight: Tensor, eps: float, parts: int) -> Tensor:
    """A chunk of rows (M, N), weight (N,) -> (M, N)."""
    values = x.float()
    mean_square = row_sum(values * values, parts) / x.shape[1]
    return rounded(values * each_row(torch.rsqrt, mean_square + eps) * weight.float(), x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, tile: CpuTile = USUAL) -> Tensor:
    """Each row x of (M, N) as x / sqrt(mean(x²) + eps) * `weight` (N,) -> (M, N), in the inputs' dtype.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight)
    result_dtype((x, weight), None)
    return torch.cat([_rms_norm(rows, weight, eps, tile.parts) for rows in chunks(x, tile)])


def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, tile: CpuTile = USUAL
) -> tuple[Tensor, Tensor]:
    """`summed` = x + residual, rounded, and `rms_norm` of it; both (M, N), new, returned as (normed, summed).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight, residual)
    dtype = result_dtype((x, residual, weight), None)
    both = zip(chunks(x, tile), chunks(residual, tile), strict=True)
    summed = torch.cat([rounded(rows.float() + others.float(), dtype) for rows, others in both])
    return rms_norm(summed, weight, eps, tile=tile), summed


def _softmax(x: Tensor, dtype: torch.dtype, parts: int) -> Tensor:
    """A chunk of rows (M, N) -> (M, N)."""
    values = x.float()
    powers = each_row(torch.exp, values - values.amax(1, keepdim=True))
    return rounded(powers / row_sum(powers, parts), dtype)


def softmax(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: CpuTile = USUAL) -> Tensor:
    """Each row x of (M, N) as exp(x - max) / sum(exp(x - max)) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    return torch.cat([_softmax(rows, dtype, tile.parts) for rows in chunks(x, tile)])


def _log_softmax(x: Tensor, dtype: torch.dtype, parts: int) -> Tensor:
    """A chunk of rows (M, N) -> (M, N)."""
    values = x.float()
    shifted = values - values.amax(1, keepdim=True)
    total = row_sum(each_row(torch.exp, shifted), parts)
    return rounded(shifted - each_row(torch.log, total), dtype)


def log_softmax(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: CpuTile = USUAL) -> Tensor:
    """Each row x of (M, N) as x - max - log(sum(exp(x - max))) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    return torch.cat([_log_softmax(rows, dtype, tile.parts) for rows in chunks(x, tile)])


def mean(x: Tensor, *, out_dtype: torch.dtype | None = None, tile: CpuTile = USUAL) -> Tensor:
    """The mean of each row of `x` (M, N) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    means = [row_sum(rows.float(), tile.parts)[:, 0] / x.shape[1] for rows in chunks(x, tile)]
    return rounded(torch.cat(means), dtype)


def kernels(label: str) -> dict[str, Callable[..., Any]]:
    """The kernels of one tile."""
    found: dict[str, Callable[..., Any]] = {
        "rms_norm": rms_norm, "fused_add_rms_norm": fused_add_rms_norm,
        "softmax": softmax, "log_softmax": log_softmax, "mean": mean,
    }  # fmt: skip
    return {operator: partial(function, tile=CPU_TILES[label]) for operator, function in found.items()}
