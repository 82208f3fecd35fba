"""Mamba2's kernels in vLLM's build for CPUs, as its mixer calls them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import torch

OPERATORS = ("state_update", "chunk_scan")
_NO_SLOT = -1
MODULE = "vllm.model_executor.layers.mamba.ops.cpu.mamba_ssm"


def kernels() -> Mapping[str, Kernel]:
    """A step and a scan."""
    module = importlib.import_module(MODULE)

    def state_update(  # noqa: PLR0913, PLR0917
        state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor,
        a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        dim, n, out = x.shape[2], b.shape[2], torch.empty_like(x)
        slots = torch.arange(len(x), dtype=torch.int32)
        module.selective_state_update(
            state,
            x,
            dt[..., None].expand(-1, -1, dim),
            a[:, None, None].expand(-1, dim, n),
            b,
            c,
            d[:, None].expand(-1, dim),
            dt_bias=dt_bias[:, None].expand(-1, dim),
            dt_softplus=True,
            state_batch_indices=slots,
            dst_state_batch_indices=slots,
            null_block_id=_NO_SLOT,  # which is slot 0 in an engine's cache
            out=out,
        )
        return out, state

    def chunk_scan(  # noqa: PLR0913, PLR0917
        x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor, cu_seqlens: torch.Tensor,
        a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor, chunk: int,
    ) -> torch.Tensor:  # fmt: skip
        out = torch.empty_like(x)
        scan = module._mamba_chunk_scan_combined_fwd_cpu
        scan(x, dt, a, b, c, chunk, out, D=d, dt_bias=dt_bias, cu_seqlens=cu_seqlens, dt_softplus=True)
        return out

    return {"state_update": state_update, "chunk_scan": chunk_scan}
