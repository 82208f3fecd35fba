"""Products on the CPU: a series of equal calls, one row each, so that no row has neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, result_dtype
from kernels_bench.arms.samebits.rounding import rounded

# torch allocates on this boundary; matrix libraries may choose another path for a matrix that is off it.
ALIGNMENT_BYTES = 64


def _aligned(matrix: Tensor) -> Tensor:
    """`matrix` in fp32 on `ALIGNMENT_BYTES`, without gaps, stored by rows or by columns as it was; itself if it can."""
    matrix = matrix.float()
    dense = matrix.is_contiguous() or matrix.t().is_contiguous()
    return matrix if dense and matrix.data_ptr() % ALIGNMENT_BYTES == 0 else matrix.clone()


def lined_up(*shape: int) -> Tensor:
    """An empty fp32 tensor, each row of which begins on `ALIGNMENT_BYTES`: calls of one row each find all alike."""
    *others, n = shape
    line = ALIGNMENT_BYTES // torch.float32.itemsize
    return torch.empty(*others, -(-n // line) * line, dtype=torch.float32)[..., :n]


def _gemm(a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(M, K) x (K, N) + (N,) -> (M, N): M calls of (1, K) x (K, N)."""
    out = lined_up(a.shape[0], b.shape[1])
    _multiply(lined_up(*a.shape).copy_(a), _aligned(b), out)
    if bias is not None:
        out += bias.float()
    return rounded(out, dtype).contiguous()


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Rows (M, K) x fp32 (K, N) -> `out` (M, N), both lined up: (1, K) x (K, N) for each row."""
    for row, result in zip(a[:, None].unbind(), out[:, None].unbind(), strict=True):
        torch.mm(row, b, out=result)


def mm(a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`a` (M, K) times `b` (K, N) -> (M, N); any strides.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, None, ndim=2)
    return _gemm(a, b, None, result_dtype((a, b), out_dtype))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`x` (M, K) times the transpose of `weight` (N, K), plus `bias` (N,) in fp32 -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(x, weight.t(), bias, ndim=2)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return _gemm(x, weight.t(), bias, result_dtype(inputs, out_dtype))


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`bias` (N,) plus `a` (M, K) times `b` (K, N), added in fp32 -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, bias, ndim=2)
    return _gemm(a, b, bias, result_dtype((a, b, bias), out_dtype))


def bmm(a: Tensor, b: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """`a` (B, M, K) times `b` (B, K, N) -> (B, M, N), one matrix after the other; any strides.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_gemm(a, b, None, ndim=3)
    dtype = result_dtype((a, b), out_dtype)
    shape = (*a.shape[:2], b.shape[2])
    lefts, out = lined_up(*a.shape).copy_(a), lined_up(*shape)
    for left, right, result in zip(lefts.unbind(), b.unbind(), out.unbind(), strict=True):
        _multiply(left, _aligned(right), result)
    return rounded(out, dtype).contiguous()
