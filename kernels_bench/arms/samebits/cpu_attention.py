"""The samebits attention on the CPU: paged and batch-invariant, in plain torch.

Everything is made of element-wise products, additions and comparisons, which IEEE 754 rounds alike wherever they
stand, so that queries of any sequences can be computed side by side. Even the exponential is (`_exp`): the library's
own gives an element other bits at the end of a vector than in its middle.

The order of a sum depends on the query's own length alone: keys in blocks of `BLOCK`, folded in halves within a
block, the blocks one after the other. A key that a query does not see, or whose logit is minus infinity, adds a zero to
sums that are never minus zero. What the cache holds beside a query's own keys is replaced before it is multiplied,
since 0 times NaN is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kernels_bench.arms.samebits.cpu import rounded
from kernels_bench.operators.inputs.paged_batch import PagedBatch

BLOCK = 16

# exp(x) = 2^k exp(f), f = x - k ln 2 in [-0.35, 0.35]: ln 2 in two parts, and Taylor's coefficients of exp(f).
_LN2 = (0.693359375, -2.12194440e-4)
_TAYLOR = tuple(1.0 / math.factorial(n) for n in range(7, -1, -1))
_LOWEST = -87.0
"""exp of less is given as exp of this: 1.6e-38, still a normal number."""


def _exp(x: Tensor) -> Tensor:
    """exp of fp32 numbers of at most 0, to about 2 ulp, from roundings that IEEE 754 prescribes."""
    x = x.clamp(min=_LOWEST)
    k = torch.round(x * (1 / math.log(2)))
    f = x - k * _LN2[0] - k * _LN2[1]
    found = torch.full_like(x, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        found = found * f + coefficient
    return found * ((k.int() + 127) << 23).view(torch.float32)


def _folded(x: Tensor, dim: int) -> Tensor:
    """The sum along a dimension whose length is a power of two: halves are added until one element is left."""
    while x.shape[dim] > 1:
        left, right = x.chunk(2, dim)
        x = left + right
    return x.squeeze(dim)


def attention(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
    """Queries (queries, heads, d) over caches (pages, page, kv_heads, d or d_v); returns (queries, heads, d_v)."""
    out = q.new_empty(*q.shape[:2], value_cache.shape[-1])
    entry, seen = batch.entry_of_queries(), batch.seen_keys()
    for mine in _by_blocks(seen):
        token = torch.arange(BLOCK * (-(-int(seen[mine[0]]) // BLOCK)))
        visible = token < seen[mine, None]
        page = key_cache.shape[1]
        pages = batch.block_table[entry[mine]][:, (token // page).clamp(max=batch.block_table.shape[1] - 1)].long()
        keys, values = (
            cache[pages, token % page].float().masked_fill_(~visible[..., None, None], 0.0)
            for cache in (key_cache, value_cache)
        )
        out[mine] = rounded(_attend(q[mine].float(), keys, values, visible, batch.scale), q.dtype)
    return out


def _by_blocks(seen: Tensor) -> Iterator[Tensor]:
    """The queries that see as many blocks of keys, together."""
    blocks = (seen + BLOCK - 1) // BLOCK
    for count in blocks.unique():
        yield (blocks == count).nonzero().flatten()


def _attend(q: Tensor, keys: Tensor, values: Tensor, visible: Tensor, scale: float) -> Tensor:
    """q (lines, heads, d) over keys and values (lines, n, kv_heads, …), of which ``visible`` (lines, n) are seen."""
    lines, heads, size = q.shape
    kv_heads = keys.shape[2]
    padding = (0, (1 << (size - 1).bit_length()) - size)
    unseen = ~visible[:, None]
    found = []
    for head, group in enumerate(q.view(lines, kv_heads, heads // kv_heads, 1, size).unbind(1)):
        key, value = keys[:, None, :, head], values[:, None, :, head]
        logits = _folded(torch.nn.functional.pad(group * key, padding), 3) * scale
        logits.masked_fill_(unseen, -torch.inf)
        weights = _exp(logits - logits.amax(2, keepdim=True)).masked_fill_(logits == -torch.inf, 0.0)
        total = torch.zeros(weights.shape[:2])
        result = torch.zeros(*weights.shape[:2], values.shape[-1])
        for block in range(0, keys.shape[1], BLOCK):
            part = weights[:, :, block : block + BLOCK, None]
            total = total + _folded(part, 2)[..., 0]
            result = result + _folded(part * value[:, :, block : block + BLOCK], 2)
        found.append(result / total[..., None])
    return torch.cat(found, 1)
