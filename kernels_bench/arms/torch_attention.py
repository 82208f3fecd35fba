"""Attention over a paged cache with ``scaled_dot_product_attention``, as a user without vLLM would write it.

torch's kernel knows neither pages nor lengths: keys and values are gathered, padded to the longest sequence of the
batch, and a mask says who sees whom.  Where the padded batch would not fit, it is served in parts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels_bench.paged import PagedBatch

PADDED_BYTES = 4 << 30
"""Padded keys, values and mask of the sequences that are served at once, at most."""


def attention(q: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, batch: PagedBatch) -> torch.Tensor:
    """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
    parts = []
    for first, last in _parts(batch.lengths, key_cache[0, 0].numel() * key_cache.element_size()):
        most_queries, most_keys = (int(n) for n in batch.lengths[first:last].amax(0))
        begin, end = (int(batch.lengths[:at, 0].sum()) for at in (first, last))
        starts = batch.cu_seqlens_q[first:last] - begin
        counts = batch.cu_seqlens_q[first : last + 1].diff()
        used = batch.seqused_k[first:last]
        keys, values = (
            _gathered(cache, batch.block_table[first:last], used, most_keys) for cache in (key_cache, value_cache)
        )
        padded = F.scaled_dot_product_attention(
            _padded(q[begin:end], starts, most_queries),
            keys,
            values,
            attn_mask=_visible(counts, used, most_queries, most_keys),
            scale=batch.scale,
            enable_gqa=True,
        )
        parts.append(_unpadded(padded.transpose(1, 2), starts, counts, end - begin))
    return torch.cat(parts)


def _parts(lengths: torch.Tensor, token_bytes: int) -> Iterator[tuple[int, int]]:
    """Runs of entries whose padded batch fits, as (first, one after the last)."""
    first = 0
    queries = keys = 1
    for entry, (query_count, key_count) in enumerate(lengths.tolist()):
        queries, keys = max(queries, query_count), max(keys, key_count)
        if entry > first and (entry + 1 - first) * keys * (2 * token_bytes + 4 * queries) > PADDED_BYTES:
            yield first, entry
            first, queries, keys = entry, query_count, key_count
    yield first, len(lengths)


def _padded(q: torch.Tensor, starts: torch.Tensor, most: int) -> torch.Tensor:
    """Queries as (entries, heads, most, d); beyond an entry's own, some other query."""
    place = starts[:, None] + torch.arange(most, device=q.device)
    return q[place.clamp(max=len(q) - 1).long()].transpose(1, 2)


def _gathered(cache: torch.Tensor, table: torch.Tensor, used: torch.Tensor, most: int) -> torch.Tensor:
    """Keys or values as (entries, kv_heads, most, d); beyond an entry's own, zeros."""
    page = cache.shape[1]
    token = torch.arange(most, device=cache.device)
    found = cache[table[:, token // page].long(), token % page]
    beyond = token >= used[:, None]
    return found.masked_fill(beyond[:, :, None, None], 0.0).transpose(1, 2)


def _visible(counts: torch.Tensor, used: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """Which key each query sees, (entries, 1, queries, keys); queries that are padding see the first one."""
    last = used[:, None] - counts[:, None] + torch.arange(queries, device=used.device)
    last = torch.minimum(last, used[:, None] - 1)
    return (torch.arange(keys, device=used.device) <= last[:, :, None])[:, None]


def _unpadded(padded: torch.Tensor, starts: torch.Tensor, counts: torch.Tensor, total: int) -> torch.Tensor:
    """(entries, most, heads, d) as (queries, heads, d)."""
    entry = torch.repeat_interleave(counts.long(), output_size=total)
    place = torch.arange(total, device=padded.device) - starts.long()[entry]
    return padded[entry, place]
