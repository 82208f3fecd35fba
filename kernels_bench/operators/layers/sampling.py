"""What an engine does with logits: log probabilities of tokens, cumulative sums, and the cut of top-k and top-p."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.layers.layer import LATER, LayerOperator
from kernels_bench.operators.reductions import logits_of, row_unit, told_by_one
from kernels_bench.records.cases import Precision, Shape

_VOCABULARIES = {
    "qwen3-8b/logits": {"vocabulary": 151936},
    "deepseek-v3/logits": {"vocabulary": 129280},
    "unaligned/0": {"vocabulary": 5003},
    "small/aligned": {"vocabulary": 1024},
    "small/unaligned": {"vocabulary": 1003},
}


_MOST_KEPT = 64
_AT_THE_EDGE = 1e-4
"""A share so near to p may be above or below it, as it is rounded."""

_ALIKE = 1e-6
"""Logits so near to each other have one share in fp32, and a kernel that compares shares cannot tell them apart."""


class Sampling(LayerOperator):
    """An operator over rows of logits, fp32 as engines keep them, of as many sequences as one runs at once."""

    family = "sampling"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 1024, "cpu": 256}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 256, 1024), "cpu": (1, 16, 256)}


class WholeRows(Sampling):
    """One whose kernels sort, search or scan all logits of a row: so few of them that a run takes two minutes."""

    universe: ClassVar[Mapping[str, int]] = {"cuda": 384, "cpu": 256}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 256, 384), "cpu": (1, 16, 256)}


class TokenLogprobs(Sampling):
    """The logarithm of a token's share in the softmax of its row's logits."""

    readable = ("fp32",)
    signed = False
    sums_are_rows = True

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the logit, to the largest and to what is left of them, as of `LogSoftmax`."""
        logits, _ = rows
        largest = logits.double().abs().amax(1).nan_to_num(nan=torch.inf)
        return (row_unit(logits.shape[1]) + (16 + exact[0].abs() + largest) * (16 * roundoff(torch.float32)),)

    def probe_terms(self, shape: Shape) -> int:
        """One a token of the vocabulary."""
        return shape.size("vocabulary")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Logarithms of ``terms``, and the token that has the largest."""
        return (logits_of(terms).float(), terms.float().argmax(1)), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): where the sum exceeds 1, the logarithm of 1 over it is below 0."""
        return told_by_one(outputs[0] < 0, outputs[0][:, None])


class CumulativeSum(WholeRows):
    """Sums of each row's first elements; the order is read of the last one, of all elements."""

    sums_are_rows = True

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the root of the sum of squares so far, about as far as partial sums go.

        Each partial sum is a result too, and a kernel may go on from what was rounded.
        """
        size = rows[0].double().square().cumsum(1).sqrt()
        bound = size * (16 * roundoff(torch.float32) * rows[0].shape[1] ** 0.5)
        rounded = 8 * roundoff(out) * exact[0].square().cumsum(1).sqrt()
        return ((bound + rounded + 2 * roundoff(out) * exact[0].abs() + smallest(out)).nan_to_num(nan=torch.inf),)

    def probe_terms(self, shape: Shape) -> int:
        """All elements of a row."""
        return shape.size("vocabulary")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """``terms`` themselves."""
        return (terms,), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): the last of each row."""
        return outputs[0][:, -1].double()[None]


class TopKTopP(WholeRows):
    """The cut of top-k and top-p.

    Which of logits stay whose shares are equal in fp32, and on which side of p a rounding falls, is left open.
    """

    def verification_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """Twice as many as usual: kernels sort all logits, whose places take 64 bits."""
        return 2 * super().verification_bytes(shape, precision, universe)

    def huge_rows(self, shape: Shape) -> int:
        """None: it is applied to one token of each sequence, of which no engine runs so many at once."""
        return 0

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """None of logits that certainly stay or go, which are handed on as they are; any of the others."""
        logits, k, p = rows[0].double(), rows[1], rows[2].double()
        values, places, before = _likeliest(logits, k)
        place = k.long().clamp(max=values.shape[1])[:, None] - 1
        last = values.gather(1, place)
        least = _alike(logits, last)
        within = _alike(values, last) & before.isfinite()
        # Who keeps all that equal the k-th one has shares that are smaller by theirs.
        more = least.sum(1, keepdim=True) - within.sum(1, keepdim=True)
        share = values.masked_fill(before.isinf(), -torch.inf).softmax(1).gather(1, place)
        near = (before - p[:, None]).abs() < _AT_THE_EDGE + more * share
        kept = before < p[:, None]
        parted = torch.zeros_like(near)
        parted[:, :-1] = _alike(values[:, :-1], values[:, 1:]) & (kept[:, :-1] != kept[:, 1:])
        undecided = near | parted
        left_open = (_alike(values[:, :, None], values[:, None]) & undecided[:, None]).any(2)
        left_open = (least & (more > 0)).scatter(1, places, left_open | (within & (more > 0)))
        return (torch.where(left_open, torch.inf, smallest(torch.float32)),)


def _alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Whether logits are equal, or so near that their shares are; of infinite ones only the equal."""
    return (one == other) | ((one - other).abs() <= _ALIKE)


def cut(logits: torch.Tensor, k: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Logits (rows, V) but of the k largest of each row, and of these the fewest whose shares are p together; -inf."""
    values, places, before = _likeliest(logits, k)
    kept = torch.where(before < p[:, None], values, -torch.inf)
    kept[:, 0] = values[:, 0]
    return torch.full_like(logits, -torch.inf).scatter(1, places, kept)


def _likeliest(logits: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest logits of each row in descending order, where they stand, and the share of all before each.

    Beyond the k-th of a row there is an infinite share before each.
    """
    values, places = logits.topk(min(_MOST_KEPT, logits.shape[1]), dim=1)
    beyond = torch.arange(values.shape[1], device=logits.device) >= k[:, None]
    shares = values.masked_fill(beyond, -torch.inf).softmax(1)
    return values, places, (shares.cumsum(1) - shares).masked_fill(beyond, torch.inf)


OPERATORS = (
    TokenLogprobs.define(
        "logprobs",
        rows={"logits": floats("vocabulary", dtype="fp32"), "tokens": integers(high="vocabulary")},
        shapes=_VOCABULARIES,
        results=floats(dtype="fp32"),
        reference=lambda logits, tokens: (logits - logits.logsumexp(1, keepdim=True)).gather(1, tokens[:, None])[:, 0],
        dtypes=("fp32",),
        summary="y[M] = log_softmax(logits)[token]",
    ),
    CumulativeSum.define(
        "cumsum",
        rows={"x": ("vocabulary",)},
        shapes=_VOCABULARIES,
        results=("vocabulary",),
        reference=lambda x: x.cumsum(1),
        dtypes=("fp32", "bf16"),
        summary="y[M,k] = sum(x[M,:k+1])",
    ),
    TopKTopP.define(
        "top_k_top_p",
        rows={
            "logits": floats("vocabulary", dtype="fp32"),
            "k": integers(low=1, high=_MOST_KEPT, dtype="int32"),
            "p": floats(dtype="fp32", low=0.05, high=1.0),
        },
        shapes=_VOCABULARIES,
        results=floats("vocabulary", dtype="fp32"),
        reference=cut,
        overwrites=("logits",),
        dtypes=("fp32",),
        summary="logits but of the k largest, and of these the fewest whose shares are p together; -inf elsewhere",
    ),
)
ORDER = LATER
