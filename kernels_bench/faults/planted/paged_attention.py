"""Attention over a paged KV cache, whose sums over the keys are added in a stated order."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.sums import Sum, in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Shape

_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""Their sum is ln 2, and whole multiples of the first are exact."""
_LOWEST = -87.0


def attention(add: Sum) -> Kernel:
    """An attention that adds over the keys in an order."""
    return attention_by(lambda _: add)


@cache
def attention_adding(add: Sum) -> Callable[[], Kernel]:
    """Makes `attention`; the same for the same order, so that faults planted in it have one control."""
    return lambda: attention(add)


def decode_fault(
    name: str,
    cause: str,
    make: Callable[[], Kernel],
    control: Sum = in_sequence,
    shape: Shape = HEADS,
    universe: int = 17,
) -> Fault:
    """A fault of ``attention_decode``, whose control adds in an order."""
    return Fault(
        name=name,
        cause=cause,
        operator="attention_decode",
        make=make,
        control=attention_adding(control),
        shape=shape,
        universe=universe,
    )


def attention_by(choose: Callable[[PagedBatch], Sum]) -> Kernel:
    """An attention that adds over the keys in an order which is chosen for the batch.

    What the sums are given are (queries, most keys of the batch, …), with zeros for keys that a query does not see.
    """

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        return attend(q, key_cache, value_cache, batch, choose(batch))

    return kernel


def attend(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch, add: Sum) -> Tensor:
    """softmax(q kᵀ · scale, causal) v: (queries, heads, d)."""
    keys, values = (of_queries(cache, batch, q.shape[1]) for cache in (key_cache, value_cache))
    return weighted(probabilities(q, keys, batch), values, batch, add).to(q.dtype)


def of_queries(cache: Tensor, batch: PagedBatch, heads: int) -> Tensor:
    """What the cache holds for each query: (queries, most keys, heads, d) in fp32, with whatever unused slots hold."""
    pages = -(-batch.most_keys // cache.shape[1])
    of_entry = cache[batch.block_table[:, :pages].long()].flatten(1, 2)[:, : batch.most_keys]
    return of_entry[batch.entry_of_queries()].float().repeat_interleave(heads // cache.shape[2], 2)


def seen(batch: PagedBatch) -> Tensor:
    """Which keys each query sees: (queries, most keys, 1)."""
    limit = batch.seen_keys()
    return (torch.arange(batch.most_keys, device=limit.device) < limit[:, None])[..., None]


def probabilities(q: Tensor, keys: Tensor, batch: PagedBatch) -> Tensor:
    """Not yet divided by their sum: (queries, most keys, heads); zero for keys that are not seen."""
    products, visible = (q.float()[:, None] * keys).movedim(3, 1), seen(batch)
    logits = torch.where(visible, in_sequence(products) * batch.scale, -math.inf)
    return torch.where(visible, exponential(logits - logits.amax(1, keepdim=True)), 0.0)


def weighted(weights: Tensor, values: Tensor, batch: PagedBatch, add: Sum, masked: bool = True) -> Tensor:
    """Σ weight · value / Σ weight, both added in an order; unless ``masked``, unseen values are multiplied by zero."""
    terms = weights[..., None] * values
    if masked:
        terms = torch.where(seen(batch)[..., None], terms, 0.0)
    # Of -0.0 alone the sum is another than of -0.0 and the zeros of unseen keys.
    return add(terms + 0.0) / add(weights)[..., None]


def exponential(x: Tensor) -> Tensor:
    """exp of numbers up to 0, of additions and multiplications alone: of those it is known how they round."""
    bounded = x.clamp_min(_LOWEST)
    halvings = torch.round(bounded * (1 / math.log(2)))
    rest = bounded - halvings * _LN2_HIGH - halvings * _LN2_LOW
    series = torch.ones_like(rest)
    for degree in range(7, 0, -1):
        series.mul_(rest).mul_(1 / degree).add_(1.0)
    power = ((halvings.nan_to_num() + 127).int() << 23).view(torch.float32)
    return torch.where(x < _LOWEST, 0.0, series * power)
