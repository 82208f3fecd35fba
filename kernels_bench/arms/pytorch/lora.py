"""Low-rank adapters as eager code on torch has them: each token's own matrix is gathered, as in a batched product."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import torch


def lora_shrink(x: torch.Tensor, a: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """``torch.bmm`` of gathered matrices, in fp32."""
    return torch.bmm(a[ids.long()].float(), x.float()[:, :, None])[:, :, 0]


def lora_expand(x: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``torch.bmm`` of gathered matrices in the dtype of what it is added to."""
    y += torch.bmm(b[ids.long()], x.to(b.dtype)[:, :, None])[:, :, 0]
    return y


KERNELS: dict[str, Kernel] = {kernel.__name__: kernel for kernel in (lora_shrink, lora_expand)}
