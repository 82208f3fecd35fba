"""The gated delta rule in plain torch: a step, and in chunks as Hugging Face's transformers have it."""

from __future__ import annotations

from kernels_bench.arms.base import Kernel
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.layers.gated_delta import EPS
from kernels_bench.operators.layers.state import over_heads


def _unit(x: torch.Tensor, heads: int) -> torch.Tensor:
    wide = x.float()
    return over_heads(wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + EPS), heads)


def gated_delta_step(
    state: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """In fp32; the state in place."""
    heads = v.shape[1]
    query, key = _unit(q, heads) * q.shape[-1] ** -0.5, _unit(k, heads)
    state.mul_(g.exp()[..., None, None])
    change = (v.float() - torch.einsum("mhvk,mhk->mhv", state, key)) * beta.float()[..., None]
    state.add_(change[..., None] * key[:, :, None])
    return torch.einsum("mhvk,mhk->mhv", state, query).to(v.dtype), state


def gated_delta_rule(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, cu_seqlens: torch.Tensor,
    chunk: int,
) -> torch.Tensor:  # fmt: skip
    """In fp32, of sequences that are padded to the longest's chunks."""
    heads, counts = v.shape[1], cu_seqlens.diff().tolist()
    longest = -(-max(counts) // chunk) * chunk

    def padded(tokens: torch.Tensor) -> torch.Tensor:
        """(sequences, heads, chunks, chunk, …)."""
        each = [F.pad(one, (0, 0) * (one.dim() - 1) + (0, longest - len(one))) for one in tokens.split(counts)]
        found: torch.Tensor = torch.stack(each).transpose(1, 2).unflatten(2, (-1, chunk))
        return found

    query, key = _unit(q, heads) * q.shape[-1] ** -0.5, _unit(k, heads)
    y = _in_chunks(*map(padded, (query, key, v.float(), g, beta.float())))
    return torch.cat([one[:count] for one, count in zip(y, counts, strict=True)]).to(v.dtype)


def _in_chunks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Tensors (sequences, heads, chunks, chunk, …); returns (sequences, tokens, heads, v)."""
    total = g.cumsum(-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    weighed = k * beta[..., None]
    within = (weighed @ k.transpose(-1, -2) * decay).tril(-1)
    eye = torch.eye(k.shape[-2], dtype=within.dtype, device=k.device)
    inverse = torch.linalg.solve_triangular(eye + within, eye.expand_as(within), upper=False, unitriangular=True)
    written, taken = inverse @ (v * beta[..., None]), inverse @ (weighed * total.exp()[..., None])
    seen = q @ k.transpose(-1, -2) * decay
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1])
    results = []
    for number in range(k.shape[2]):
        change = written[:, :, number] - taken[:, :, number] @ state
        own, last = total[:, :, number, :, None], total[:, :, number, -1, None, None]
        results.append(q[:, :, number] * own.exp() @ state + seen[:, :, number] @ change)
        state = state * last.exp() + (k[:, :, number] * (last - own).exp()).transpose(-1, -2) @ change
    return torch.cat(results, 2).transpose(1, 2)


KERNELS: dict[str, Kernel] = {"gated_delta_step": gated_delta_step, "gated_delta_rule": gated_delta_rule}
