"""The samebits arm on the CPU: batch-invariant operators in plain torch.

torch's own CPU GEMM is batch-variant, and padding it to a tile does not help: with MKL the rows of one tile
differ by their place in it (row modulo 4, at N <= 8 or at odd K, and at larger N with more threads). Three
rules keep the bits of a row free of its company, whatever the library does inside a call:

* a GEMM is a series of equal calls, one row each: same shape, same buffers, so no row has neighbours;
* sums are folded in halves by element-wise additions, which IEEE 754 rounds alike wherever they stand;
* `exp`, `log` and `rsqrt`, which no standard rounds, see one row at a time in a fresh buffer, so that an
  element's place in their vector loops and thread shares is its column and nothing else.

16-bit inputs are computed in fp32 and rounded once. Every NaN gets the same bits at the end: its sign and
payload are left open by IEEE 754, and may differ between vector and scalar code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_gemm, check_rows, result_dtype

# Rows worked on together by the row operators: for the sake of caches and memory only, no bit depends on it.
CHUNK_ROWS = 32

# torch allocates on this boundary; matrix libraries may choose another path for a matrix that is off it.
ALIGNMENT_BYTES = 64


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Fp32 values rounded to a dtype, every NaN with the same bits."""
    result = values.to(dtype)
    return result.masked_fill_(result.isnan(), torch.nan)


def _aligned(matrix: Tensor) -> Tensor:
    """`matrix` in fp32 on `ALIGNMENT_BYTES`; itself if it is already."""
    matrix = matrix.float()
    return matrix.clone() if matrix.data_ptr() % ALIGNMENT_BYTES else matrix


def _gemm(a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(M, K) x (K, N) + (N,) -> (M, N): M calls of (1, K) x (K, N)."""
    out = torch.empty(a.shape[0], b.shape[1])
    _RowByRow(a.shape[1], b.shape[1]).multiply(a, _aligned(b), out)
    if bias is not None:
        out += bias.float()
    return rounded(out, dtype)


class _RowByRow:
    """Products of one row each, (1, K) x (K, N), always in the same buffers."""

    def __init__(self, k: int, n: int) -> None:
        self._left, self._product = torch.empty(1, k), torch.empty(1, n)

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """(M, K) x fp32 (K, N) -> `out`, fp32 (M, N)."""
        left, product = self._left[0], self._product[0]
        for row, result in zip(a.unbind(), out.unbind(), strict=True):
            left.copy_(row)
            torch.mm(self._left, b, out=self._product)
            result.copy_(product)


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
    out = torch.empty(*a.shape[:2], b.shape[2])
    rows = _RowByRow(a.shape[2], b.shape[2])
    for left, right, result in zip(a.unbind(), b.unbind(), out.unbind(), strict=True):
        rows.multiply(left, _aligned(right), result)
    return rounded(out, dtype)


def _row_sum(x: Tensor) -> Tensor:
    """Fp32 (M, N) -> (M, 1): fold the right half onto the left one until one column remains."""
    width = x.shape[1]
    while width > 1:
        half = (width + 1) // 2
        folded = x[:, :half].clone()
        folded[:, : width - half] += x[:, half:width]
        x, width = folded, half
    return x


def _each_row(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply `function` to each row of (M, N), always in a fresh buffer of shape (N,)."""
    out = torch.empty_like(x)
    for result, row in zip(out, x, strict=True):
        result.copy_(function(row.clone()))
    return out


def _chunks(x: Tensor) -> list[Tensor]:
    """`x` (M, N) in pieces of `CHUNK_ROWS` rows, one at least."""
    return [x[start : start + CHUNK_ROWS] for start in range(0, max(len(x), 1), CHUNK_ROWS)]


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """A chunk of rows (M, N), weight (N,) -> (M, N)."""
    values = x.float()
    mean_square = _row_sum(values * values) / x.shape[1]
    return rounded(values * _each_row(torch.rsqrt, mean_square + eps) * weight.float(), x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each row x of (M, N) as x / sqrt(mean(x²) + eps) * `weight` (N,) -> (M, N), in the inputs' dtype.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight)
    result_dtype((x, weight), None)
    return torch.cat([_rms_norm(rows, weight, eps) for rows in _chunks(x)])


def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`summed` = x + residual, rounded, and `rms_norm` of it; both (M, N), new, returned as (normed, summed).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight, residual)
    dtype = result_dtype((x, residual, weight), None)
    chunks = zip(_chunks(x), _chunks(residual), strict=True)
    summed = torch.cat([rounded(rows.float() + others.float(), dtype) for rows, others in chunks])
    return rms_norm(summed, weight, eps), summed


def silu_and_mul(x: Tensor) -> Tensor:
    """Each row of `x` (M, 2 D): silu of its first half, times the second, in fp32 -> (M, D).

    Raises ValueError for shapes that do not fit.
    """
    check_rows(x)
    gate, up = x.float().chunk(2, 1)
    return _each_row(torch.nn.functional.silu, gate.contiguous()) * up


def _softmax(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A chunk of rows (M, N) -> (M, N)."""
    values = x.float()
    powers = _each_row(torch.exp, values - values.amax(1, keepdim=True))
    return rounded(powers / _row_sum(powers), dtype)


def softmax(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Each row x of (M, N) as exp(x - max) / sum(exp(x - max)) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    return torch.cat([_softmax(rows, dtype) for rows in _chunks(x)])


def _log_softmax(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A chunk of rows (M, N) -> (M, N)."""
    values = x.float()
    shifted = values - values.amax(1, keepdim=True)
    total = _row_sum(_each_row(torch.exp, shifted))
    return rounded(shifted - _each_row(torch.log, total), dtype)


def log_softmax(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """Each row x of (M, N) as x - max - log(sum(exp(x - max))) -> (M, N).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    return torch.cat([_log_softmax(rows, dtype) for rows in _chunks(x)])


def mean(x: Tensor, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """The mean of each row of `x` (M, N) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x)
    dtype = result_dtype((x,), out_dtype)
    means = [_row_sum(rows.float())[:, 0] / x.shape[1] for rows in _chunks(x)]
    return rounded(torch.cat(means), dtype)
