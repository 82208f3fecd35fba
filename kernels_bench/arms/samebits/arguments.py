"""What samebits' kernels ask of their arguments, on CPUs and GPUs alike."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def result_dtype(inputs: tuple[Tensor, ...], out_dtype: torch.dtype | None) -> torch.dtype:
    """The dtype of a result: the inputs' own, or float32 if asked for.

    Raises:
        TypeError: the inputs differ in dtype, their dtype is none of `DTYPES`, or `out_dtype` is neither the
            inputs' dtype nor float32.
    """
    dtypes = {tensor.dtype for tensor in inputs}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise TypeError(f"inputs must share one dtype of {DTYPES}, not {sorted(map(str, dtypes))}")
    dtype = inputs[0].dtype
    if out_dtype not in (None, dtype, torch.float32):
        raise TypeError(f"out_dtype must be {dtype} or torch.float32, not {out_dtype}")
    return out_dtype or dtype


def check_gemm(a: Tensor, b: Tensor, bias: Tensor | None, ndim: int) -> None:
    """Raise ValueError unless `a` (..., M, K), `b` (..., K, N), `bias` (N,) fit in `ndim` dimensions."""
    fits = a.ndim == b.ndim == ndim and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]
    if not fits or a.shape[-1] == 0:
        raise ValueError(f"cannot multiply {tuple(a.shape)} by {tuple(b.shape)}")
    if bias is not None and bias.shape != b.shape[-1:]:
        raise ValueError(f"bias must have shape {tuple(b.shape[-1:])}, not {tuple(bias.shape)}")


def check_rows(x: Tensor, weight: Tensor | None = None, residual: Tensor | None = None) -> None:
    """Raise ValueError unless `x` is (M, N) with N >= 1, `weight` (N,) and `residual` (M, N)."""
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"rows must have shape (M, N) with N >= 1, not {tuple(x.shape)}")
    if weight is not None and weight.shape != x.shape[1:]:
        raise ValueError(f"weight must have shape {tuple(x.shape[1:])}, not {tuple(weight.shape)}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must have shape {tuple(x.shape)}, not {tuple(residual.shape)}")


def check_halves(x: Tensor) -> None:
    """Raise ValueError unless `x` is (M, 2D) with D >= 1."""
    check_rows(x)
    if x.shape[1] % 2:
        raise ValueError(f"rows must have two halves, not {x.shape[1]} elements")


def check_heads(x: Tensor, head_dim: int) -> None:
    """Raise ValueError unless `x` is (M, heads * `head_dim`), each head of two halves."""
    check_rows(x)
    if head_dim < 1 or head_dim % 2 or x.shape[1] % head_dim:
        raise ValueError(f"rows of {x.shape[1]} elements are no heads of two halves of {head_dim}")


def check_tokens(logits: Tensor, tokens: Tensor) -> None:
    """Raise ValueError unless `logits` is (M, N) and `tokens` (M,)."""
    check_rows(logits)
    if tokens.shape != logits.shape[:1]:
        raise ValueError(f"tokens must have shape {tuple(logits.shape[:1])}, not {tuple(tokens.shape)}")
