"""Attention as models change it: a sliding window over the keys, a bound on the logits, and sinks.

Which of these a case has is a part of its shape. The keys that a query sees, its own among them, are at most the
window's (Mistral, arXiv:2310.06825); logits are bounded by ``softcap · tanh(logit / softcap)`` (Gemma 2,
arXiv:2408.00118); a sink is a logit of each head that takes part in the softmax and has no value (gpt-oss,
arXiv:2508.10925).
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import ClassVar, Self

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.attention import Attention, AttentionDecode, AttentionMixed, AttentionPrefill
from kernels_bench.operators.base import Tensors
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.inputs.rows import bell_shaped
from kernels_bench.operators.inputs.sequences import Census, Tokens, census, keys_of, values_of
from kernels_bench.operators.layers.layer import BY_REQUEST, LATER
from kernels_bench.operators.paged.reference import Rules
from kernels_bench.records.cases import Shape

_CACHES = 2
_TILES = (16, 64, 128)
_COARSE = 16.0
"""Sinks are whole numbers over this: every dtype has them as they are."""


def lengths_around(window: int, tokens: int) -> tuple[int, ...]:
    """KV lengths up to ``tokens`` at which a window begins, or begins at a tile's edge, the most telling first.

    A sequence of the window's length and a multiple of a tile's has its window begin where a tile does.
    """
    if not window:
        return ()
    edges = [window + tile for tile in _TILES]
    known = [window + 1, tokens, window, *(n + 1 for n in edges), *edges, 2 * window + 1, window - 1, window + 2]
    return tuple(n for n in dict.fromkeys(known) if 1 <= n <= tokens)


class Variant(Attention):
    """The same with what its shape says of windows, soft caps and sinks.

    A kernel takes what one of `attention` does; the batch tells it ``window``, ``softcap`` and ``sinks``.
    """

    dims = (*Attention.dims, "window", "softcap", "sinks")
    shapes = models.variant_layouts()
    usual: ClassVar[tuple[str, ...]] = ("gpt-oss-20b", "gemma-2-9b", "gemma-3-4b", "mistral-7b")
    quick = ("gpt-oss-20b/window",)
    timed_shapes: ClassVar[tuple[str, ...]] = ("gpt-oss-20b/window", "gemma-2-9b/window", "small")
    family = "attention_variants"
    by_request = BY_REQUEST
    unread = "a window's sums have terms of which the first are left out"
    _at: Shape | None = None

    def for_shape(self, shape: Shape) -> Self:
        """With the window, the bound and the sinks of a shape."""
        found = copy(self)
        found._at = shape
        return found

    def census(self, shape: Shape, count: int) -> Census:
        """Of lengths around the window's first."""
        around = lengths_around(shape.window or 0, shape.tokens or 1)
        return census(self.mode, shape, count, self.length, (*self.asked, *around))

    def shared_inputs(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The key and the value cache, each (pages, page, kv_heads, d), and (heads) sinks where there are some."""
        caches = super().shared_inputs(shape, count, dtype, seed, device)
        if not shape.sinks:
            return caches
        drawn = bell_shaped(seed, "sinks", 0, 1, shape.heads or 1, device)[0]
        return (*caches, ((drawn * _COARSE).round() / _COARSE).to(dtype))

    def cached(self, seed: int, tokens: Tokens, kv: torch.Tensor, shape: Shape) -> Tensors:
        """As of a sequence of the last query's window: there values cancel, and logits rise."""
        if not shape.window:
            return super().cached(seed, tokens, kv, shape)
        width, inside = (shape.kv_heads or 1) * shape.k, kv.clamp(max=shape.window)
        place = tokens.place - (kv - inside)
        keys = keys_of(seed, tokens, inside, width, shape.k, place.clamp(min=-shape.window))
        return keys, values_of(seed, replace(tokens, place=place), inside, width)

    def split_weights(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The two caches, and the sinks."""
        return weights[:_CACHES], weights[_CACHES:]

    def rules(self, weights: Tensors) -> Rules:
        """As the shape says."""
        window, softcap = (self._at.window or 0, self._at.softcap or 0) if self._at is not None else (0, 0)
        return Rules(window, float(softcap), next(iter(self.split_weights(weights)[1]), None))

    def told(self, batch: PagedBatch, further: Tensors) -> PagedBatch:
        """As the shape says."""
        rules = self.rules(((),) * _CACHES + further)  # type: ignore[arg-type]
        return batch._replace(window=rules.window, softcap=rules.softcap, sinks=rules.sinks)


class VariantDecode(Variant, AttentionDecode):
    """One query a sequence: its last token's."""

    name = "attention_variant_decode"
    summary = "attention_decode with a sliding window, a soft cap on logits, sinks"


class VariantPrefill(Variant, AttentionPrefill):
    """All queries of every sequence."""

    name = "attention_variant_prefill"
    summary = "attention_prefill with a sliding window, a soft cap on logits, sinks"


class VariantMixed(Variant, AttentionMixed):
    """Sequences that decode beside sequences that prefill their second half."""

    name = "attention_variant_mixed"
    summary = "attention_mixed with a sliding window, a soft cap on logits, sinks"


ORDER = LATER
OPERATORS = (VariantDecode(), VariantPrefill(), VariantMixed())
