"""Prefill with multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), in the form in which engines compute it.

There keys and values are projected up from the cache before, so that every head has its own, longer keys than values,
and they lie packed and not in pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Self

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors
from kernels_bench.operators.definitions import floats
from kernels_bench.operators.inputs.described import lengths_of_rows
from kernels_bench.operators.layers.cancelling import by_sequence, values_in_opposite_runs
from kernels_bench.operators.layers.layer import LATER, LayerOperator
from kernels_bench.operators.paged.reference import CAUSAL, allowed, attend, least_weight
from kernels_bench.records.cases import Shape


class Prefill(LayerOperator):
    """softmax(q kᵀ / √dk, causal) v of whole packed sequences; a line of a result is a token's."""

    family = "mla_prefill"
    sequences: ClassVar[Mapping[str, int]] = {"cuda": 32, "cpu": 12}
    timed_sequences: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16), "cpu": (1, 8)}
    weights_tell = False

    def for_shape(self, shape: Shape) -> Self:
        """With sequences of as many tokens as the shape says."""
        changed = self.definition.model_copy(update={"lengths": (1, shape.size("tokens"))})
        return type(self)(changed, self._reference, self._allowed_error, shape)

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Every second sequence has queries of zero, whose keys weigh alike, and values that cancel."""
        tables = super().rows(shape, count, dtype, seed, device)
        queries, _, values = (by_sequence(table, self.longest)[:count:2] for table in tables)
        queries.zero_()
        values_in_opposite_runs(values.flatten(2), seed)
        return tables

    def operations(self, shape: Shape, m: int) -> int:
        """Two products over the tokens that each token of the first m sequences sees."""
        tokens = lengths_of_rows(m, (1, shape.size("tokens")))[:m]
        seen = int((tokens * (tokens + 1) // 2).sum())
        return 2 * seen * shape.size("heads") * (shape.size("dk") + shape.size("dv"))

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As of attention over pages."""
        q, k, v, begins, lines = rows
        size = attended(q.double(), k.double(), v.double().abs(), begins, least_weight(q.dtype))[lines]
        return (allowed(q, size, exact[0], out, CAUSAL),)


def attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, least: float = 0.0
) -> torch.Tensor:
    """Sequence by sequence, in float64: (tokens, heads, dv)."""
    found, scale = torch.zeros_like(v), q.shape[-1] ** -0.5
    for begin, end in pairwise(cu_seqlens.tolist()):
        tokens = torch.arange(end - begin, device=q.device)
        keys, values = (one[begin:end].transpose(0, 1) for one in (k, v))
        found[begin:end] = attend(q[begin:end] * scale, tokens, keys, values, CAUSAL, least)
    return found


def _sizes(heads: int, dk: int, dv: int, tokens: int) -> dict[str, int]:
    return {"heads": heads, "dk": dk, "dv": dv, "tokens": tokens}


OPERATORS = (
    Prefill.define(
        "mla_prefill",
        rows={
            "q": floats("heads", "dk", low=-2.0, high=2.0),
            "k": floats("heads", "dk", low=-2.0, high=2.0),
            "v": ("heads", "dv"),
        },
        shapes={
            "deepseek-v2-lite/mla": _sizes(16, 192, 128, 1025),
            "deepseek-v3-tp32/mla": _sizes(4, 192, 128, 2049),
            "small/aligned": _sizes(2, 48, 32, 40),
            "small/unaligned": _sizes(3, 24, 10, 35),
        },
        results=("heads", "dv"),
        lengths=(1, 40),
        reference=attended,
        arguments=("q", "k", "v", "cu_seqlens"),
        dtypes=("bf16", "fp16"),
        summary="softmax(q k' / sqrt(dk), causal) v of packed sequences, keys longer than values",
    ),
)
ORDER = LATER
