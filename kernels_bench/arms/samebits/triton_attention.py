"""The samebits attention in Triton: paged, with a KV split of one fixed size.

Keys are walked in blocks of `BLOCK_N` by ascending place, `SPLIT` keys a program; a second kernel joins the splits of
a query in ascending order. How many there are follows from the query's own place in its sequence, and so the order of
every sum does: neither the batch, nor the neighbours, nor a prefill's chunks, nor the pages change it. A key that a
query does not see adds a zero.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.base import PreparedKernel
from kernels_bench.operators.inputs.paged_batch import PagedBatch

ROWS = 16  # queries times heads of a group that one program computes, at least: what matrix units take
BLOCK_N = 64
LEVELS = tl.constexpr(6)  # BLOCK_N = 2^LEVELS
SPLIT = 1024
_LOG2_E = 1.4426950408889634


@triton.jit
def _row_sums(x):
    """Sums of the rows of (M, `BLOCK_N`): neighbours are added in pairs, level by level, whatever the layout."""
    for _ in tl.static_range(LEVELS):
        x = tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)), axis=2)
    return tl.reshape(x, (x.shape[0],))


@triton.jit(do_not_specialize=["table_width", "splits"])
def _split_kernel(  # noqa: PLR0917
    q, keys, values, cu_seqlens, seqused, tables, sums, maxima, totals,
    scale, table_width, splits,
    HEADS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr,
    LANES: tl.constexpr, QUERIES: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One split of the keys for `QUERIES` queries of one entry and one group of heads, `LANES` rows a query."""
    KV_HEADS: tl.constexpr = HEADS // GROUP
    entry = tl.program_id(1).to(tl.int64)
    kv_head = tl.program_id(2) % KV_HEADS
    split = tl.program_id(2) // KV_HEADS
    first = tl.load(cu_seqlens + entry)
    count = tl.load(cu_seqlens + entry + 1) - first
    kv = tl.load(seqused + entry)
    tile = tl.program_id(0) * QUERIES
    begin = split * SPLIT
    end = tl.minimum(begin + SPLIT, kv - count + tl.minimum(tile + QUERIES, count))
    if (tile < count) & (begin < end):
        lane = tl.arange(0, QUERIES * LANES)
        cols = tl.arange(0, BLOCK_D)
        query = tile + lane // LANES
        member = lane % LANES
        real = (query < count) & (member < GROUP)
        seen = tl.where(real, kv - count + query + 1, 0)
        line = (first + query).to(tl.int64) * HEADS + kv_head * GROUP + member
        in_d = (cols < D)[None, :]
        q_tile = tl.load(q + line[:, None] * D + cols[None, :], mask=real[:, None] & in_d, other=0.0)
        if UPCAST:
            q_tile = q_tile.to(tl.float32)
        acc = tl.zeros((QUERIES * LANES, BLOCK_D), dtype=tl.float32)
        total = tl.zeros((QUERIES * LANES,), dtype=tl.float32)
        high = tl.full((QUERIES * LANES,), float("-inf"), dtype=tl.float32)
        for start in range(begin, end, BLOCK_N):
            token = start + tl.arange(0, BLOCK_N)
            page = tl.load(tables + entry * table_width + token // PAGE, mask=token < kv, other=0).to(tl.int64)
            at = ((page * PAGE + token % PAGE) * KV_HEADS + kv_head)[:, None] * D + cols[None, :]
            known = (token < kv)[:, None] & in_d
            key = tl.load(keys + at, mask=known, other=0.0)
            value = tl.load(values + at, mask=known, other=0.0)
            weights_type: tl.constexpr = value.dtype
            if UPCAST:
                key, value = key.to(tl.float32), value.to(tl.float32)
            logits = tl.dot(q_tile, tl.trans(key), input_precision="ieee") * scale
            logits = tl.where(token[None, :] < seen[:, None], logits, float("-inf"))
            higher = tl.maximum(high, tl.max(logits, 1))
            anchor = tl.where(higher == float("-inf"), 0.0, higher)  # a row that sees none of these keys
            weights = tl.exp2(logits - anchor[:, None])
            rescale = tl.exp2(high - anchor)
            total = tl.fma(total, rescale, _row_sums(weights))
            weights = weights.to(weights_type).to(value.dtype)
            acc = tl.dot(weights, value, acc * rescale[:, None], input_precision="ieee")
            high = higher
        stored = real & (begin < seen)
        place = line * splits + split
        tl.store(sums + place[:, None] * D + cols[None, :], acc, mask=stored[:, None] & in_d)
        tl.store(maxima + place, high, mask=stored)
        tl.store(totals + place, total, mask=stored)


@triton.jit(do_not_specialize=["splits"])
def _join_kernel(  # noqa: PLR0917
    sums, maxima, totals, seen, out, splits,
    HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Join the splits of one query and head, in ascending order."""
    line = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK_D)
    count = tl.cdiv(tl.load(seen + line // HEADS), SPLIT)
    high = tl.load(maxima + line * splits)
    for split in range(1, count):
        high = tl.maximum(high, tl.load(maxima + line * splits + split))
    acc = tl.zeros((BLOCK_D,), dtype=tl.float32)
    total = 0.0
    for split in range(count):
        place = line * splits + split
        weight = tl.exp2(tl.load(maxima + place) - high)
        acc = tl.fma(tl.load(sums + place * D + cols, mask=cols < D, other=0.0), weight, acc)
        total = tl.fma(tl.load(totals + place), weight, total)
    tl.store(out + line * D + cols, (acc / total).to(out.dtype.element_ty), mask=cols < D)


class Attention(PreparedKernel):
    """The kernels' call over a paged cache; d is at most 256, and all tensors are contiguous."""

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        return partial(_attend, q, key_cache, value_cache, batch, batch.seen_keys())


attention = Attention()


def _attend(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch, seen: Tensor) -> Tensor:
    lines, heads, size = q.shape
    kv_heads = key_cache.shape[2]
    splits = triton.cdiv(batch.most_keys, SPLIT)
    lanes = triton.next_power_of_2(heads // kv_heads)
    queries = max(1, ROWS // lanes)
    block_d = max(16, triton.next_power_of_2(size))
    sums = q.new_empty((lines, heads, splits, size), dtype=torch.float32)
    maxima, totals = q.new_empty((2, lines, heads, splits), dtype=torch.float32)
    grid = (triton.cdiv(batch.most_queries, queries), len(batch.lengths), kv_heads * splits)
    _split_kernel[grid](
        q, key_cache, value_cache, batch.cu_seqlens_q, batch.seqused_k, batch.block_table, sums, maxima, totals,
        batch.scale * _LOG2_E, batch.block_table.shape[1], splits,
        HEADS=heads, GROUP=heads // kv_heads, D=size, PAGE=key_cache.shape[1],
        LANES=lanes, QUERIES=queries, BLOCK_D=block_d, BLOCK_N=BLOCK_N, SPLIT=SPLIT,
        UPCAST=bool(triton.knobs.runtime.interpret),  # which has no dot of bf16
        num_warps=4,
    )  # fmt: skip
    out = torch.empty_like(q)
    _join_kernel[(lines * heads,)](
        sums, maxima, totals, seen, out, splits,
        HEADS=heads, D=size, BLOCK_D=block_d, SPLIT=SPLIT, num_warps=4,
    )  # fmt: skip
    return out
