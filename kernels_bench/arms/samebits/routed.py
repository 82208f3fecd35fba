"""The samebits operators whose rows choose experts or an adapter, on CPUs and GPUs alike.

They are made of two things that keep a row's bits whatever stands beside it: ``linear``, to which it is all the same
how many rows an expert has, and element-wise additions in the order of a row's choices. Nothing is added with atomics,
and experts and adapters are taken one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor

from kernels_bench.arms.base import Kernel


def kernels(gemm: ModuleType, rows: ModuleType, layers: ModuleType) -> Mapping[str, Kernel]:
    """By operator, made of a device's matrix products, row operators and activations."""

    def chosen(x: Tensor, matrices: Tensor, ids: Tensor) -> Tensor:
        """Each row of ``x`` (M, K) times the transpose of its own one of ``matrices`` (choices, N, K), in fp32."""
        out = torch.empty(len(x), matrices.shape[1], device=x.device)
        for choice in ids.unique().tolist():
            (places,) = (ids == choice).nonzero(as_tuple=True)
            out[places] = gemm.linear(x[places], matrices[choice].to(x.dtype), out_dtype=torch.float32)
        return out

    def moe_experts(x: Tensor, w1: Tensor, w2: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
        total = torch.zeros(x.shape, device=x.device)
        for place in range(ids.shape[1]):
            between = layers.silu_and_mul(chosen(x, w1, ids[:, place])).to(x.dtype)
            total += chosen(between, w2, ids[:, place]) * weights[:, place, None]
        return _rounded(total, x.dtype)

    def moe_gating(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Of equal logits the first expert's come first."""
        ordered, ids = logits.float().sort(dim=1, descending=True, stable=True)
        return rows.softmax(ordered[:, :top].contiguous()), ids[:, :top].int()

    def lora_shrink(x: Tensor, a: Tensor, ids: Tensor) -> Tensor:
        return _rounded(chosen(x, a, ids), torch.float32)

    def lora_expand(x: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> Tensor:
        return _rounded(y.float() + chosen(x, b, ids), y.dtype)

    return {
        "router_gemm": gemm.linear,
        "moe_experts": moe_experts,
        "moe_gating": moe_gating,
        "moe_sum": moe_sum,
        "lora_shrink": lora_shrink,
        "lora_expand": lora_expand,
    }


def moe_sum(x: Tensor) -> Tensor:
    """The sum of (M, top, H) over its second dimension, one after the other in fp32 -> (M, H)."""
    first, *others = x.unbind(1)
    total = first.float().clone()
    for one in others:
        total += one
    return _rounded(total, x.dtype)


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to a dtype, every NaN with the same bits: its sign and payload are left open by IEEE 754."""
    result = values.to(dtype)
    return result.masked_fill_(result.isnan(), torch.nan)
