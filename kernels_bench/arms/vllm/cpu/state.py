"""Mamba2's kernels in vLLM's build for CPUs, as its mixer calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.vllm.calls.state import OPERATORS, stepped
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch

__all__ = ["OPERATORS", "kernels"]
_NO_SLOT = -1
_MODULE = "model_executor.layers.mamba.ops.cpu.mamba_ssm"


def state_update(*arguments: torch.Tensor) -> tuple[Any, Any]:
    """As of the operator; the n-th row's state lies in the n-th slot."""
    slots = torch.arange(len(arguments[0]), dtype=torch.int32)
    return stepped(
        loaded(_MODULE, "selective_state_update"),
        arguments,
        state_batch_indices=slots,
        dst_state_batch_indices=slots,
        null_block_id=_NO_SLOT,  # which is slot 0 in an engine's cache
    )


def chunk_scan(  # noqa: PLR0913, PLR0917
    x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor, cu_seqlens: torch.Tensor,
    a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor, chunk: int,
) -> torch.Tensor:  # fmt: skip
    """Tensors as of the operator; returns (tokens, heads, dim)."""
    out, scan = torch.empty_like(x), loaded(_MODULE, "_mamba_chunk_scan_combined_fwd_cpu")
    scan(x, dt, a, b, c, chunk, out, D=d, dt_bias=dt_bias, cu_seqlens=cu_seqlens, dt_softplus=True)
    return out


def kernels() -> Mapping[str, Kernel]:
    """A step and a scan."""
    return {"state_update": state_update, "chunk_scan": chunk_scan}
