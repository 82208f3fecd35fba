"""Attention over a paged cache of eight bits (e4m3), with one scale for all keys and one for all values.

Scales are powers of two, so that every implementation dequantises the same numbers, whatever dtype it does so in, and
queries hold numbers that e4m3 has too: some kernels want them in eight bits as well. What is left to a kernel is the
order of its sums and how it rounds probabilities.
"""

from __future__ import annotations

from typing import ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.attention import Attention, AttentionDecode, AttentionMixed, AttentionPrefill
from kernels_bench.operators.base import RowTensors, Tensors
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.layers.fp8 import LARGEST
from kernels_bench.operators.layers.layer import BY_REQUEST, LATER
from kernels_bench.records.cases import Precision, Shape

_SCALES = (2.0**-6, 2.0**-1)
"""Of keys, which are bell-shaped, and of values over twelve binades: all but the largest of these fit."""


class Fp8Cache(Attention):
    """The same over caches of e4m3.

    A kernel takes what one of `attention` does, with caches (pages, page, kv_heads, d) in e4m3; the batch tells it
    ``descale``.
    """

    usual: ClassVar[tuple[str, ...]] = models.TELLING_HEAD_LAYOUTS
    quick = ("qwen3-8b",)
    family = "attention_fp8"
    by_request = BY_REQUEST
    unread = "eight bits hold no two values so unlike that one is lost beside the other in fp32"

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """With queries that are numbers of e4m3."""
        queries, *others = super().rows(shape, count, dtype, seed, device)
        return (eight_bits(queries, 1.0).to(dtype), *others)

    def shared_inputs(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The key and the value cache in e4m3, and fp32 (1) scales of both."""
        caches = super().shared_inputs(shape, count, dtype, seed, device)
        scales = (torch.full((1,), scale, device=device) for scale in _SCALES)
        return (*(eight_bits(cache, scale) for cache, scale in zip(caches, _SCALES, strict=True)), *scales)

    def split_weights(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The two caches, and their scales."""
        return weights[: len(_SCALES)], weights[len(_SCALES) :]

    def scales(self, weights: Tensors) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """As given."""
        keys, values = self.split_weights(weights)[1]
        return keys.double(), values.double()

    def told(self, batch: PagedBatch, further: Tensors) -> PagedBatch:
        """With the scales."""
        keys, values = further
        return batch._replace(descale=(keys, values))

    def cache_item(self, precision: Precision) -> int:
        """1."""
        return 1


def eight_bits(numbers: torch.Tensor, scale: float) -> torch.Tensor:
    """Numbers over a scale, rounded to e4m3; what is too large becomes its largest number, which has no infinity."""
    return (numbers.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


class Fp8CacheDecode(Fp8Cache, AttentionDecode):
    """One query a sequence: its last token's."""

    name = "attention_fp8_decode"
    summary = "attention_decode over a KV cache in e4m3"
    usual = models.TELLING_HEAD_LAYOUTS


class Fp8CachePrefill(Fp8Cache, AttentionPrefill):
    """All queries of every sequence."""

    name = "attention_fp8_prefill"
    summary = "attention_prefill over a KV cache in e4m3"


class Fp8CacheMixed(Fp8Cache, AttentionMixed):
    """Sequences that decode beside sequences that prefill their second half."""

    name = "attention_fp8_mixed"
    summary = "attention_mixed over a KV cache in e4m3"


ORDER = LATER
OPERATORS = (Fp8CacheDecode(), Fp8CachePrefill(), Fp8CacheMixed())
