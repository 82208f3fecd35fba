"""A mixture of experts as eager code on torch has it, such as Hugging Face's models."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.pytorch.calls.gemm import linear
from kernels_bench.device.lazy_torch import F, torch


def moe_experts(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """``grouped_mm`` over tokens sorted by expert on a GPU where that takes the sizes; else expert after expert."""
    sizes = (x.shape[1], w2.shape[2])
    grouped = x.is_cuda and x.dtype is torch.bfloat16 and not any(size % _ALIGNED for size in sizes)
    return _grouped(x, w1, w2, weights, ids) if grouped else _one_by_one(x, w1, w2, weights, ids)


_ALIGNED = 8
"""Elements of 16 bits in the 16 bytes of which ``grouped_mm`` wants every row to have a multiple."""


def _grouped(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    top, flat = ids.shape[1], ids.flatten()
    order = flat.argsort()
    ends = torch.histc(flat.float(), bins=len(w1), min=0, max=len(w1) - 1).cumsum(0).int()
    gate, up = F.grouped_mm(x[order // top], w1.transpose(1, 2), offs=ends).chunk(2, 1)
    one = F.grouped_mm(F.silu(gate) * up, w2.transpose(1, 2), offs=ends) * weights.flatten()[order, None]
    total: torch.Tensor = one[order.argsort()].unflatten(0, (-1, top)).sum(1)
    return total.to(x.dtype)


def _one_by_one(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
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
