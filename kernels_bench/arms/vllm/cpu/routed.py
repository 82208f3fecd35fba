"""Kernels of vLLM's build for CPUs whose rows choose experts or an adapter."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from kernels_bench.arms.base import Kernel, PreparedKernel, Unsupported
from kernels_bench.arms.vllm.installed import version
from kernels_bench.device.lazy_torch import torch

OPERATORS = ("moe_experts", "moe_gating", "lora_shrink", "lora_expand")
ALIGNED = 32
"""Elements by which the sizes of an expert must be divisible."""


class Experts(PreparedKernel):
    """``cpu_fused_moe``, whose weights vLLM packs when it loads them."""

    def __init__(self) -> None:
        self._ops = importlib.import_module("vllm._custom_ops")
        if torch.cpu._is_amx_tile_supported():
            # What a process must ask the system for once. In an engine an earlier product of torch's has done so;
            # without it the kernel would end its process.
            torch.cpu._init_amx()

    def prepare(
        self, x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
    ) -> Callable[[], torch.Tensor]:
        """Pack the weights, which `CPUUnquantizedExperts` of vLLM pads where experts are not divisible."""
        if x.shape[1] % ALIGNED:
            raise Unsupported(f"vLLM's experts on CPUs need a hidden size divisible by {ALIGNED}: {x.shape[1]} is not")
        amx = x.dtype is torch.bfloat16 and torch.cpu._is_amx_tile_supported()
        isa = "amx" if amx else "vec"
        first, second = (self._ops.cpu_prepack_moe_weight(w, isa) for w in _padded(w1, w2))

        def call() -> torch.Tensor:
            out = torch.empty_like(x)
            self._ops.cpu_fused_moe(out, x, first, second, None, None, weights, ids, "silu", isa)
            return out

        return call


def _padded(w1: torch.Tensor, w2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With zeros up to a multiple of `ALIGNED` between the products, which take no part in any sum."""
    inter = w2.shape[2]
    more = -inter % ALIGNED
    if not more:
        return w1, w2
    halves = [torch.nn.functional.pad(half, (0, 0, 0, more)) for half in w1.split(inter, 1)]
    return torch.cat(halves, 1), torch.nn.functional.pad(w2, (0, more))


def moe_gating(logits: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What vLLM's router for CPUs calls without groups and without a bias; to import it takes seconds."""
    router = importlib.import_module("vllm.model_executor.layers.fused_moe.router.cpu_router")
    if not hasattr(router, "_softmax_topk"):
        raise Unsupported(f"vLLM {version()}: its router for CPUs has no _softmax_topk")
    weights, ids = router._softmax_topk(logits, top, renormalize=True)
    return weights, ids


def lora_shrink(x: torch.Tensor, a: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """What `PunicaWrapperCPU` of vLLM calls, for prefill and decode alike."""
    ops = importlib.import_module("vllm.lora.ops.torch_ops")
    out = torch.zeros(len(x), a.shape[1], dtype=torch.float32)
    ops.bgmv_shrink(x, a, out, ids)
    return out


def lora_expand(x: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Likewise."""
    ops = importlib.import_module("vllm.lora.ops.torch_ops")
    ops.bgmv_expand(x, b, y, ids, add_inputs=True)
    return y


def kernels() -> Mapping[str, Kernel]:
    """By operator."""
    return {
        "moe_experts": Experts(),
        "moe_gating": moe_gating,
        "lora_shrink": lora_shrink,
        "lora_expand": lora_expand,
    }
