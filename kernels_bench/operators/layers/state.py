"""Mamba2's state (Dao & Gu, Transformers are SSMs, 2024): one token of each sequence, and whole packed sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

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
from kernels_bench.operators.reductions import row_unit
from kernels_bench.records.cases import Shape

_CHUNKS = 13
"""The longest sequence has so many halves of a chunk."""
_UNIT = 2.0**-24


class Token(LayerOperator):
    """One token a row, which changes its row's state.

    A step is ``state = state exp(A dt) + dt x B`` with ``dt`` after a bias and a softplus, and ``y = state C + D x``,
    summed over the state's N elements.
    """

    family = "state"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 256, "cpu": 64}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 128), "cpu": (1, 16)}
    sums_are_rows = True

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Of some rows nothing is added to the state, and the sum over its elements cancels; some have no state yet."""
        tables = super().rows(shape, count, dtype, seed, device)
        state, x, _, b, c = (cancelling(table, count) for table in tables)
        x.zero_()
        cancel_together(b, c)
        repeat_first_half(state, 1)
        without_a_state(tables[0], count)
        return tables

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the sum of the terms' sizes, and to the state's; an exponential magnifies its argument's error.

        Kernels compute a softplus as log(1 + exp), which has an error of 1's and not of its own size.
        """
        state, x, dt, b, c = (one.double() for one in rows)
        a, d, bias = (one.double() for one in weights)
        step = torch.nn.functional.softplus(dt + bias)
        kept = stepped(state.abs(), x.abs(), dt, b.abs(), a, bias)
        unit = (64 * _UNIT * (1 + step * a.abs()) + 4 * _UNIT / step)[..., None, None]
        terms = (kept * over_heads(c.abs(), x.shape[1])[:, :, None]).sum(-1) + d.abs()[:, None] * x.abs()
        share = row_unit(state.shape[-1]) + 2 * roundoff(out) + unit[..., 0]
        return terms * share + 2 * smallest(out), kept * unit + 2.0**-126

    def probe_terms(self, shape: Shape) -> int:
        """One an element of the state."""
        return shape.size("n")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """States that do not decay, and to which nothing is added: all of a row's have its terms."""
        heads, dim, groups = (shape.size(name) for name in ("heads", "dim", "groups"))
        state = terms.float()[:, None, None].expand(-1, heads, dim, -1).contiguous()
        ones = terms.new_ones(m, groups, terms.shape[1])
        x, dt = terms.new_zeros(m, heads, dim), terms.new_zeros(m, heads)
        none = torch.zeros(heads, device=terms.device)
        return (state, x, dt, ones, ones.clone()), (none, none.clone(), none.clone())

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(heads dim, M)."""
        return outputs[0].double().reshape(m, -1).t()


class OfChunks(LayerOperator):
    """Sequences of some tokens, whose states begin at zero; a line of a result is a token's."""

    def for_shape(self, shape: Shape) -> Self:
        """With sequences of some chunks."""
        changed = self.definition.model_copy(update={"lengths": (1, _CHUNKS * shape.size("chunk") // 2)})
        return type(self)(changed, self._reference, self._allowed_error, shape)


class Scan(OfChunks):
    """`Token`'s steps over sequences."""

    family = "state"
    sequences: ClassVar[Mapping[str, int]] = {"cuda": 64, "cpu": 24}
    timed_sequences: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16), "cpu": (1, 16)}

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Of some sequences the sums over a state's elements cancel, and every second token adds nothing to it."""
        tables = super().rows(shape, count, dtype, seed, device)
        x, _, b, c = (cancelling(by_sequence(table, self.longest), count) for table in tables)
        x[:, 1::2] = 0
        cancel_together(b, c)
        return tables

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the same of all terms' sizes.

        Chunks are products of matrices in 16 bits, whose factors are rounded before; decays are exponentials of
        differences of sums, and a softplus is as of `Token`.
        """
        x, dt, b, c, begins, lines = (one.double() if one.is_floating_point() else one for one in rows)
        a, d, bias = (one.double() for one in weights)
        sizes = scanned(x.abs(), dt, b.abs(), c.abs(), begins, a, d.abs(), bias)[lines]
        step = torch.nn.functional.softplus(dt + bias)
        longest = int(begins.diff().max())
        lost = 64 * _UNIT * (1 + longest * (step * a.abs()).mean(0)) + 4 * _UNIT / step.amin(0)
        return (sizes * (8 * roundoff(out) + lost[:, None]) + 2 * smallest(out),)


def over_heads(of_groups: torch.Tensor, heads: int) -> torch.Tensor:
    """(…, groups, n) to (…, heads, n): heads of a group stand beside each other."""
    return of_groups.repeat_interleave(heads // of_groups.shape[-2], -2)


def along(
    cu_seqlens: torch.Tensor,
    state: torch.Tensor,
    step: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    results: torch.Tensor,
) -> torch.Tensor:
    """Token after token of all packed sequences beside each other.

    Args:
        cu_seqlens: where each begins, and the last one ends.
        state: each sequence's, (sequences, …).
        step: gives the results and the states after one token of some sequences, of the tokens' places and the states.
        results: (tokens, …), written.
    """
    begins, counts = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    for token in range(int(counts.max())):
        alive = counts > token
        begins, counts, state = begins[alive], counts[alive], state[alive]
        results[begins + token], state = step(begins + token, state)
    return results


def stepped(
    state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, a: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """States (M, heads, dim, n) after one token each."""
    step = torch.nn.functional.softplus(dt + bias)
    added = (x * step[..., None])[..., None] * over_heads(b, x.shape[1])[:, :, None]
    return state * (a * step).exp()[..., None, None] + added


def _token(  # noqa: PLR0913, PLR0917
    state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor,
    a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    after = stepped(state, x, dt, b, a, dt_bias)
    return (after * over_heads(c, x.shape[1])[:, :, None]).sum(-1) + d[:, None] * x, after


def scanned(  # noqa: PLR0913, PLR0917
    x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, c: torch.Tensor, cu_seqlens: torch.Tensor,
    a: torch.Tensor, d: torch.Tensor, dt_bias: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The recurrence, token after token: (tokens, heads, dim)."""
    state = x.new_zeros(len(cu_seqlens) - 1, *x.shape[1:], b.shape[-1])
    return along(
        cu_seqlens,
        state,
        lambda at, held: _token(held, x[at], dt[at], b[at], c[at], a, d, dt_bias),
        torch.zeros_like(x),
    )


def _sizes(heads: int, dim: int, n: int, groups: int, chunk: int) -> dict[str, int]:
    return {"heads": heads, "dim": dim, "n": n, "groups": groups, "chunk": chunk}


_SHAPES = {
    "mamba2-2.7b/ssm": _sizes(80, 64, 128, 1, 256),
    "nemotron-h-8b/ssm": _sizes(128, 64, 128, 8, 128),
    "granite-4.0-h-tiny/ssm": _sizes(48, 64, 128, 1, 256),
    "unaligned/0": _sizes(6, 40, 48, 3, 32),
    "small/aligned": _sizes(4, 8, 16, 1, 16),
    "small/unaligned": _sizes(6, 5, 12, 3, 8),
}
_OF_TOKENS: dict[str, Any] = {
    "x": ("heads", "dim"),
    "dt": floats("heads", low=-6, high=2),
    "b": ("groups", "n"),
    "c": ("groups", "n"),
}
_SHARED: dict[str, Any] = {
    "a": floats("heads", dtype="fp32", low=-4.0, high=-0.0625),
    "d": floats("heads", dtype="fp32", low=-1.0, high=1.0),
    "dt_bias": floats("heads", dtype="fp32", low=-2.0, high=2.0),
}

OPERATORS = (
    Token.define(
        "state_update",
        rows={"state": floats("heads", "dim", "n", dtype="fp32"), **_OF_TOKENS},
        shared=_SHARED,
        shapes=_SHAPES,
        results=[("heads", "dim"), floats("heads", "dim", "n", dtype="fp32")],
        reference=_token,
        overwrites=("state",),
        dtypes=("bf16", "fp32"),
        summary="state = state exp(a dt) + dt x b; (state c + d x, state), of one token a row",
    ),
    Scan.define(
        "chunk_scan",
        rows=_OF_TOKENS,
        shared=_SHARED,
        shapes=_SHAPES,
        results=("heads", "dim"),
        lengths=(1, 104),
        reference=scanned,
        arguments=("x", "dt", "b", "c", "cu_seqlens", "a", "d", "dt_bias", "chunk"),
        dtypes=("bf16", "fp32"),
        summary="state_update, token after token of packed sequences",
    ),
)
ORDER = LATER
