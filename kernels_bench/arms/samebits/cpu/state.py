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

TOGETHER = 1 << 16
"""Elements of states kept at once: tokens are read together for the sake of calls, and no bit depends on it."""


class _Heads(NamedTuple):
    """What all rows share, fp32 (heads) each."""

    a: Tensor
    d: Tensor
    dt_bias: Tensor


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow; a tensor of its own for every token, so that an element's place is its head."""
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def _over_heads(of_groups: Tensor, heads: int) -> Tensor:
    """(tokens, groups, n) to (tokens, heads, 1, n)."""
    return of_groups.repeat_interleave(heads // of_groups.shape[1], 1)[:, :, None]


def _steps(state: Tensor, tokens: tuple[Tensor, ...], shared: _Heads) -> tuple[Tensor, Tensor]:
    """One sequence's state (heads, dim, n) after some tokens, and their results (tokens, heads, dim), fp32."""
    x, dt, b, c = tokens
    heads = x.shape[1]
    steps = [_softplus(one.clone() + shared.dt_bias) for one in dt]
    added = (x * torch.stack(steps)[..., None])[..., None] * _over_heads(b, heads)
    states = torch.empty_like(added)
    for after, step, new in zip(states.unbind(), steps, added.unbind(), strict=True):
        state = torch.add(state * (shared.a * step).exp()[:, None, None], new, out=after)
    terms = states * _over_heads(c, heads)
    return state, row_sum(terms.flatten(0, 2)).reshape(x.shape) + shared.d[:, None] * x


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
    tokens = _wide(x, dt, b, c)
    for row in range(len(x)):
        one = slice(row, row + 1)
        after, out[one] = _steps(state[row].clone(), tuple(tensor[one].clone() for tensor in tokens), shared)
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
        together = max(1, TOGETHER // max(1, state.numel()))
        for first in range(begin, end, together):
            some = slice(first, min(first + together, end))
            state, out[some] = _steps(state, tuple(tensor[some].clone() for tensor in tokens), shared)
    return rounded(out, x.dtype)
