"""Operators that engines run beside GEMMs, norms and attention, with a path that the number of rows decides on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.paged_attention import exponential
from kernels_bench.faults.planted.reductions import rms_norm
from kernels_bench.faults.planted.sums import Sum, by_rows, in_groups, in_sequence, pairwise
from kernels_bench.records.cases import Shape

_HEADS = Shape(label="fault", heads=3, k=24)
_VOCABULARY = Shape.of("fault", {"vocabulary": 48})
_ROTARY = Shape.of("fault", {"heads": 2, "kv_heads": 1, "head_dim": 8, "positions": 40})
_SORTED_BELOW = 8
"""vLLM 0.26's sampler sorts below so many rows, and runs a kernel of its own from there on."""


def _root(x: Tensor) -> Tensor:
    """1 / sqrt, row by row: no standard says how it rounds in a vector of several."""
    return torch.stack([torch.rsqrt(row.clone()) for row in x])


def _layer_norm(one_pass: Callable[[int], bool]) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``layer_norm`` whose variance is, at some M, the mean of squares less the square of the mean."""

    def kernel(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        wide, n = x.float(), x.shape[1]
        average = pairwise(wide)[:, None] / n
        centred = wide - average
        variance = pairwise(centred * centred)[:, None] / n
        if one_pass(len(x)):
            variance = (pairwise(wide * wide)[:, None] / n - average * average).clamp(min=0)
        return (centred * _root(variance + eps) * weight.float() + bias.float()).to(x.dtype)

    return lambda: kernel


def _qk_norm(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``qk_norm``: every head is a row of ``rms_norm``."""
    norm = rms_norm(add)()

    def kernel(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return norm(x.flatten(0, 1), weight, eps).view(x.shape)

    return lambda: kernel


def _logprobs(add: Sum) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``logprobs`` that adds exponentials in an order."""

    def kernel(logits: Tensor, tokens: Tensor) -> Tensor:
        shifted = logits - logits.amax(1, keepdim=True)
        total = add(exponential(shifted))
        return shifted.gather(1, tokens[:, None])[:, 0] - torch.stack([one.clone().log() for one in total])

    return lambda: kernel


def _top_k_top_p(
    exactly: Callable[[int], bool], one_more: bool = False, p_counts: bool = True
) -> Callable[[], Callable[..., Tensor]]:
    """Makes a ``top_k_top_p`` that keeps all of some equal logits at the edge of the k largest, or at some M k of them.

    It may keep one more than these, or not look at p.
    """

    def kernel(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
        largest, order = logits.sort(dim=1, descending=True, stable=True)
        edge = largest.gather(1, (k.long() + one_more).clamp(max=logits.shape[1])[:, None] - 1)
        below = largest < edge
        if exactly(len(logits)):
            below = torch.arange(logits.shape[1], device=logits.device) >= k[:, None]
        kept = largest.masked_fill(below, -torch.inf)
        if p_counts:
            # One after the other, so that a row's sums are the same in every batch.
            shares = exponential(kept - kept[:, :1])
            before, running = torch.zeros_like(shares), torch.zeros_like(shares[:, 0])
            for place in range(shares.shape[1]):
                before[:, place] = running
                running = running + shares[:, place]
            kept = kept.masked_fill(before >= p[:, None] * running[:, None], -torch.inf)
        return torch.empty_like(logits).scatter_(1, order, kept)

    return lambda: kernel


def _rotary(rounded: Callable[[int], bool]) -> Callable[[], Callable[..., tuple[Tensor, Tensor]]]:
    """Makes a ``rotary`` that rounds each of its products, at some M, to the rows' dtype before it adds them."""

    def kernel(ids: Tensor, q: Tensor, k: Tensor, head_dim: int, cos_sin: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = cos_sin[ids].float()[:, None].chunk(2, 2)

        def product(x: Tensor, angle: Tensor) -> Tensor:
            return (x * angle).to(q.dtype).float() if rounded(len(q)) else x * angle

        def turned(x: Tensor) -> Tensor:
            one, other = x.float().unflatten(1, (-1, head_dim)).chunk(2, 2)
            halves = product(one, cos) - product(other, sin), product(other, cos) + product(one, sin)
            return torch.cat(halves, 2).flatten(1).to(x.dtype)

        return turned(q), turned(k)

    return lambda: kernel


def _never(_: int) -> bool:
    return False


def _from(rows: int) -> Callable[[int], bool]:
    return lambda m: m >= rows


def _cut(
    name: str, cause: str, make: Callable[[], Callable[..., Tensor]], kind: Literal["variant", "wrong"] = "variant"
) -> Fault:
    """A fault of ``top_k_top_p``."""
    return Fault(name, cause, "top_k_top_p", make, _top_k_top_p(_never), kind, shape=_VOCABULARY)


FAULTS = (
    Fault(
        name="variance_in_one_pass",
        cause="the variance of a layer norm is the mean of squares less the square of the mean from 16 rows on",
        operator="layer_norm",
        shape=ROW,
        make=_layer_norm(_from(16)),
        control=_layer_norm(_never),
    ),
    Fault(
        name="heads_by_tokens",
        cause="the heads of few tokens are normed by another kernel than those of many",
        operator="qk_norm",
        shape=_HEADS,
        make=_qk_norm(by_rows(pairwise, in_sequence, 3 * 24)),
        control=_qk_norm(pairwise),
    ),
    Fault(
        name="logprobs_from_8_rows",
        cause="a second kernel of log probabilities from 8 rows on",
        operator="logprobs",
        shape=_VOCABULARY,
        make=_logprobs(by_rows(in_sequence, in_groups(16), _SORTED_BELOW)),
        control=_logprobs(in_groups(16)),
    ),
    _cut("ties_at_top_k",
        "of equal logits at the edge of the k largest all are kept by a sort, and from 8 rows on k in all",
        _top_k_top_p(_from(_SORTED_BELOW))),
    _cut("one_more_than_k", "one logit more than the k largest is kept", _top_k_top_p(_never, one_more=True), "wrong"),
    _cut("p_does_not_count", "of the k largest logits all are kept, whatever their shares",
        _top_k_top_p(_never, p_counts=False), "wrong"),
    Fault(
        name="rotary_rounded_from_32_rows",
        cause="products of a rotary embedding are rounded before they are added from 32 rows on",
        operator="rotary",
        precision="bf16",
        shape=_ROTARY,
        make=_rotary(_from(32)),
        control=_rotary(_never),
    ),
)  # fmt: skip
