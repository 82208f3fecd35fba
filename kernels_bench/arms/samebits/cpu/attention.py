"""The samebits attention on the CPU: paged and batch-invariant, in plain torch.

Everything is made of element-wise products, additions and comparisons, which IEEE 754 rounds alike wherever they
stand, so that queries of any sequences can be computed side by side. Even the exponential is (`exp_of_negative`): the
library's own gives an element other bits at the end of a vector than in its middle.

The order of a sum depends on the query's own length and the size of blocks alone (see `CpuAttentionTile`): keys are
folded in halves within a block, the blocks one after the other. A key that a query does not see, or whose logit is
minus infinity, adds a zero to sums that are never minus zero. What the cache holds beside a query's own keys is
replaced before it is multiplied, since 0 times NaN is NaN. So are keys before a sliding window, which begins wherever
the query's length says: blocks are counted from the sequence's first token. A head's sink comes before all blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels_bench.arms.samebits.rounding import rounded
from kernels_bench.arms.samebits.tiles import ATTENTION, CPU_ATTENTION_TILE, CPU_ATTENTION_TILES, CpuAttentionTile
from kernels_bench.operators.inputs.paged_batch import PagedBatch

# exp(x) = 2^k exp(f), f = x - k ln 2 in [-0.35, 0.35]: ln 2 in two parts, and Taylor's coefficients of exp(f).
_LN2 = (0.693359375, -2.12194440e-4)
_TAYLOR = tuple(1.0 / math.factorial(n) for n in range(7, -1, -1))
_LOWEST = -87.0
"""exp of less is given as exp of this: 1.6e-38, still a normal number."""


def exp_of_negative(x: Tensor) -> Tensor:
    """exp of fp32 numbers of at most 0, to about 2 ulp, from roundings that IEEE 754 prescribes."""
    x = x.clamp(min=_LOWEST)
    k = torch.round(x * (1 / math.log(2)))
    f = x - k * _LN2[0] - k * _LN2[1]
    found = torch.full_like(x, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        found = found * f + coefficient
    return found * ((k.int() + 127) << 23).view(torch.float32)


def folded(x: Tensor, dim: int) -> Tensor:
    """The sum along a dimension whose length is a power of two: halves are added until one element is left."""
    while x.shape[dim] > 1:
        left, right = x.chunk(2, dim)
        x = left + right
    return x.squeeze(dim)


def _capped(logits: Tensor, softcap: float) -> Tensor:
    """softcap · tanh(logits / softcap)."""
    ratio = logits / softcap
    e = exp_of_negative(-2 * ratio.abs())
    return softcap * torch.copysign((1 - e) / (1 + e), ratio)


def attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    *,
    tile: CpuAttentionTile = CPU_ATTENTION_TILE,
) -> Tensor:
    """Queries (queries, heads, d) over caches (pages, page, kv_heads, d or d_v); returns (queries, heads, d_v).

    Numbers of eight bits are multiplied by their caches' scales before anything else.
    """
    out = q.new_empty(*q.shape[:2], value_cache.shape[-1])
    entry, seen = batch.entry_of_queries(), batch.seen_keys()
    scales = batch.descale or (None, None)
    first = (seen - batch.window).clamp(min=0) if batch.window else torch.zeros_like(seen)
    for mine in _by_blocks(seen, tile):
        begin = int(first[mine].min()) // tile.block * tile.block
        token = torch.arange(begin, tile.block * (-(-int(seen[mine[0]]) // tile.block)))
        visible = (token < seen[mine, None]) & (token >= first[mine, None])
        page = key_cache.shape[1]
        pages = batch.block_table[entry[mine]][:, (token // page).clamp(max=batch.block_table.shape[1] - 1)].long()
        keys, values = (
            _wide(cache[pages, token % page], scale).masked_fill_(~visible[..., None, None], 0.0)
            for cache, scale in zip((key_cache, value_cache), scales, strict=True)
        )
        out[mine] = rounded(_attend(q[mine].float(), keys, values, visible, batch, tile.block), q.dtype)
    return out


def _wide(numbers: Tensor, scale: Tensor | None) -> Tensor:
    """In fp32, a tensor of its own."""
    return numbers.float() if scale is None else numbers.float() * scale


def _by_blocks(seen: Tensor, tile: CpuAttentionTile) -> Iterator[Tensor]:
    """The queries that see as many blocks of keys, some of them together."""
    blocks = (seen + tile.block - 1) // tile.block
    for count in blocks.unique():
        yield from (blocks == count).nonzero().flatten().split(tile.lines)


def kernels(label: str) -> dict[str, Callable[..., Tensor]]:
    """The kernels of one tile: one function serves all batches."""
    return dict.fromkeys(ATTENTION, partial(attention, tile=CPU_ATTENTION_TILES[label]))


def _attend(q: Tensor, keys: Tensor, values: Tensor, visible: Tensor, batch: PagedBatch, block: int) -> Tensor:
    """q (lines, heads, d) over keys and values (lines, n, kv_heads, …), of which ``visible`` (lines, n) are seen."""
    lines, heads, size = q.shape
    kv_heads = keys.shape[2]
    padding = (0, (1 << (size - 1).bit_length()) - size)
    unseen = ~visible[:, None]
    found = []
    for head, group in enumerate(q.view(lines, kv_heads, heads // kv_heads, 1, size).unbind(1)):
        key, value = keys[:, None, :, head], values[:, None, :, head]
        logits = folded(torch.nn.functional.pad(group * key, padding), 3) * batch.scale
        if batch.softcap:
            logits = _capped(logits, batch.softcap)
        logits.masked_fill_(unseen, -torch.inf)
        highest, total = logits.amax(2, keepdim=True), torch.zeros(logits.shape[:2], dtype=torch.float32)
        if batch.sinks is not None:
            sinks = batch.sinks.float().view(kv_heads, -1)[head]
            highest = torch.maximum(highest, sinks[:, None])
            total = total + exp_of_negative(sinks - highest[..., 0])
        weights = exp_of_negative(logits - highest).masked_fill_(logits == -torch.inf, 0.0)
        result = torch.zeros(*weights.shape[:2], values.shape[-1], dtype=torch.float32)
        for parts, those in zip(weights[..., None].split(block, 2), value.split(block, 2), strict=True):
            total = total + folded(parts, 2)[..., 0]
            result = result + folded(parts * those, 2)
        found.append(result / total[..., None])
    return torch.cat(found, 1)
