"""The gated delta rule on the CPU: all sequences beside each other, token after token.

As in `attention` everything is made of operations that IEEE 754 rounds alike wherever they stand. A token by itself is
a sequence of one: what a state is after a prefill has the bits that it has after as many steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.arms.samebits.cpu.attention import exp_of_negative, folded
from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.operators.layers.gated_delta import EPS
from kernels_bench.operators.layers.state import along


def _sum(x: Tensor) -> Tensor:
    """Over the last dimension, in halves."""
    size = x.shape[-1]
    return folded(torch.nn.functional.pad(x, (0, (1 << (size - 1).bit_length()) - size)), x.dim() - 1)


def _unit(x: Tensor, heads: int) -> Tensor:
    """Of length 1, fp32 (…, key_heads, k) to (…, heads, k)."""
    found = x / (_sum(x * x) + EPS).sqrt()[..., None]
    return found.repeat_interleave(heads // x.shape[-2], -2)


def _step(state: Tensor, token: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Results (M, heads, v) and states (M, heads, v, k), of fp32 queries and keys of length 1."""
    query, key, v, g, beta = token
    decayed = state * exp_of_negative(g)[..., None, None]
    change = (v - _sum(decayed * key[:, :, None])) * beta[..., None]
    after = decayed + change[..., None] * key[:, :, None]
    return _sum(after * query[:, :, None]), after


def _prepared(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    heads = v.shape[1]
    query = _unit(q.float(), heads) * q.shape[-1] ** -0.5
    return query, _unit(k.float(), heads), v.float(), g.float(), beta.float()


def gated_delta_step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """One token of each sequence.

    Args:
        state: fp32 (M, heads, v, k), overwritten.
        q: (M, key_heads, k).
        k: likewise.
        v: (M, heads, v).
        g: logarithm of what is kept of the state, at most 0, fp32 (M, heads).
        beta: (M, heads).

    Returns:
        The result (M, heads, v) in `v`'s dtype, and `state`.
    """
    out, after = _step(state, _prepared(q, k, v, g, beta))
    return rounded(out, v.dtype), state.copy_(rounded(after, state.dtype))


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, cu_seqlens: Tensor, chunk: int
) -> Tensor:
    """Packed sequences, each from a state of zeros; tensors are (tokens, …) as of `gated_delta_step`.

    No bit depends on `chunk`.
    """
    tokens, out = _prepared(q, k, v, g, beta), torch.zeros(v.shape, dtype=torch.float32)
    state = torch.zeros(len(cu_seqlens) - 1, *v.shape[1:], k.shape[-1], dtype=torch.float32)
    along(cu_seqlens, state, lambda at, held: _step(held, tuple(one[at] for one in tokens)), out)
    return rounded(out, v.dtype)
