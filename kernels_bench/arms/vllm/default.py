"""``vllm-default``: vLLM's own default kernels, those that its models call without the flag."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.arms.vllm.calls import fp8, gated_delta, layers, routed, state
from kernels_bench.arms.vllm.installed import environment, missing, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device


def kernels() -> Mapping[str, Kernel]:
    """``vllm._custom_ops``, whose norms write into a given tensor or in place."""
    ops = importlib.import_module("vllm._custom_ops")

    def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out = torch.empty_like(x)
        ops.rms_norm(out, x, weight, eps)
        return out

    def fused_add_rms_norm(
        x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ops.fused_add_rms_norm(x, residual, weight, eps)
        return x, residual

    return {
        "rms_norm": rms_norm,
        "qk_norm": rms_norm,
        "fused_add_rms_norm": fused_add_rms_norm,
        **layers.kernels(),
        **routed.kernels(batch_invariant=False),
        **fp8.kernels(),
        **state.kernels(),
        **gated_delta.kernels(),
    }


def unavailable(device: Device) -> str | None:
    """vLLM absent, or no CUDA."""
    return missing(device, "vLLM's CUDA kernels need a CUDA GPU")


ARM = Arm(
    name="vllm-default",
    kernels=kernels,
    claims=False,
    summary="vLLM's default kernels beside GEMMs and attention",
    environment=environment(batch_invariant=False),
    unavailable=unavailable,
    provenance=lambda: f"vLLM {version()}: what its layers call",
    offers=(
        *("rms_norm", "qk_norm", "fused_add_rms_norm"),
        *(name for file in (layers, routed, fp8, state, gated_delta) for name in file.OPERATORS),
    ),
    brief=layers.COMPILED_BY_SIZE,
)
