"""The gated delta rule in vLLM's build for CPUs, as its layers call it for prefills."""

from __future__ import annotations

from collections.abc import Mapping

from kernels_bench.arms.base import Kernel, Unsupported
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.layers.gated_delta import EPS

OPERATORS = ("gated_delta_rule",)
SIZES = (64, 128)
"""Numbers of a key, and as many of a value, that its kernel was built for, of those that models have."""


def gated_delta_rule(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, cu_seqlens: torch.Tensor,
    chunk: int,
) -> torch.Tensor:  # fmt: skip
    """Tensors as of the operator, in chunks of its own size; returns (tokens, heads, dv)."""
    dk, dv = k.shape[-1], v.shape[-1]
    if v.dtype is not torch.bfloat16 or dk != dv or dk not in SIZES:
        raise Unsupported("vLLM's gated delta rule for CPUs takes bf16, and keys and values of 64 or of 128 numbers")
    sequences = len(cu_seqlens) - 1
    state = torch.zeros(sequences, v.shape[1], dk, dv, dtype=torch.float32)
    slots = torch.arange(sequences, dtype=torch.int32)
    scan = torch.ops._C.chunk_gated_delta_rule_cpu
    out, _ = scan(
        q[None], k[None], v[None], g[None], beta[None], state, True, cu_seqlens, False, True, slots, EPS
    )  # fmt: skip
    found: torch.Tensor = out[0]
    return found


def kernels() -> Mapping[str, Kernel]:
    """A scan."""
    return {"gated_delta_rule": gated_delta_rule}
