"""A mixture of experts as eager code on torch has it, such as Hugging Face's models."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.pytorch.gemm import linear
from kernels_bench.device.lazy_torch import F, torch


def moe_experts(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """One expert after the other, each over all tokens that chose it."""
    out = torch.zeros_like(x)
    for expert in ids.unique().tolist():
        tokens, places = (ids == expert).nonzero(as_tuple=True)
        gate, up = F.linear(x[tokens], w1[expert]).chunk(2, 1)
        one = F.linear(F.silu(gate) * up, w2[expert])
        out.index_add_(0, tokens, (one * weights[tokens, places, None]).to(out.dtype))
    return out


def moe_gating(logits: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``torch.softmax`` in fp32, and ``torch.topk`` of it."""
    weights, ids = torch.softmax(logits, -1, dtype=torch.float32).topk(top, dim=-1)
    return weights / weights.sum(-1, keepdim=True), ids.int()


def moe_sum(x: torch.Tensor) -> torch.Tensor:
    """``torch.sum``."""
    return x.sum(1)


KERNELS: dict[str, Kernel] = {
    "router_gemm": linear,
    **{kernel.__name__: kernel for kernel in (moe_experts, moe_gating, moe_sum)},
}
