"""What vLLM's layers call for a mixture of experts and for adapters on a GPU: the same names with its flag and without.

Modules are imported when a kernel is first called: a run of norms or GEMMs need not wait for them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel, Unsupported
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import F, torch

OPERATORS = ("router_gemm", "moe_gating", "moe_experts", "moe_sum", "lora_shrink", "lora_expand")

_MOE = "model_executor.layers.fused_moe"
_FEW, _FP32_FEW = 16, 32
"""Tokens up to which a router has kernels for few of them, of bf16 and of fp32 weights."""
_FEW_SIZES = {(7168, 256), (7168, 384), (6144, 256)}
_FP32_SIZES = {(3072, 256), (6144, 128), (6144, 256)}
"""(Hidden size, experts) that these are made for."""


def kernels(batch_invariant: bool) -> Mapping[str, Kernel]:
    """By operator; the flag itself is read by vLLM, once a process.

    Args:
        batch_invariant: whether the flag is set.
    """
    return {
        "router_gemm": _router(batch_invariant),
        "moe_gating": moe_gating,
        "moe_experts": moe_experts,
        "moe_sum": moe_sum,
        "lora_shrink": Shrink(),
        "lora_expand": Expand(),
    }


def moe_experts(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """``fused_experts``: Triton, its tile from a table by how many tokens there are."""
    fused_experts = loaded(f"{_MOE}.fused_moe", "fused_experts")
    result: torch.Tensor = fused_experts(x, w1, w2, topk_weights=weights, topk_ids=ids)
    return result


def moe_gating(logits: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``fused_topk``, which takes of the hidden states only how many there are."""
    fused_topk = loaded(f"{_MOE}.router.fused_topk_router", "fused_topk")
    weights, ids, *_ = fused_topk(logits, logits, top, True)
    return weights, ids


def moe_sum(x: torch.Tensor) -> torch.Tensor:
    """``_custom_ops.moe_sum``."""
    out = x.new_empty(len(x), x.shape[2])
    loaded("_custom_ops", "moe_sum")(x, out)
    return out


def _router(batch_invariant: bool) -> Kernel:
    """What ``GateLinear`` chooses by the number of tokens; versions from 0.33 on choose nothing under the flag."""

    @cache
    def chooses() -> bool:
        module = importlib.import_module(f"vllm.{_MOE}.router.gate_linear")
        return not batch_invariant or "BATCH_INVARIANT" not in inspect.getsource(module)

    def router_gemm(x: torch.Tensor, weight: torch.Tensor, *, out_dtype: torch.dtype) -> torch.Tensor:
        kernel = _for_few(x, weight, out_dtype) if chooses() else None
        if kernel is not None:
            return kernel(x, weight)
        if out_dtype is x.dtype:
            return F.linear(x, weight)
        return torch.mm(x, weight.t(), out_dtype=out_dtype)

    return router_gemm


def _for_few(
    x: torch.Tensor, weight: torch.Tensor, out_dtype: torch.dtype
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """The kernel for so few tokens, if there is one for these sizes and dtypes."""
    sizes, tokens = (weight.shape[1], weight.shape[0]), len(x)
    if x.dtype is torch.float32:
        few = sizes in _FP32_SIZES and tokens <= _FP32_FEW
        return loaded("_custom_ops", "fp32_router_gemm") if few else None
    if x.dtype is not torch.bfloat16 or out_dtype is not torch.float32 or tokens > _FEW:
        return None
    if (low_latency := _low_latency()) is not None:
        return low_latency
    if sizes not in _FEW_SIZES or not hasattr(importlib.import_module("vllm._custom_ops"), "dsv3_router_gemm"):
        return None
    dsv3 = loaded("_custom_ops", "dsv3_router_gemm")
    return lambda x, weight: dsv3(x, weight, torch.float32)


@cache
def _low_latency() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """The kernel in CUTLASS' Python, where that is installed and vLLM has it."""
    try:
        module = importlib.import_module("vllm.model_executor.kernels.linear.cute_dsl.ll_bf16")
    except ImportError:
        return None
    return module.ll_bf16_gemm if module.is_available() else None


class _Adapters(PreparedKernel):
    """A kernel of vLLM's adapters, which sorts tokens by adapter once a step."""

    def _meta(self, ids: torch.Tensor, adapters: torch.Tensor) -> tuple[Any, ...]:
        if adapters.dtype is torch.float32:
            raise Unsupported("vLLM's adapters are of bf16 or fp16")
        meta = loaded("lora.ops.triton_ops", "LoRAKernelMeta").make(len(adapters), len(ids), ids.device)
        meta.prepare_tensors(ids)
        arguments: tuple[Any, ...] = meta.meta_args(len(ids), False)
        return arguments


class Shrink(_Adapters):
    """``lora_shrink`` of one slice, into an fp32 buffer."""

    def prepare(self, x: torch.Tensor, a: torch.Tensor, ids: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Sort the tokens."""
        meta = self._meta(ids, a)
        shrink = loaded("lora.ops.triton_ops", "lora_shrink")

        def call() -> torch.Tensor:
            out = torch.empty(1, len(x), a.shape[1], dtype=torch.float32, device=x.device)
            shrink(x, [a], out, *meta, 1.0)
            return out[0]

        return call


class Expand(_Adapters):
    """``lora_expand`` of one slice, which adds to what the layer gave."""

    def prepare(
        self, x: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, y: torch.Tensor
    ) -> Callable[[], torch.Tensor]:
        """Sort the tokens."""
        meta = self._meta(ids, b)
        expand = loaded("lora.ops.triton_ops", "lora_expand")

        def call() -> torch.Tensor:
            expand(x[None], [b], y, *meta, offset_start=0, add_inputs=True)
            return y

        return call
