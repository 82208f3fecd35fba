"""The samebits operators whose rows choose experts or an adapter, on CPUs and GPUs alike.

They are made of two things that keep a row's bits whatever stands beside it: products, to which it is all the same how
many rows an expert has, and element-wise additions in the order of a row's choices. Nothing is added with atomics.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.samebits.rounding import rounded


class Chosen(Protocol):
    """Multiplies rows with matrices of their own choice."""

    def __call__(self, x: Tensor, matrices: Tensor, ids: Tensor, top: int = 1) -> Tensor:
        """As of `one_by_one`, less its first argument."""


def one_by_one(linear: Kernel, x: Tensor, matrices: Tensor, ids: Tensor, top: int = 1) -> Tensor:
    """Rows of ``x`` (M, K), each times the transposes of ``top`` of ``matrices`` (choices, N, K) -> (M top, N).

    In fp32, choice after choice. ``ids`` (M top,) say which, those of a row beside each other.
    """
    out = torch.empty(len(ids), matrices.shape[1], dtype=torch.float32, device=x.device)
    for choice in ids.unique().tolist():
        (places,) = (ids == choice).nonzero(as_tuple=True)
        out[places] = linear(x[places // top], matrices[choice].to(x.dtype), out_dtype=torch.float32)
    return out


def kernels(
    gemm: ModuleType, rows: ModuleType, layers: ModuleType, chosen: Chosen | None = None
) -> Mapping[str, Kernel]:
    """By operator, made of a device's matrix products, row operators and activations.

    Args:
        gemm: has ``linear``.
        rows: has ``softmax``.
        layers: has ``silu_and_mul``.
        chosen: the product with chosen matrices; of ``linear`` where there is none.
    """
    times: Chosen = chosen or partial(one_by_one, gemm.linear)

    def moe_experts(x: Tensor, w1: Tensor, w2: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
        top, flat = ids.shape[1], ids.flatten()
        between = layers.silu_and_mul(times(x, w1, flat, top)).to(x.dtype)
        first, *others = (times(between, w2, flat) * weights.flatten()[:, None]).unflatten(0, (-1, top)).unbind(1)
        total = first.clone()
        for one in others:
            total += one
        return rounded(total, x.dtype)

    def moe_gating(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Of equal logits the first expert's come first."""
        ordered, ids = logits.float().sort(dim=1, descending=True, stable=True)
        return rows.softmax(ordered[:, :top].contiguous()), ids[:, :top].int()

    def lora_shrink(x: Tensor, a: Tensor, ids: Tensor) -> Tensor:
        return rounded(times(x, a, ids), torch.float32)

    def lora_expand(x: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> Tensor:
        return rounded(y.float() + times(x, b, ids), y.dtype)

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
    return rounded(total, x.dtype)
