"""``torch``: the default kernels, on CUDA and on CPU.  The arm that all others are compared with."""

from __future__ import annotations

from kernels_bench.arms.base import Arm, Kernel, Unsupported
from kernels_bench.arms.pytorch.padded_attention import attention, latent_attention
from kernels_bench.device.lazy_torch import F, torch


def mm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.mm``."""
    return torch.mm(a, b) if out_dtype is a.dtype else _widened(torch.mm, a, b, out_dtype=out_dtype)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, out_dtype: torch.dtype
) -> torch.Tensor:
    """``torch.nn.functional.linear``; an fp32 result comes from the product that it is made of."""
    if out_dtype is x.dtype:
        return F.linear(x, weight, bias)
    if bias is None:
        return _widened(torch.mm, x, weight.t(), out_dtype=out_dtype)
    return _widened(torch.addmm, bias, x, weight.t(), out_dtype=out_dtype)


def addmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.addmm``."""
    return torch.addmm(bias, a, b) if out_dtype is a.dtype else _widened(torch.addmm, bias, a, b, out_dtype=out_dtype)


def bmm(a: torch.Tensor, b: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.bmm``."""
    return torch.bmm(a, b) if out_dtype is a.dtype else _widened(torch.bmm, a, b, out_dtype=out_dtype)


def _widened(product: Kernel, *operands: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor:
    """An fp32 result of 16-bit inputs, which torch gives on CUDA only."""
    if operands[0].device.type != "cuda":
        raise Unsupported(f"torch {torch.__version__} gives an fp32 result of 16-bit inputs on CUDA only")
    result: torch.Tensor = product(*operands, out_dtype=out_dtype)
    return result


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``torch.nn.functional.rms_norm``."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def fused_add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """torch has no fused kernel: an addition and a norm, as a model without vLLM runs them."""
    total = x + residual
    return rms_norm(total, weight, eps), total


def softmax(x: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.softmax``."""
    return torch.softmax(x, -1, dtype=out_dtype)


def log_softmax(x: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.log_softmax``."""
    return torch.log_softmax(x, -1, dtype=out_dtype)


def mean(x: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
    """``torch.mean``."""
    return torch.mean(x, -1, dtype=out_dtype)


KERNELS: dict[str, Kernel] = {
    "mm": mm,
    "linear": linear,
    "linear_bias": linear,
    "addmm": addmm,
    "bmm": bmm,
    "bmm_heads": bmm,
    "rms_norm": rms_norm,
    "fused_add_rms_norm": fused_add_rms_norm,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "mean": mean,
    "attention_decode": attention,
    "attention_prefill": attention,
    "attention_mixed": attention,
    "mla_decode": latent_attention,
}

ARM = Arm(
    name="torch",
    kernels=lambda: KERNELS,
    claims=False,
    summary="torch's default kernels (cuBLAS and ATen on CUDA, MKL/oneDNN and ATen on CPU)",
    provenance=lambda: f"torch {torch.__version__}",
    brief=("attention_decode", "attention_prefill", "attention_mixed", "mla_decode"),
)
