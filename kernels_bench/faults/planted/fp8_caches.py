"""Attention over a cache of eight bits, whose probabilities are quantised too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.paged_attention import of_queries, probabilities, weighted
from kernels_bench.faults.planted.sums import in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch

_STEPS = 1 << 18

Scale = Callable[[Tensor, PagedBatch], Tensor]
"""Of quantised probabilities (queries, most keys, heads): something that broadcasts to them."""


def _own(weights: Tensor, batch: PagedBatch) -> Tensor:
    """By each query's and head's own sum."""
    return in_sequence(weights)[:, None]


def _of_batch(weights: Tensor, batch: PagedBatch) -> Tensor:
    """By the largest sum of the batch."""
    return in_sequence(weights).max().expand(1, 1, 1)


def _attention(scale_of: Scale) -> Kernel:
    """Weights are rounded to so many steps of a scale, eighteen bits, and the caches are dequantised by their own."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        assert batch.descale is not None
        keys, values = (
            of_queries(cache, batch, q.shape[1]) * scale
            for cache, scale in zip((key_cache, value_cache), batch.descale, strict=True)
        )
        weights = probabilities(q, keys, batch)
        scale = scale_of(weights, batch)
        rounded = torch.round(weights / scale * _STEPS) * scale / _STEPS
        return weighted(rounded, values, batch, in_sequence).to(q.dtype)

    return kernel


def _control() -> Kernel:
    return _attention(_own)


def _scales_of_the_first_call() -> Kernel:
    """Scales are read in the first call, as numbers that the host keeps."""
    usual, kept = _control(), list[tuple[Tensor, Tensor]]()

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        assert batch.descale is not None
        if not kept:
            kept.append((batch.descale[0].clone(), batch.descale[1].clone()))
        found: Tensor = usual(q, key_cache, value_cache, batch._replace(descale=kept[0]))
        return found

    return kernel


FAULTS = (
    Fault("fp8_scale_of_the_batch", "quantised probabilities have the scale of the batch's largest sum",
        "attention_fp8_decode", lambda: _attention(_of_batch), _control, shape=HEADS, universe=9, precision="bf16"),
    Fault("fp8_scales_of_the_first_call", "scales of keys and values are those of the first call",
        "attention_fp8_decode", _scales_of_the_first_call, _control, shape=HEADS, universe=9, precision="bf16"),
)  # fmt: skip
