"""The samebits operators over states in Triton, Mamba2's and the gated delta rule's: token after token.

A program computes one head of one sequence, of the delta rule some of its value's numbers.

The sum over the state's elements adds neighbours in pairs, level by level, as in `rows`; a decode is a sequence
of one token, by the same kernel. Chunks are faster: they are products of matrices.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernel: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.triton.rows import row_sums
from kernels_bench.operators.layers.gated_delta import EPS

WARPS = 4
_VALUES = 32  # of a head that one program of the delta rule computes


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), of small results too: what 1 + e loses of e is given back (Kahan's log1p)."""
    e = tl.exp(-tl.abs(x))
    more = 1.0 + e
    lost = more - 1.0
    return tl.maximum(x, 0.0) + tl.where(lost == 0.0, e, tl.log(more) * (e / tl.where(lost == 0.0, 1.0, lost)))


@triton.jit
def _scan_kernel(  # noqa: PLR0917
    x, dt, b, c, begins, a, d, dt_bias, state, y,
    heads, dim, n, heads_a_group, groups,
    HAS_STATE: tl.constexpr, BLOCK_DIM: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One head of one sequence: its tokens in order, from its state or from zeros."""
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    rows, cols = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_N)
    inside = (rows < dim)[:, None] & (cols < n)[None, :]
    place = state + (sequence * heads + head) * dim * n + rows[:, None] * n + cols[None, :]
    if HAS_STATE:
        held = tl.load(place, mask=inside, other=0.0)
        begin, end = sequence, sequence + 1
    else:
        held = tl.zeros((BLOCK_DIM, BLOCK_N), dtype=tl.float32)
        begin, end = tl.load(begins + sequence).to(tl.int64), tl.load(begins + sequence + 1).to(tl.int64)
    rate, skip, bias = tl.load(a + head), tl.load(d + head), tl.load(dt_bias + head)
    for token in range(begin, end):
        values = tl.load(x + (token * heads + head) * dim + rows, mask=rows < dim, other=0.0).to(tl.float32)
        group = (token * groups + head // heads_a_group) * n
        entering = tl.load(b + group + cols, mask=cols < n, other=0.0).to(tl.float32)
        leaving = tl.load(c + group + cols, mask=cols < n, other=0.0).to(tl.float32)
        raw = tl.load(dt + token * heads + head).to(tl.float32) + bias
        step = _softplus(raw)
        held = tl.fma(held, tl.exp(rate * step), (values * step)[:, None] * entering[None, :])
        total = tl.fma(values, skip, row_sums(held * leaving[None, :]))
        tl.store(y + (token * heads + head) * dim + rows, total.to(y.dtype.element_ty), mask=rows < dim)
    if HAS_STATE:
        tl.store(place, held, mask=inside)


def _scan(
    tokens: tuple[Tensor, ...], shared: tuple[Tensor, ...], begins: Tensor | None, state: Tensor | None
) -> Tensor:
    """Tokens (x, dt, b, c), what heads share (a, d, dt_bias), and where sequences begin or their states."""
    x, dt, b, c = (one.contiguous() for one in tokens)
    (_, heads, dim), (_, groups, n) = x.shape, b.shape
    y, lanes = torch.empty_like(x), triton.next_power_of_2(n)
    sequences = len(x) if begins is None else len(begins) - 1
    if sequences:
        _scan_kernel[(sequences, heads)](
            x, dt, b, c, x if begins is None else begins, *shared, y if state is None else state, y,
            heads, dim, n, heads // groups, groups,
            HAS_STATE=state is not None,
            BLOCK_DIM=triton.next_power_of_2(dim), BLOCK_N=lanes, num_warps=WARPS,
        )  # fmt: skip
    return y


def state_update(  # noqa: PLR0917
    state: Tensor, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of each sequence; sizes are those of `cpu.state.state_update`."""
    held = state.contiguous()
    y = _scan((x, dt, b, c), (a, d, dt_bias), None, held)
    return y, state if held is state else state.copy_(held)


def chunk_scan(  # noqa: PLR0917
    x: Tensor, dt: Tensor, b: Tensor, c: Tensor, cu_seqlens: Tensor, a: Tensor, d: Tensor, dt_bias: Tensor, chunk: int
) -> Tensor:
    """Packed sequences; sizes are those of `cpu.state.chunk_scan`. No bit depends on `chunk`."""
    return _scan((x, dt, b, c), (a, d, dt_bias), cu_seqlens, None)


@triton.jit
def _unit_row(x, at, mask, eps):
    """A row of length 1, (1, n)."""
    row = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)[None, :]
    return row / tl.sqrt(row_sums(row * row) + eps)[:, None]


@triton.jit
def _delta_kernel(  # noqa: PLR0917
    q, k, v, g, beta, begins, state, y,
    scale, eps, heads, dv, dk, heads_a_group,
    HAS_STATE: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Some of a head's values in one sequence: its tokens in order, from its state or from zeros."""
    sequence, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    rows, cols = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V), tl.arange(0, BLOCK_K)
    inside = (rows < dv)[:, None] & (cols < dk)[None, :]
    place = state + (sequence * heads + head) * dv * dk + rows[:, None] * dk + cols[None, :]
    if HAS_STATE:
        held = tl.load(place, mask=inside, other=0.0)
        begin, end = sequence, sequence + 1
    else:
        held = tl.zeros((BLOCK_V, BLOCK_K), dtype=tl.float32)
        begin, end = tl.load(begins + sequence).to(tl.int64), tl.load(begins + sequence + 1).to(tl.int64)
    for token in range(begin, end):
        at = (token * (heads // heads_a_group) + head // heads_a_group) * dk + cols
        key, query = _unit_row(k, at, cols < dk, eps), _unit_row(q, at, cols < dk, eps) * scale
        line = token * heads + head
        held = held * tl.exp(tl.load(g + line))
        values = tl.load(v + line * dv + rows, mask=rows < dv, other=0.0).to(tl.float32)
        change = (values - row_sums(held * key)) * tl.load(beta + line).to(tl.float32)
        held = tl.fma(*tl.broadcast(change[:, None], key), held)
        found = row_sums(held * query)
        tl.store(y + line * dv + rows, found.to(y.dtype.element_ty), mask=rows < dv)
    if HAS_STATE:
        tl.store(place, held, mask=inside)


def _delta(tokens: tuple[Tensor, ...], begins: Tensor | None, state: Tensor | None) -> Tensor:
    """Tokens (q, k, v, g, beta), and where sequences begin or their states."""
    q, k, v, g, beta = (one.contiguous() for one in tokens)
    (_, heads, dv), (_, key_heads, dk) = v.shape, k.shape
    y, lanes, block = torch.empty_like(v), triton.next_power_of_2(dk), min(_VALUES, triton.next_power_of_2(dv))
    sequences = len(v) if begins is None else len(begins) - 1
    if sequences:
        _delta_kernel[(sequences, heads, triton.cdiv(dv, block))](
            q, k, v, g, beta, v if begins is None else begins, y if state is None else state, y,
            dk**-0.5, EPS, heads, dv, dk, heads // key_heads,
            HAS_STATE=state is not None, BLOCK_V=block, BLOCK_K=lanes, num_warps=WARPS,
        )  # fmt: skip
    return y


def gated_delta_step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """One token of each sequence; sizes are those of `cpu.gated_delta.gated_delta_step`."""
    held = state.contiguous()
    y = _delta((q, k, v, g, beta), None, held)
    return y, state if held is state else state.copy_(held)


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, cu_seqlens: Tensor, chunk: int
) -> Tensor:
    """Packed sequences; sizes are those of `cpu.gated_delta.gated_delta_rule`. No bit depends on `chunk`."""
    return _delta((q, k, v, g, beta), cu_seqlens, None)
