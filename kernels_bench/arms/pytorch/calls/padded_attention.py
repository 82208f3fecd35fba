"""Attention over a paged cache with ``scaled_dot_product_attention``, as a user without vLLM would write it.

torch's kernels know neither pages nor lengths: keys and values are gathered, padded to the longest sequence of the
batch, and a mask says who sees whom.  Where the padded batch would not fit, it is served in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import PreparedKernel, Unsupported
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.model_shapes import LATENT

if TYPE_CHECKING:
    from torch import Tensor

PADDED_BYTES = 512 << 20
"""Padded keys, values and mask of the sequences that are served at once, at most."""


@dataclass(frozen=True)
class Part:
    """Entries of a batch that are padded together.

    Attributes:
        begin: their first query's place among all queries.
        end: one after their last query's.
        starts: where each entry's queries begin among these.
        counts: queries of each entry.
        used: keys of each entry.
        block_table: pages of each entry.
        most_queries: of an entry.
        most_keys: of an entry.
        scale: what logits are multiplied by.
        window: keys that a query sees at most; 0: all up to its own.
        descale: what numbers of eight bits in the caches are multiplied by; None where they have more.
    """

    begin: int
    end: int
    starts: Tensor
    counts: Tensor
    used: Tensor
    block_table: Tensor
    most_queries: int
    most_keys: int
    scale: float
    window: int
    descale: tuple[Tensor, Tensor] | None

    def queries(self, q: Tensor) -> Tensor:
        """Queries as (entries, heads, most_queries, d); beyond an entry's own, some other query."""
        place = self.starts[:, None] + torch.arange(self.most_queries, device=q.device)
        return q[self.begin + place.clamp(max=self.end - self.begin - 1).long()].transpose(1, 2)

    def first_seen(self) -> Tensor:
        """The first key that some query of each entry sees, (entries)."""
        if not self.window:
            return torch.zeros_like(self.used)
        return (self.used - self.counts + 1 - self.window).clamp(min=0)

    def gathered(self, caches: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values in a dtype, (entries, kv_heads, most_keys, d) each; those that no query sees are zeros."""
        scales = self.descale or (None, None)
        keys, values = (self._gathered(cache, scale, dtype) for cache, scale in zip(caches, scales, strict=True))
        return keys, values

    def _gathered(self, cache: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
        page = cache.shape[1]
        token = torch.arange(self.most_keys, device=cache.device)
        found = cache[self.block_table[:, token // page].long(), token % page]
        if scale is not None:
            found = (found.float() * scale).to(dtype)
        beyond = (token >= self.used[:, None]) | (token < self.first_seen()[:, None])
        return found.masked_fill(beyond[:, :, None, None], 0.0).transpose(1, 2)

    def visible(self) -> Tensor:
        """Which key each query sees, (entries, 1, most_queries, most_keys); queries that are padding see the first."""
        device = self.used.device
        last = self.used[:, None] - self.counts[:, None] + torch.arange(self.most_queries, device=device)
        last = torch.minimum(last, self.used[:, None] - 1)
        token = torch.arange(self.most_keys, device=device)
        seen = token <= last[:, :, None]
        if self.window:
            seen &= token > last[:, :, None] - self.window
        return seen[:, None]

    def unpadded(self, padded: Tensor) -> Tensor:
        """(entries, most_queries, heads, d) as (queries, heads, d)."""
        total = self.end - self.begin
        entry = torch.repeat_interleave(self.counts.long(), output_size=total)
        place = torch.arange(total, device=padded.device) - self.starts.long()[entry]
        return padded[entry, place]


def parts(batch: PagedBatch, token_bytes: int) -> Iterator[Part]:
    """A batch in parts that fit once they are padded; a token's key takes ``token_bytes``.

    Raises:
        RuntimeError: there are several while a CUDA graph is captured, which could not follow other lengths.
    """
    runs = list(_runs(batch.lengths, token_bytes))
    if len(runs) > 1 and _capturing(batch):
        raise RuntimeError("a padded batch in parts follows lengths on the host, and a graph would not")
    for first, last in runs:
        begin, end = (int(batch.lengths[:at, 0].sum()) for at in (first, last))
        most_queries, most_keys = (int(n) for n in batch.lengths[first:last].amax(0))
        yield Part(
            begin=begin,
            end=end,
            starts=batch.cu_seqlens_q[first:last] - begin,
            counts=batch.cu_seqlens_q[first : last + 1].diff(),
            used=batch.seqused_k[first:last],
            block_table=batch.block_table[first:last],
            most_queries=most_queries,
            most_keys=most_keys,
            scale=batch.scale,
            window=batch.window,
            descale=batch.descale,
        )


def _capturing(batch: PagedBatch) -> bool:
    return batch.seqused_k.is_cuda and torch.cuda.is_current_stream_capturing()


def _runs(lengths: Tensor, token_bytes: int) -> Iterator[tuple[int, int]]:
    """Runs of entries whose padded batch fits, as (first, one after the last)."""
    first = 0
    queries = keys = 1
    for entry, (query_count, key_count) in enumerate(lengths.tolist()):
        queries, keys = max(queries, query_count), max(keys, key_count)
        if entry > first and (entry + 1 - first) * keys * (2 * token_bytes + 4 * queries) > PADDED_BYTES:
            yield first, entry
            first, queries, keys = entry, query_count, key_count
    yield first, len(lengths)


class PaddedAttention(PreparedKernel):
    """``scaled_dot_product_attention`` over a padded batch."""

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        if batch.softcap or batch.sinks is not None:
            raise Unsupported("scaled_dot_product_attention has no soft cap and no sinks")
        return _in_parts(batch, key_cache[0, 0].numel() * q.element_size(), q, key_cache, value_cache)


class PaddedLatentAttention(PreparedKernel):
    """The same over a latent cache."""

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, 576) over a latent cache (pages, page, 576); returns (queries, heads, 512)."""
        q, cache, batch = arguments
        keys = cache[:, :, None]
        repeated = 1 if bool((batch.lengths[:, 0] == 1).all()) else q.shape[1]
        return _in_parts(batch, repeated * cache.shape[2] * cache.element_size(), q, keys, keys[..., :LATENT])


def _in_parts(
    batch: PagedBatch, token_bytes: int, q: Tensor, key_cache: Tensor, value_cache: Tensor
) -> Callable[[], Tensor]:
    calls = [
        partial(_attend_part, part, part.visible(), q, key_cache, value_cache) for part in parts(batch, token_bytes)
    ]
    return lambda: torch.cat([call() for call in calls])


def _attend_part(part: Part, visible: Tensor, q: Tensor, key_cache: Tensor, value_cache: Tensor) -> Tensor:
    queries, (keys, values) = part.queries(q), part.gathered((key_cache, value_cache), q.dtype)
    # Heads that share all keys are as good as queries; else torch repeats the keys for every head.
    fold = keys.shape[1] == 1 and part.most_queries == 1
    padded = F.scaled_dot_product_attention(
        queries.transpose(1, 2) if fold else queries,
        keys,
        values,
        attn_mask=visible,
        scale=part.scale,
        enable_gqa=not fold,
    )
    return part.unpadded(padded if fold else padded.transpose(1, 2))


class PackedAttention(PreparedKernel):
    """The same of whole packed sequences, each of which begins with its first token: causal without a mask."""

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """q and k (tokens, heads, dk), v (tokens, heads, dv), and where each sequence begins."""
        q, k, v, cu_seqlens = arguments
        return partial(_attend_packed, (q, k, v), cu_seqlens.diff().tolist())


def _attend_packed(tensors: tuple[Tensor, ...], counts: list[int]) -> Tensor:
    q, k, v = (torch.nn.utils.rnn.pad_sequence(one.split(counts), batch_first=True).transpose(1, 2) for one in tensors)
    padded = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    return torch.cat([one[:count] for one, count in zip(padded, counts, strict=True)])


attention, latent_attention, packed_attention = PaddedAttention(), PaddedLatentAttention(), PackedAttention()
