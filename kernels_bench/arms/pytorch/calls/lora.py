"""Low-rank adapters as eager code on torch has them for batches of several: one adapter after the other."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import F, torch


def lora_shrink(x: torch.Tensor, a: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """``F.linear`` in fp32, over the tokens of each adapter."""
    out = torch.empty(len(x), a.shape[1], dtype=torch.float32, device=x.device)
    for adapter in ids.unique().tolist():
        (tokens,) = (ids == adapter).nonzero(as_tuple=True)
        out[tokens] = F.linear(x[tokens].float(), a[adapter].float())
    return out


def lora_expand(x: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``F.linear`` in the dtype of what it is added to, likewise."""
    for adapter in ids.unique().tolist():
        (tokens,) = (ids == adapter).nonzero(as_tuple=True)
        y[tokens] += F.linear(x[tokens].to(b.dtype), b[adapter])
    return y


KERNELS: dict[str, Kernel] = {kernel.__name__: kernel for kernel in (lora_shrink, lora_expand)}
