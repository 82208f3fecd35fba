"""The gated delta rule (Yang et al., Gated Delta Networks, 2024): one token of each sequence, and whole ones.

A head's state is a matrix that maps keys to values. A token lets it decay, takes out what it holds under the token's
key, as far as ``beta`` says, and writes the token's value there. Queries and keys have length 1: kernels see to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.definitions import floats
from kernels_bench.operators.layers.cancelling import (
    by_sequence,
    cancel_together,
    cancelling,
    repeat_first_half,
    without_a_state,
)
from kernels_bench.operators.layers.layer import LATER, LayerOperator
from kernels_bench.operators.layers.state import OfChunks, along, over_heads
from kernels_bench.operators.reductions import row_unit
from kernels_bench.records.cases import Shape

EPS = 1e-6
"""Is added to a query's and a key's squared length before its root is taken."""

_ROUNDINGS = 8
_LEAST_UNIT = 2.0**-20
"""Roundoff of a product of chunks in fp32, whose sums cancel."""


class Step(LayerOperator):
    """One token a row, which changes its row's state (heads, dv, dk)."""

    family = "gated_delta"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 256, "cpu": 64}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 128), "cpu": (1, 16)}

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Of some rows the halves of states and keys are alike, and those of queries opposite: results cancel.

        Some have no state yet.
        """
        tables = super().rows(shape, count, dtype, seed, device)
        state, q, k, *_ = (cancelling(table, count) for table in tables)
        repeat_first_half(state, 1)
        cancel_together(k, q)
        without_a_state(tables[0], count)
        return tables

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Roundings in fp32 of all terms' sizes, and those of the result."""
        state, q, k, v, g, beta = (one.double() for one in rows)
        size, kept = _token(state.abs(), q.abs(), k.abs(), v.abs(), g, beta, taken_out=-1.0)
        unit = 4 * row_unit(k.shape[-1])
        return size * unit + exact[0].abs() * 2 * roundoff(out) + 2 * smallest(out), kept * unit + 2.0**-126


class Rule(OfChunks):
    """`Step`'s over sequences."""

    family = "gated_delta"
    sequences: ClassVar[Mapping[str, int]] = {"cuda": 64, "cpu": 12}
    timed_sequences: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16), "cpu": (1, 8)}

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Of some sequences the halves of keys are alike, and those of queries opposite: results cancel."""
        tables = super().rows(shape, count, dtype, seed, device)
        q, k, *_ = (cancelling(by_sequence(table, self.longest), count) for table in tables)
        cancel_together(k, q)
        return tables

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the length of what a state holds of each of a value's numbers, under keys that are unlike.

        To take out what is held under a key, of length 1, makes no state longer. Chunks are products of matrices in
        the inputs' dtype, whose factors are rounded before.
        """
        _, k, v, g, beta, begins, lines = (one.double() if one.is_floating_point() else one for one in rows)

        def step(at: torch.Tensor, squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            after = squared * (2 * g[at]).exp()[..., None] + (v[at] * beta[at][..., None]).square()
            return after, after

        length = along(begins, v.new_zeros(len(begins) - 1, *v.shape[1:]), step, torch.zeros_like(v))[lines].sqrt()
        share = _ROUNDINGS * max(roundoff(out), _LEAST_UNIT) * k.shape[-1] ** -0.5
        return (length * share + exact[0].abs() * 2 * roundoff(out) + 2 * smallest(out),)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().sum(-1, keepdim=True) + EPS).sqrt()


def _token(
    state: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
    taken_out: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    heads = v.shape[1]
    query, key = over_heads(_unit(q), heads) * q.shape[-1] ** -0.5, over_heads(_unit(k), heads)
    decayed = state * g.exp()[..., None, None]
    held = (decayed * key[:, :, None]).sum(-1)
    after = decayed + ((v - taken_out * held) * beta[..., None])[..., None] * key[:, :, None]
    return (after * query[:, :, None]).sum(-1), after


def stepped(
    state: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Results (M, heads, v) and states after one token each."""
    return _token(state, q, k, v, g, beta)


def scanned(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, cu_seqlens: torch.Tensor
) -> torch.Tensor:
    """The recurrence, token after token: (tokens, heads, v)."""
    state = v.new_zeros(len(cu_seqlens) - 1, *v.shape[1:], k.shape[-1])
    return along(
        cu_seqlens, state, lambda at, held: _token(held, q[at], k[at], v[at], g[at], beta[at]), torch.zeros_like(v)
    )


def _sizes(heads: int, key_heads: int, dk: int, dv: int, chunk: int = 64) -> dict[str, int]:
    return {"heads": heads, "key_heads": key_heads, "dk": dk, "dv": dv, "chunk": chunk}


_SHAPES = {
    "qwen3-next-80b/gdn": _sizes(32, 16, 128, 128),
    "qwen3-next-80b-tp4/gdn": _sizes(8, 4, 128, 128),
    "unaligned/0": _sizes(6, 3, 48, 40),
    "small/aligned": _sizes(2, 1, 64, 64, 8),
    "small/unaligned": _sizes(4, 2, 12, 5, 4),
}
_OF_TOKENS: dict[str, Any] = {
    "q": ("key_heads", "dk"),
    "k": ("key_heads", "dk"),
    "v": ("heads", "dv"),
    "g": floats("heads", dtype="fp32", low=-0.5, high=0.0),
    "beta": floats("heads", low=0.0, high=1.0),
}

OPERATORS = (
    Step.define(
        "gated_delta_step",
        rows={"state": floats("heads", "dv", "dk", dtype="fp32"), **_OF_TOKENS},
        shapes=_SHAPES,
        results=[("heads", "dv"), floats("heads", "dv", "dk", dtype="fp32")],
        reference=stepped,
        overwrites=("state",),
        dtypes=("bf16", "fp32"),
        summary="s = s exp(g); s = s + beta (v - s k) k'; (s q / sqrt(dk), s), of one token a row, |q| = |k| = 1",
    ),
    Rule.define(
        "gated_delta_rule",
        rows=_OF_TOKENS,
        shapes=_SHAPES,
        results=("heads", "dv"),
        lengths=(1, 104),
        reference=scanned,
        arguments=("q", "k", "v", "g", "beta", "cu_seqlens", "chunk"),
        dtypes=("bf16", "fp32"),
        summary="gated_delta_step, token after token of packed sequences",
    ),
)
ORDER = LATER
