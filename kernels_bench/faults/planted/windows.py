"""Sliding windows, soft caps and sinks that follow something else than the query's own place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import exponential, of_queries
from kernels_bench.faults.planted.sums import in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Shape

_SHAPE = Shape(label="fault", heads=2, kv_heads=1, k=8, page=8, tokens=33, window=12, softcap=3, sinks=1)
_FEW, _TILE = 4, 8

Edge = Callable[[PagedBatch], Tensor]
"""The first key of each query's window, (queries)."""
Cap = Callable[[Tensor, PagedBatch], Tensor]
"""What becomes of logits (queries, most keys, heads)."""


def _own_edge(batch: PagedBatch) -> Tensor:
    return (batch.seen_keys() - batch.window).clamp_min(0)


def _edge_by_longest(batch: PagedBatch) -> Tensor:
    """Windows begin a key early where the longest sequence of the batch fills no tile."""
    early = batch.most_keys % _TILE > _TILE // 2
    return (_own_edge(batch) - int(early)).clamp_min(0)


def _cap(logits: Tensor, batch: PagedBatch) -> Tensor:
    """softcap · tanh(logits / softcap), of additions, multiplications and a division alone."""
    ratio = logits / batch.softcap
    e = exponential(-2 * ratio.abs())
    return batch.softcap * torch.copysign((1 - e) / (1 + e), ratio)


def _coarse_if_few(logits: Tensor, batch: PagedBatch) -> Tensor:
    """Logits are rounded to bf16 before they are capped, in batches of few sequences."""
    return _cap(logits.bfloat16().float() if len(batch.lengths) < _FEW else logits, batch)


def _attention(edge: Edge = _own_edge, cap: Cap = _cap, clean: bool = True, sink_first: bool = True) -> Kernel:
    """An attention that adds over the keys in sequence.

    Unless ``clean``, what stands before a window is multiplied by zero; unless ``sink_first``, a sink is added to its
    head's sum before the keys in batches of one sequence alone.
    """

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        keys, values = (of_queries(cache, batch, q.shape[1]) for cache in (key_cache, value_cache))
        token = torch.arange(batch.most_keys, device=q.device)
        behind = token < batch.seen_keys()[:, None]
        seen = (behind & (token >= edge(batch)[:, None]))[..., None]
        products = torch.where(behind[..., None, None], q.float()[:, None] * keys, 0.0).movedim(3, 1)
        logits = torch.where(seen, cap(in_sequence(products) * batch.scale, batch), -math.inf)
        assert batch.sinks is not None
        sinks = batch.sinks.float()
        highest = torch.maximum(logits.amax(1), sinks)[:, None]
        weights = torch.where(seen, exponential(logits - highest), 0.0)
        terms = torch.where((seen if clean else behind[..., None])[..., None], weights[..., None] * values, 0.0)
        beside = exponential(sinks - highest)
        first = sink_first or len(batch.lengths) == 1
        total = in_sequence(torch.cat([beside, weights] if first else [weights, beside], 1))
        return (in_sequence(terms + 0.0) / total[..., None]).to(q.dtype)

    return kernel


def _fault(name: str, cause: str, make: Callable[[], Kernel], mode: str = "decode") -> Fault:
    operator = f"attention_variant_{mode}"
    return Fault(name, cause, operator, make, _control, shape=_SHAPE, universe=6)


def _control() -> Kernel:
    return _attention()


FAULTS = (
    _fault("window_by_the_longest", "windows begin a key early where the batch's longest sequence half fills a tile",
        lambda: _attention(edge=_edge_by_longest)),
    _fault("soft_cap_of_few", "logits are rounded to bf16 before they are capped, below 4 sequences",
        lambda: _attention(cap=_coarse_if_few)),
    _fault("zero_times_what_is_before_the_window", "values before the window are multiplied by a weight of zero",
        lambda: _attention(clean=False), "mixed"),
    _fault("sink_after_the_keys", "a sink is added after the keys, and not before, beside other sequences",
        lambda: _attention(sink_first=False)),
)  # fmt: skip
