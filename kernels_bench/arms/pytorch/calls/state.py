"""Mamba2's state in plain torch: a step, and a scan in chunks as Dao & Gu's reference (``ssd_minimal``) has it."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.layers.state import over_heads


def state_update(  # noqa: PLR0913, PLR0917
    state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor,
    a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """In fp32; the state in place."""
    heads, wide = x.shape[1], x.float()
    step = F.softplus(dt.float() + dt_bias)
    added = (wide * step[..., None])[..., None] * over_heads(b.float(), heads)[:, :, None]
    state.mul_((a * step).exp()[..., None, None]).add_(added)
    y = torch.einsum("mhpn,mhn->mhp", state, over_heads(c.float(), heads))
    return (y + d[:, None] * wide).to(x.dtype), state


def chunk_scan(  # noqa: PLR0913, PLR0917
    x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor, cu_seqlens: torch.Tensor,
    a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor, chunk: int,
) -> torch.Tensor:  # fmt: skip
    """In fp32, of sequences that are padded to the longest's chunks."""
    heads, counts = x.shape[1], cu_seqlens.diff().tolist()
    longest = -(-max(counts) // chunk) * chunk
    step = F.softplus(dt.float() + dt_bias)

    def padded(tokens: torch.Tensor) -> torch.Tensor:
        each = [F.pad(one, (0, 0) * (one.dim() - 1) + (0, longest - len(one))) for one in tokens.split(counts)]
        return torch.stack(each)

    wide = x.float()
    parts = (wide * step[..., None], step * a, over_heads(b.float(), heads), over_heads(c.float(), heads))
    y = _scanned(tuple(map(padded, parts)), chunk)
    return (torch.cat([one[:count] for one, count in zip(y, counts, strict=True)]) + d[:, None] * wide).to(x.dtype)


def _sums(x: torch.Tensor) -> torch.Tensor:
    """Of (…, T) the sums of each stretch (…, T, T), of those that run backwards -inf."""
    total = x.cumsum(-1)
    apart = total[..., :, None] - total[..., None, :]
    seen = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool, device=x.device).tril()
    return apart.masked_fill(~seen, -torch.inf)


def _scanned(parts: tuple[torch.Tensor, ...], chunk: int) -> torch.Tensor:
    """x (batch, length, heads, dim), a (batch, length, heads), b and c (batch, length, heads, n); returns as x."""
    x, a, b, c = (one.unflatten(1, (-1, chunk)) for one in parts)
    a = a.permute(0, 3, 1, 2)
    total = a.cumsum(-1)
    within = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", c, b, _sums(a).exp(), x)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", b, (total[..., -1:] - total).exp(), x)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
    states = torch.einsum("bhzc,bchpn->bzhpn", _sums(F.pad(total[..., -1], (1, 0))).exp(), states)[:, :-1]
    before = torch.einsum("bclhn,bchpn,bhcl->bclhp", c, states, total.exp())
    return (within + before).flatten(1, 2)


KERNELS: dict[str, Kernel] = {"state_update": state_update, "chunk_scan": chunk_scan}
