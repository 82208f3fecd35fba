"""Quantisers in plain torch, and products over eight bits: ``torch._scaled_mm``, and where it has none, dequantised."""

from __future__ import annotations

from functools import cache

from kernels_bench.arms.base import Kernel, Unsupported
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.layers.fp8 import GROUP, LARGEST, LEAST_MAXIMUM, LEAST_SCALE, dequantised

_MULTIPLE = 16
"""Of K and N, which ``torch._scaled_mm`` needs on CUDA."""


def _narrowed(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def fp8_quant_token(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row, in fp32."""
    wide = x.float()
    scale = (wide.abs().amax(1, keepdim=True) / LARGEST).clamp(min=LEAST_SCALE)
    return _narrowed(wide / scale), scale


def fp8_quant_group(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Likewise of each group."""
    groups = x.float().unflatten(1, (-1, GROUP))
    scale = groups.abs().amax(2).clamp(min=LEAST_MAXIMUM) / LARGEST
    return _narrowed((groups / scale[..., None]).flatten(1)), scale


def fp8_quant_static(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """By the scale that is given."""
    return _narrowed(x.float() / scale)


def fp8_quant_tensor(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of all."""
    wide = x.float()
    scale = (wide.abs().amax() / LARGEST).clamp(min=LEAST_SCALE).reshape(1)
    return _narrowed(wide / scale), scale


def rms_norm_quant(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``F.rms_norm``, whose result is rounded, and a quantiser, as a model without a fused kernel runs them."""
    return fp8_quant_token(F.rms_norm(x, (x.shape[-1],), weight, eps))


def scaled_mm(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, *, out_dtype: torch.dtype
) -> torch.Tensor:
    """``torch._scaled_mm``, with scales of rows and columns or with one each."""
    if a.is_cuda:
        if b.shape[0] % _MULTIPLE or b.shape[1] % _MULTIPLE:
            raise Unsupported("torch._scaled_mm takes K and N that are multiples of 16")
        if scale_a.numel() > 1 and out_dtype is not torch.bfloat16:
            raise Unsupported("torch._scaled_mm with scales of rows gives bf16")
    elif not _multiplies_eight_bits(of_rows=scale_a.numel() > 1):
        if scale_a.numel() > 1:
            raise Unsupported(f"torch._scaled_mm of torch {torch.__version__} has no scales of rows on this processor")
        raise Unsupported("torch._scaled_mm with one scale needs a processor for which oneDNN multiplies eight bits")
    product: torch.Tensor = torch._scaled_mm(a, b, scale_a, scale_b, out_dtype=out_dtype)
    return product


@cache
def _multiplies_eight_bits(of_rows: bool) -> bool:
    """Whether torch has such a product for this processor: it is not to be asked, and ends in an error without it."""
    scale = torch.ones(*((_MULTIPLE, 1) if of_rows else (1,)), dtype=torch.float32)
    numbers = torch.zeros(_MULTIPLE, _MULTIPLE, dtype=torch.float32).to(torch.float8_e4m3fn)
    try:
        torch._scaled_mm(numbers, numbers.t(), scale, scale.t() if of_rows else scale, out_dtype=torch.bfloat16)
    except RuntimeError:
        return False
    return True


def scaled_mm_block(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, *, out_dtype: torch.dtype
) -> torch.Tensor:
    """Both dequantised to the result's dtype, as fallbacks of engines do, and ``F.linear``."""
    left, right = dequantised(a.float(), scale_a), dequantised(b.float(), scale_b)
    return F.linear(left.to(out_dtype), right.to(out_dtype))


def fp8_weight_linear(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight dequantised to x's dtype, and ``F.linear``."""
    return F.linear(x, dequantised(weight.float(), scale).to(x.dtype))


KERNELS: dict[str, Kernel] = {
    "fp8_quant_token": fp8_quant_token,
    "fp8_quant_group": fp8_quant_group,
    "fp8_quant_static": fp8_quant_static,
    "fp8_quant_tensor": fp8_quant_tensor,
    "rms_norm_quant": rms_norm_quant,
    "scaled_mm_token": scaled_mm,
    "scaled_mm_tensor": scaled_mm,
    "scaled_mm_block": scaled_mm_block,
    "fp8_weight_linear": fp8_weight_linear,
}
