"""``torch``: the default kernels, on CUDA and on CPU.  The arm that all others are compared with."""

from __future__ import annotations

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.arms.pytorch.calls import fp8, gated_delta, gemm, layers, lora, moe, state
from kernels_bench.arms.pytorch.calls.padded_attention import attention, latent_attention, packed_attention
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.paged import FP8, PLAIN, VARIANT, operators_of


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


ATTENTION = operators_of(PLAIN, VARIANT, FP8)
KERNELS: dict[str, Kernel] = {
    **gemm.KERNELS,
    **layers.KERNELS,
    **lora.KERNELS,
    **moe.KERNELS,
    **fp8.KERNELS,
    **state.KERNELS,
    **gated_delta.KERNELS,
    "rms_norm": rms_norm,
    "fused_add_rms_norm": fused_add_rms_norm,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "mean": mean,
    **dict.fromkeys(ATTENTION, attention),
    "mla_decode": latent_attention,
    "mla_prefill": packed_attention,
}

ARM = Arm(
    name="torch",
    kernels=lambda: KERNELS,
    claims=False,
    summary="torch's default kernels (cuBLAS and ATen on CUDA, MKL/oneDNN and ATen on CPU)",
    provenance=lambda: f"torch {torch.__version__}",
    brief=(*ATTENTION, "mla_decode"),
    offers=tuple(KERNELS),
)
