"""The samebits attention in Triton: paged, with a KV split of one fixed size.

Keys are walked in blocks by ascending place, a split of keys a program; a second kernel joins the splits of a query in
ascending order. Both sizes are the `AttentionTile`'s, whatever is computed. How many splits there are follows from the
query's own place in its sequence, and so the order of every sum does: neither the batch, nor the neighbours, nor a
prefill's chunks, nor the pages change it. A key that a query does not see adds a zero; the blocks before a sliding
window are left out, which changes nothing but the time. A head's sink comes before all splits.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.base import PreparedKernel
from kernels_bench.arms.samebits.tiles import ATTENTION, ATTENTION_TILE, ATTENTION_TILES, AttentionTile
from kernels_bench.arms.samebits.triton.rows import row_sums
from kernels_bench.operators.inputs.paged_batch import PagedBatch

ROWS = 16  # queries times heads of a group that one program computes, at least: what matrix units take
_LOG2_E, _TWICE_LOG2_E = tl.constexpr(math.log2(math.e)), tl.constexpr(2 * math.log2(math.e))


@triton.jit
def _capped(logits, softcap):
    """softcap · tanh(logits / softcap)."""
    ratio = logits / softcap
    e = tl.exp2(-tl.abs(ratio) * _TWICE_LOG2_E)
    bounded = softcap * (1.0 - e) / (1.0 + e)
    return tl.where(ratio < 0.0, -bounded, bounded)


@triton.jit
def _logits(queries, keys, scale, softcap, CAPPED: tl.constexpr):
    """Of base 2, by query and key."""
    found = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
    return _capped(found, softcap) * _LOG2_E if CAPPED else found


@triton.jit
def _cached(cache, at, known, scale, dtype: tl.constexpr, SCALED: tl.constexpr, UPCAST: tl.constexpr):
    """Numbers of a cache in the queries' dtype, and zeros where none are known."""
    x = tl.load(cache + at, mask=known, other=0.0)
    if SCALED:
        x = (x.to(tl.float32) * tl.load(scale)).to(dtype)
    return x.to(tl.float32) if UPCAST else x


@triton.jit
def _visible(token, seen, WINDOW: tl.constexpr):
    """Whether a query that sees so many keys, or the last of them that its window has room for, sees a token's."""
    found = token < seen
    if WINDOW:
        found = found & (token >= seen - WINDOW)
    return found


@triton.jit(do_not_specialize=["table_width", "splits"])
def _attention_split_kernel(  # noqa: PLR0917
    q, keys, values, cu_seqlens, seqused, tables, key_scale, value_scale, sums, maxima, totals,
    scale, softcap, table_width, splits,
    q_token, q_head, key_page, key_slot, key_head, value_page, value_slot, value_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr,
    LANES: tl.constexpr, QUERIES: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
    UPCAST: tl.constexpr, WINDOW: tl.constexpr, CAPPED: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """One split of the keys for `QUERIES` queries of one entry and one group of heads, `LANES` rows a query.

    Queries, keys and values may be views: of all but their last dimension the strides are given, in elements.
    """
    KV_HEADS: tl.constexpr = HEADS // GROUP
    entry = tl.program_id(1).to(tl.int64)
    kv_head, split = tl.program_id(2) % KV_HEADS, tl.program_id(2) // KV_HEADS
    first = tl.load(cu_seqlens + entry)
    count = tl.load(cu_seqlens + entry + 1) - first
    kv = tl.load(seqused + entry)
    tile = tl.program_id(0) * QUERIES
    begin = split * SPLIT
    end = tl.minimum(begin + SPLIT, kv - count + tl.minimum(tile + QUERIES, count))
    oldest = tl.maximum(0, kv - count + tile + 1 - WINDOW) if WINDOW else 0  # that some query of the tile sees
    begin = tl.maximum(begin, oldest // BLOCK_N * BLOCK_N)
    if (tile < count) & (begin < end):
        lane, cols = tl.arange(0, QUERIES * LANES), tl.arange(0, BLOCK_D)
        query, member = tile + lane // LANES, lane % LANES
        real = (query < count) & (member < GROUP)
        seen = tl.where(real, kv - count + query + 1, 0)
        row, head = (first + query).to(tl.int64), kv_head * GROUP + member
        line = row * HEADS + head
        in_d = (cols < D)[None, :]
        at = (row * q_token + head * q_head)[:, None] + cols[None, :]
        q_tile = tl.load(q + at, mask=real[:, None] & in_d, other=0.0)
        if UPCAST:
            q_tile = q_tile.to(tl.float32)
        acc = tl.zeros((QUERIES * LANES, BLOCK_D), dtype=tl.float32)
        total = tl.zeros((QUERIES * LANES,), dtype=tl.float32)
        high = tl.full((QUERIES * LANES,), float("-inf"), dtype=tl.float32)
        for start in range(begin, end, BLOCK_N):
            token = start + tl.arange(0, BLOCK_N)
            page = tl.load(tables + entry * table_width + token // PAGE, mask=token < kv, other=0).to(tl.int64)
            slot = token % PAGE
            key_at = (page * key_page + slot * key_slot + kv_head * key_head)[:, None] + cols[None, :]
            value_at = (page * value_page + slot * value_slot + kv_head * value_head)[:, None] + cols[None, :]
            known = ((token < kv) & (token >= oldest))[:, None] & in_d
            key = _cached(keys, key_at, known, key_scale, q.dtype.element_ty, SCALED, UPCAST)
            value = _cached(values, value_at, known, value_scale, q.dtype.element_ty, SCALED, UPCAST)
            logits = _logits(q_tile, key, scale, softcap, CAPPED)
            logits = tl.where(_visible(token[None, :], seen[:, None], WINDOW), logits, float("-inf"))
            higher = tl.maximum(high, tl.max(logits, 1))
            anchor = tl.where(higher == float("-inf"), 0.0, higher)  # a row that sees none of these keys
            weights = tl.exp2(logits - anchor[:, None])
            rescale = tl.exp2(high - anchor)
            total = tl.fma(total, rescale, row_sums(weights))
            weights = weights.to(q.dtype.element_ty).to(value.dtype)
            acc = tl.dot(weights, value, acc * rescale[:, None], input_precision="ieee")
            high = higher
        stored = real & (split * SPLIT < seen)
        place = line * splits + split
        tl.store(sums + place[:, None] * D + cols[None, :], acc, mask=stored[:, None] & in_d)
        tl.store(maxima + place, high, mask=stored)
        tl.store(totals + place, total, mask=stored)


@triton.jit(do_not_specialize=["splits"])
def _attention_join_kernel(  # noqa: PLR0917
    sums, maxima, totals, seen, sinks, out, splits,
    HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, SPLIT: tl.constexpr,
    WINDOW: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Join the splits of one query and head, in ascending order."""
    line = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK_D)
    keys = tl.load(seen + line // HEADS)
    count = tl.cdiv(keys, SPLIT)
    first = 0
    if WINDOW:
        first = tl.maximum(keys - WINDOW, 0) // SPLIT
    high = tl.load(maxima + line * splits + first)
    for split in range(first + 1, count):
        high = tl.maximum(high, tl.load(maxima + line * splits + split))
    acc = tl.zeros((BLOCK_D,), dtype=tl.float32)
    total = 0.0
    if SINKS:
        sink = tl.load(sinks + line % HEADS).to(tl.float32) * _LOG2_E
        high = tl.maximum(high, sink)
        total += tl.exp2(sink - high)
    for split in range(first, count):
        place = line * splits + split
        weight = tl.exp2(tl.load(maxima + place) - high)
        acc = tl.fma(tl.load(sums + place * D + cols, mask=cols < D, other=0.0), weight, acc)
        total = tl.fma(tl.load(totals + place), weight, total)
    tl.store(out + line * D + cols, (acc / total).to(out.dtype.element_ty), mask=cols < D)


class Attention(PreparedKernel):
    """The kernels' call over a paged cache; d is at most 256. Queries and caches may be views of wider tensors.

    Args:
        tile: how keys are cut.
    """

    def __init__(self, tile: AttentionTile = ATTENTION_TILE) -> None:
        self._tile = tile

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        return partial(_attend, self._tile, q, key_cache, value_cache, batch, batch.seen_keys())


attention = Attention()


def kernels(label: str) -> dict[str, Attention]:
    """The kernels of one tile: one function serves all batches."""
    return dict.fromkeys(ATTENTION, Attention(ATTENTION_TILES[label]))


def _with_whole_rows(x: Tensor) -> Tensor:
    """A tensor whose last dimension's elements follow each other: itself where they do."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _attend(
    tile: AttentionTile, q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch, seen: Tensor
) -> Tensor:
    q, key_cache, value_cache = map(_with_whole_rows, (q, key_cache, value_cache))
    lines, heads, size = q.shape
    kv_heads = key_cache.shape[2]
    splits = triton.cdiv(batch.most_keys, tile.split)
    lanes = triton.next_power_of_2(heads // kv_heads)
    queries = max(1, ROWS // lanes)
    block_d = max(16, triton.next_power_of_2(size))
    sums = q.new_empty((lines, heads, splits, size), dtype=torch.float32)
    maxima, totals = q.new_empty((2, lines, heads, splits), dtype=torch.float32)
    key_scale, value_scale = batch.descale or (q, q)
    grid = (triton.cdiv(batch.most_queries, queries), len(batch.lengths), kv_heads * splits)
    _attention_split_kernel[grid](
        q, key_cache, value_cache, batch.cu_seqlens_q, batch.seqused_k, batch.block_table,
        key_scale, value_scale, sums, maxima, totals,
        batch.scale * (1.0 if batch.softcap else _LOG2_E.value), float(batch.softcap),
        batch.block_table.shape[1], splits,
        *q.stride()[:-1], *key_cache.stride()[:-1], *value_cache.stride()[:-1],
        HEADS=heads, GROUP=heads // kv_heads, D=size, PAGE=key_cache.shape[1],
        LANES=lanes, QUERIES=queries, BLOCK_D=block_d, BLOCK_N=tile.block, SPLIT=tile.split,
        UPCAST=bool(triton.knobs.runtime.interpret),  # which has no dot of bf16
        WINDOW=batch.window, CAPPED=batch.softcap > 0, SCALED=batch.descale is not None,
        num_warps=tile.warps,
    )  # fmt: skip
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    _attention_join_kernel[(lines * heads,)](
        sums, maxima, totals, seen, q if batch.sinks is None else batch.sinks, out, splits,
        HEADS=heads, D=size, BLOCK_D=block_d, SPLIT=tile.split,
        WINDOW=batch.window, SINKS=batch.sinks is not None, num_warps=4,
    )  # fmt: skip
    return out
