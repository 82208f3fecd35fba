"""torch's own kernels for what engines run beside GEMMs, norms and attention, as their torch code has them."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import F, torch


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """``F.silu`` of one half, times the other."""
    gate, up = x.chunk(2, 1)
    return F.silu(gate) * up


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """``F.gelu`` likewise."""
    gate, up = x.chunk(2, 1)
    return F.gelu(gate) * up


def gelu_tanh_and_mul(x: torch.Tensor) -> torch.Tensor:
    """``F.gelu(approximate="tanh")`` likewise."""
    gate, up = x.chunk(2, 1)
    return F.gelu(gate, approximate="tanh") * up


def rotary(
    ids: torch.Tensor, q: torch.Tensor, k: torch.Tensor, head_dim: int, cos_sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Halves of each head, multiplied and added; into new tensors."""
    cos, sin = cos_sin[ids][:, None].chunk(2, 2)

    def turned(x: torch.Tensor) -> torch.Tensor:
        one, other = x.unflatten(1, (-1, head_dim)).chunk(2, 2)
        return torch.cat([one * cos - other * sin, other * cos + one * sin], 2).flatten(1)

    return turned(q), turned(k)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """``F.layer_norm``."""
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def gemma_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """In fp32 and rounded once, as Gemma's models define it."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed * (1 + weight.float())).to(x.dtype)


def qk_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``F.rms_norm`` over the last dimension."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """``torch.log_softmax``, of which one element a row is taken."""
    return torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0]


def cumsum(x: torch.Tensor) -> torch.Tensor:
    """``torch.cumsum``."""
    return x.cumsum(-1)


def top_k_top_p(logits: torch.Tensor, k: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """By a sort, a softmax and a cumulative sum of it."""
    ascending, order = logits.sort(dim=-1, stable=True)
    below = ascending < ascending.gather(1, (logits.shape[1] - k.long())[:, None])
    ascending = ascending.masked_fill(below, -torch.inf)
    cut = ascending.softmax(-1).cumsum(-1) <= 1 - p[:, None]
    cut[:, -1] = False  # the largest always stays
    return torch.empty_like(logits).scatter_(1, order, ascending.masked_fill(cut, -torch.inf))


KERNELS: dict[str, Kernel] = {
    kernel.__name__: kernel
    for kernel in (
        *(silu_and_mul, gelu_and_mul, gelu_tanh_and_mul, rotary),
        *(layer_norm, gemma_rms_norm, qk_norm),
        *(logprobs, cumsum, top_k_top_p),
    )
}
