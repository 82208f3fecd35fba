"""Mamba2's state on the CPU.

Every sequence is worked on by itself, token after token, and a token by itself is a sequence of one: what a state is
after a prefill has the bits that it has after as many steps.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from kernels_bench.arms.samebits.cpu.rows import row_sum
from kernels_bench.arms.samebits.rounding import rounded


class _Heads(NamedTuple):
    """What all rows share, fp32 (heads) each."""

    a: Tensor
    d: Tensor
    dt_bias: Tensor


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow; a tensor of its own for every token, so that an element's place is its head."""
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def _over_heads(of_groups: Tensor, heads: int) -> Tensor:
    """(groups, n) to (heads, 1, n)."""
    return of_groups.repeat_interleave(heads // len(of_groups), 0)[:, None]


def _step(state: Tensor, token: tuple[Tensor, ...], shared: _Heads) -> tuple[Tensor, Tensor]:
    """One sequence's state (heads, dim, n) and its token's result (heads, dim), fp32."""
    x, dt, b, c = token
    heads, dim = x.shape
    step = _softplus(dt + shared.dt_bias)
    added = (x * step[:, None])[..., None] * _over_heads(b, heads)
    state = state * (shared.a * step).exp()[:, None, None] + added
    terms = state * _over_heads(c, heads)
    return state, row_sum(terms.reshape(heads * dim, -1)).reshape(heads, dim) + shared.d[:, None] * x


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.float() for tensor in tensors)


def state_update(  # noqa: PLR0913, PLR0917
    state: Tensor, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of each sequence.

    Args:
        state: fp32 (M, heads, dim, n), overwritten.
        x: (M, heads, dim).
        dt: before its bias and the softplus, (M, heads).
        b: (M, groups, n).
        c: likewise.
        a: below 0, fp32 (heads).
        d: fp32 (heads).
        dt_bias: fp32 (heads).

    Returns:
        The result (M, heads, dim) in `x`'s dtype, and `state`.
    """
    shared, out = _Heads(a, d, dt_bias), torch.empty_like(x, dtype=torch.float32)
    for row, token in enumerate(zip(*_wide(x, dt, b, c), strict=True)):
        after, out[row] = _step(state[row].clone(), tuple(one.clone() for one in token), shared)
        state[row] = rounded(after, state.dtype)
    return rounded(out, x.dtype), state


def chunk_scan(  # noqa: PLR0913, PLR0917
    x: Tensor, dt: Tensor, b: Tensor, c: Tensor, cu_seqlens: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor, chunk: int
) -> Tensor:
    """Packed sequences, each by itself from a state of zeros; tensors are (tokens, …) as of `state_update`.

    No bit depends on `chunk`.
    """
    shared, out = _Heads(a, d, dt_bias), torch.empty_like(x, dtype=torch.float32)
    tokens = _wide(x, dt, b, c)
    for begin, end in pairwise(cu_seqlens.tolist()):
        state = torch.zeros(*x.shape[1:], b.shape[-1], dtype=torch.float32)
        for token in range(begin, end):
            state, out[token] = _step(state, tuple(one[token].clone() for one in tokens), shared)
    return rounded(out, x.dtype)
