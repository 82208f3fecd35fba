"""Numbers of eight bits on the CPU.

A maximum has no order, and divisions and conversions are rounded alike wherever they stand. Products are made of
dequantised rows, one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.arms.samebits.cpu import gemm, rows
from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.operators.layers.fp8 import GROUP, LARGEST, LEAST_MAXIMUM, LEAST_SCALE, dequantised

_NAN = 0x7F


def _one_nan(scale: Tensor) -> Tensor:
    return scale.masked_fill(scale.isnan(), torch.nan)


def _narrowed(values: Tensor) -> Tensor:
    """Fp32 values in e4m3, the largest for what is larger, every NaN with the same bits."""
    narrow = values.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return narrow.view(torch.uint8).masked_fill(values.isnan(), _NAN).view(torch.float8_e4m3fn)


def fp8_quant_token(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and the scale of each row, fp32 (M, 1)."""
    wide = x.float()
    scale = _one_nan((wide.abs().amax(1, keepdim=True) / LARGEST).clamp(min=LEAST_SCALE))
    return _narrowed(wide / scale), scale


def fp8_quant_group(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and the scale of each group of 128, fp32 (M, K / 128)."""
    groups = x.float().unflatten(1, (-1, GROUP))
    scale = _one_nan(groups.abs().amax(2).clamp(min=LEAST_MAXIMUM) / LARGEST)
    return _narrowed((groups / scale[..., None]).flatten(1)), scale


def fp8_quant_static(x: Tensor, scale: Tensor) -> Tensor:
    """`x` (M, K) over one `scale` (1) -> e4m3 (M, K)."""
    return _narrowed(x.float() / scale)


def fp8_quant_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and one scale (1), which depends on all rows by definition."""
    wide = x.float()
    scale = _one_nan((wide.abs().amax() / LARGEST).clamp(min=LEAST_SCALE)).reshape(1)
    return _narrowed(wide / scale), scale


def rms_norm_quant(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`fp8_quant_token` of `rows.rms_norm`, which is rounded to `x`'s dtype."""
    return fp8_quant_token(rows.rms_norm(x, weight, eps))


def scaled_mm(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
    """`a` (M, K) times `b` (K, N) in eight bits, times scales of rows (M, 1) or (1) and columns (1, N) or (1)."""
    product = gemm.mm(a.float(), b.float(), out_dtype=torch.float32)
    return rounded(product * scale_a * scale_b, out_dtype)


def scaled_mm_block(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
    """`a` (M, K) with scales of its groups times the transpose of `b` (N, K) with scales of its blocks."""
    left, right = dequantised(a.float(), scale_a), dequantised(b.float(), scale_b)
    return rounded(gemm.linear(left, right), out_dtype)


def fp8_weight_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """`x` (M, K) times the transpose of `weight` (N, K) in eight bits with scales of its blocks."""
    return rounded(gemm.linear(x.float(), dequantised(weight.float(), scale)), x.dtype)
