"""Causal attention over a paged KV cache, of variable length and with grouped heads.

A row is a sequence: its KV length, its queries and its seed; see `kernels_bench.operators.inputs.sequences`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.base import Operator, RowTensors, Tensors, item_sizes
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.inputs.sequences import (
    KEPT,
    TOKENS,
    Census,
    Entries,
    Mode,
    Tokens,
    census,
    entries,
    keys_of,
    queries_of,
    tokens_of,
    values_of,
    with_hostile,
)  # fmt: skip
from kernels_bench.operators.inputs.served_pages import MANY_PAGES, ServedPages, is_usual, pages_before, serve
from kernels_bench.operators.inputs.special_sequences import (
    make_keys_special,
    make_queries_special,
    make_values_special,
)  # fmt: skip
from kernels_bench.operators.paged import attention_probes as key_sums
from kernels_bench.operators.paged.reference import CAUSAL, Rules, allowed, attend, by_sequence, least_weight
from kernels_bench.records.cases import ITEM_SIZE, Logits, Precision, Shape
from kernels_bench.relations.batch import Batch, Ids, ResultRows, Serving

_STALE = 1024.0
"""What slots of a page hold that no token of the sequence was written to: finite, as in a cache that is in use."""

_CHUNK_SCORES = 1 << 26

_MOST_QUERIES = 12 * 2048
"""Queries of a company, about: in `neighbour_length` as many strangers prefill at once."""

_WORKING_BYTES = 3 << 30
"""What drawing queries and computing the reference take of memory, whatever the shape."""


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """A batch's metadata as engines keep it: on the device, and the lengths on the host too."""

    queries: torch.Tensor
    rows: torch.Tensor
    cu_seqlens: torch.Tensor
    seqused: torch.Tensor
    lengths: torch.Tensor


@lru_cache(KEPT)
def _on_device(known: Census, batch: Entries, device: torch.device) -> _OnDevice:
    counts = batch.stop - batch.start
    ids = batch.lines.ids
    return _OnDevice(
        queries=copy_to_device(known.offset[ids // TOKENS] + ids % TOKENS, device),
        rows=copy_to_device(batch.row, device),
        cu_seqlens=copy_to_device(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), device),
        seqused=copy_to_device(batch.stop.astype(np.int32), device),
        lengths=torch.tensor(np.stack([counts, batch.stop], 1)),
    )


def _served_pages(
    serving: Serving, known: Census, batch: Entries, caches: Tensors, window: int
) -> tuple[torch.Tensor, Tensors]:
    """The block table, and caches of their own where they hold others than ``caches``."""
    pages = serve(serving, batch, ServedPages(known.block_table[batch.row], caches), window)
    table = copy_to_device(pages.table.astype(np.int32), caches[0].device)
    return table, () if pages.caches is caches else pages.caches


class Attention(Operator):
    """softmax(q kᵀ / √d, causal) v for every query head, over the pages that a block table names.

    A kernel takes q (queries, heads, d), the key and the value cache (pages, page, kv_heads, d) and a `PagedBatch`, and
    returns (queries, heads, d).
    """

    mode: ClassVar[Mode]
    telling: ClassVar[int] = 0  # the component of a key that the logits of probes and of special sequences stand in
    by_request: ClassVar[tuple[str, ...]] = ("cuda",)  # there is so much to measure
    dims: ClassVar[tuple[str, ...]] = ("heads", "kv_heads", "k", "page", "tokens")
    shapes = models.head_layouts()
    usual: ClassVar[tuple[str, ...]] = models.TELLING_HEAD_LAYOUTS
    precisions = ("bf16", "fp16")
    readable = ("bf16",)  # fp16 has no room for a unit, what is lost beside it, and a division by the keys
    sums_are_exact = False
    logits: Logits = "flat"
    timed_shapes: ClassVar[tuple[str, ...]] = (*models.TELLING_HEAD_LAYOUTS, "llama-2-7b", "small")

    def for_length(self, length: int | None) -> Attention:
        """The same with sequences of ``length`` tokens, whose data are drawn at once and not one by one."""
        if length is None:
            return self
        timed = copy(self)
        timed.length = length
        return timed

    def with_lengths(self, lengths: tuple[int, ...]) -> Attention:
        """The same with universes whose first sequences have so many tokens, see `Operator.with_lengths`."""
        found = copy(self)
        found.asked = lengths
        return found

    def for_probing(self, length: int | None, logits: Logits) -> Attention:
        """The same with sums over ``length`` keys to be read."""
        found = copy(self)
        found.length, found.logits = length, logits
        return found

    def census(self, shape: Shape, count: int) -> Census:
        """The sequences of a universe of ``count``."""
        return census(self.mode, shape, count, self.length, self.asked)

    def entries(self, company: Batch, shape: Shape, count: int) -> Entries:
        """How a company's sequences are served."""
        return entries(self.census(shape, count), company)

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """All queries (queries, heads, d), the block table, and where each sequence's queries stand."""
        known = self.census(shape, count)
        heads, size = shape.heads or 1, shape.k
        queries = torch.empty(int((known.kv - known.start).sum()), heads * size, dtype=dtype, device=device)
        if self.length is not None:
            queries.normal_(generator=torch.Generator(device).manual_seed(seed))
        else:
            for tokens in tokens_of(known, known.start, heads * size, device):
                queries[tokens.part] = with_hostile(self.queries(seed, tokens, heads * size), tokens, dtype)
                if special := tokens.specials:
                    make_queries_special(queries[special.part], size, self.telling)
        return (
            queries.view(-1, heads, size),
            torch.tensor(known.block_table, dtype=torch.int32, device=device),
            torch.tensor(known.offset, device=device),
        )

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """None: what all sequences share is the cache, see `shared`."""
        return ()

    def shared_inputs(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The key and the value cache, each (pages, page, kv_heads, d)."""
        known = self.census(shape, count)
        slots = int(known.pages.sum()) * known.page
        caches = [
            torch.full((slots, math.prod(sizes)), _STALE, dtype=dtype, device=device) for sizes in self.slots(shape)
        ]
        if self.length is None:
            self._fill(caches, known, shape, seed)
        else:
            generator = torch.Generator(device).manual_seed(seed)
            for cache in caches:
                cache.normal_(generator=generator)
        return tuple(cache.view(-1, known.page, *sizes) for cache, sizes in zip(caches, self.slots(shape), strict=True))

    def slots(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        """What one token takes of each cache."""
        return ((shape.kv_heads or 1, shape.k),) * 2

    def cache_item(self, precision: Precision) -> int:
        """Bytes of an element of a cache."""
        return ITEM_SIZE[precision.input]

    def cache_bytes(self, shape: Shape, precision: Precision, tokens: int) -> int:
        """What so many tokens take of all caches."""
        return tokens * self._cached_by_token(shape) * self.cache_item(precision)

    def _cached_by_token(self, shape: Shape) -> int:
        """Elements that one token takes of all caches."""
        return sum(math.prod(sizes) for sizes in self.slots(shape))

    def queries(self, seed: int, tokens: Tokens, width: int) -> torch.Tensor:
        """fp32 queries (tokens, width)."""
        return queries_of(seed, tokens, width)

    def cached(self, seed: int, tokens: Tokens, kv: torch.Tensor, shape: Shape) -> Tensors:
        """What each cache holds of some tokens, fp32 (tokens, …), whose sequences have ``kv`` tokens."""
        width = (shape.kv_heads or 1) * shape.k
        return keys_of(seed, tokens, kv, width, shape.k), values_of(seed, tokens, kv, width)

    def keys_and_values(self, weights: Tensors) -> Tensors:
        """Keys (pages, page, kv_heads, d) and values (pages, page, kv_heads, d_v) of the caches."""
        return weights

    def keys_and_values_by_token(self, cached: Tensors) -> Tensors:
        """Keys (tokens, kv_heads · d) and values (tokens, kv_heads · d_v) in what the caches hold of some tokens."""
        return cached

    def split_weights(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The caches, and what all sequences share besides."""
        return weights, ()

    def weights_in_one(self, weights: Tensors) -> Tensors:
        """Two caches as one tensor (pages, 2, page, …), where they are alike."""
        caches, further = self.split_weights(weights)
        if len(caches) != len(("keys", "values")) or caches[0].shape != caches[1].shape:
            return weights
        return *torch.stack(caches, 1).unbind(1), *further

    def weights_transposed(self, weights: Tensors) -> Tensors:
        """Caches (pages, page, kv_heads, d) whose heads come before a page's slots in memory."""
        caches, further = self.split_weights(weights)
        with_heads = len(("pages", "page", "kv_heads", "d"))
        if any(cache.dim() != with_heads for cache in caches):
            return weights
        turned = (cache.transpose(1, 2).clone(memory_format=torch.contiguous_format) for cache in caches)
        return *(cache.transpose(1, 2) for cache in turned), *further

    def scales(self, weights: Tensors) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """What keys and values are multiplied by."""
        return 1.0, 1.0

    def rules(self, weights: Tensors) -> Rules:
        """What the softmax does beside being causal."""
        return CAUSAL

    def told(self, batch: PagedBatch, further: Tensors) -> PagedBatch:
        """A batch with what kernels are told besides, of which ``further`` tensors are shared by all sequences."""
        return batch

    def value_size(self, shape: Shape) -> int:
        """d_v."""
        return shape.k

    def scale(self, width: int) -> float:
        """What logits are multiplied by, for keys of ``width``."""
        return float(width**-0.5)

    def _fill(self, caches: Sequence[torch.Tensor], known: Census, shape: Shape, seed: int) -> None:
        """Write every token's key and value to its slot."""
        dtype, device = caches[0].dtype, caches[0].device
        table = torch.tensor(known.block_table, device=device)
        kv = torch.tensor(known.kv, device=device)
        for tokens in tokens_of(known, np.zeros_like(known.kv), self._cached_by_token(shape), device):
            slot = table[tokens.row, tokens.place // known.page] * known.page + tokens.place % known.page
            cached = self.cached(seed, tokens, kv[tokens.row], shape)
            held = tuple(with_hostile(values, tokens, dtype) for values in cached)
            if special := tokens.specials:
                self._make_special(tuple(values[tokens.special_from :] for values in held), special, kv, shape)
            for cache, values in zip(caches, held, strict=True):
                cache[slot] = values

    def _make_special(self, cached: Tensors, tokens: Tokens, kv: torch.Tensor, shape: Shape) -> None:
        """Make what the caches hold of special sequences' tokens special, in place."""
        keys, values = self.keys_and_values_by_token(cached)
        make_values_special(values, tokens, self.value_size(shape))
        make_keys_special(keys, tokens, kv[tokens.row], shape.k, self.telling)

    def lines(self, company: Batch, count: int, shape: Shape) -> ResultRows:
        """A line a query."""
        return self.entries(company, shape, count).lines

    def locate_row(self, line: int) -> tuple[int, int | None]:
        """The sequence, and the token's place in it."""
        return divmod(line, TOKENS)

    def gather(self, company: Batch, count: int, shape: Shape, tables: RowTensors, weights: Tensors) -> RowTensors:
        """q, cu_seqlens_q, seqused_k, the block table and the lengths; caches of their own where they hold others."""
        known, served = self.census(shape, count), self.entries(company, shape, count)
        batch = _on_device(known, served, tables[0].device)
        table, caches = (
            (tables[1].index_select(0, batch.rows), ())
            if is_usual(company.serving)
            else _served_pages(company.serving, known, served, self.split_weights(weights)[0], shape.window or 0)
        )
        return (
            tables[0].index_select(0, batch.queries),
            batch.cu_seqlens.clone(),
            batch.seqused.clone(),
            table,
            batch.lengths.clone(),
            *caches,
        )

    def view(self, company: Batch, tables: RowTensors) -> RowTensors | None:
        """None: a batch's metadata are its own."""
        return None

    def huge_rows(self, shape: Shape) -> int:
        """0: see `far_bytes`."""
        return 0

    def far_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """Bytes of all caches of one batch."""
        known = self.census(shape, universe)
        elements = [known.page * math.prod(sizes) for sizes in self.slots(shape)]
        pages = pages_before(elements) + int(known.pages.sum())
        return pages * sum(elements) * self.cache_item(precision)

    def many_pages_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of caches of `MANY_PAGES`."""
        elements = sum((shape.page or 1) * math.prod(sizes) for sizes in self.slots(shape))
        return MANY_PAGES * elements * self.cache_item(precision)

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(q, key_cache, value_cache, batch)."""
        queries, cu_seqlens, seqused, table, lengths, *caches = rows
        usual, further = self.split_weights(weights)
        batch = self.told(PagedBatch(cu_seqlens, seqused, table, lengths, self.scale(queries.shape[-1])), further)
        return (queries, *(caches or usual), batch)

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(queries, heads, d_v)."""
        return ((m, shape.heads or 1, self.value_size(shape)),)

    def inputs_of(self, lines: torch.Tensor, tables: RowTensors) -> RowTensors:
        """The queries (lines, heads, d), their sequences, their tokens, and the block table."""
        row, token = lines // TOKENS, lines % TOKENS
        return tables[0].index_select(0, tables[2][row] + token), row, token, tables[1]

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, sequence by sequence."""
        return (self._attend(rows, weights, lambda values: values),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Kernels round each probability to the inputs' dtype before it meets its value, and the result."""
        size = self._attend(rows, weights, torch.abs, least_weight(rows[0].dtype))
        return (allowed(rows[0], size, exact[0], out, self.rules(weights)),)

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """Values and their sizes, side by side, have the same probabilities where a small one loses nothing more."""
        if least_weight(rows[0].dtype):
            exact = self.reference(rows, weights)
            return exact, self.tolerance(rows, weights, exact, out)
        both = self._attend(rows, weights, lambda values: torch.cat([values, values.abs()], -1))
        values, size = both.chunk(2, -1)
        return (values.contiguous(),), (allowed(rows[0], size, values, out, self.rules(weights)),)

    def _attend(
        self, inputs: RowTensors, weights: Tensors, of: Callable[[torch.Tensor], torch.Tensor], least: float = 0.0
    ) -> torch.Tensor:
        """Attention over what ``of`` makes of each sequence's values, in float64: (lines, heads, …)."""
        queries, rows, tokens, table = inputs
        key_cache, value_cache = self.keys_and_values(self.split_weights(weights)[0])
        page, scale, rules = key_cache.shape[1], self.scale(queries.shape[-1]), self.rules(weights)
        scales = self.scales(weights)
        answers, places = [], []
        for row, last, mine in by_sequence(rows, tokens):
            pages = table[row, : -(-last // page)].long()
            keys, values = (
                cache[pages].flatten(0, 1)[:last].double().transpose(0, 1) * one
                for cache, one in zip((key_cache, value_cache), scales, strict=True)
            )
            for part in mine.split(max(1, _CHUNK_SCORES // (last * queries.shape[1]))):
                answers.append(attend(queries[part].double() * scale, tokens[part], keys, of(values), rules, least))
                places.append(part)
        joined = torch.cat(answers)
        in_order = torch.empty_like(joined)
        in_order[torch.cat(places)] = joined
        return in_order

    def probe_terms(self, shape: Shape) -> int:
        """The keys."""
        return self.length or 0

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every component of every head's value, where the keys are counted and nothing is `unread`."""
        return 0 if self.length is None or self.unread else (shape.kv_heads or 1) * self.value_size(shape)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Sequences over the same pages, whose values are ``terms`` over their keys' weights."""
        keys, device = self.probe_terms(shape), terms.device
        probe = key_sums.batch(self.mode, keys, shape.page or 1, m, device)
        weight = key_sums.weights(self.logits, keys).to(device)
        values = (terms.double() / weight).to(terms.dtype).T.reshape(keys, shape.kv_heads or 1, -1)
        level = key_sums.levels(self.logits, keys).to(values)[:, None, None]
        caches = (
            key_sums.paged(tokens, probe.pages, shape.page or 1) for tokens in self.probing_slots(values, level, shape)
        )
        queries = terms.new_zeros(probe.queries, shape.heads or 1, shape.k)
        queries[..., self.telling] = float(self.logits != "flat")
        return (queries, *probe.metadata), tuple(caches)

    def probing_slots(self, values: torch.Tensor, level: torch.Tensor, shape: Shape) -> Tensors:
        """What each cache holds of some tokens with values (tokens, kv_heads, d_v) and logits (tokens, 1, 1)."""
        keys = values.new_zeros(*values.shape[:2], shape.k)
        keys[..., self.telling] = level[..., 0]
        return keys, values

    def probe_arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """With the scale that makes every weight a power of two."""
        *tensors, batch = self.arguments(rows, weights)
        return (*tensors, batch._replace(scale=key_sums.SCALE))

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(sequences times heads of a group, sums): what each last query's result is times all weights."""
        keys, found = self.probe_terms(shape), outputs[0]
        last = key_sums.batch(self.mode, keys, shape.page or 1, m, found.device).last_queries
        grouped = found[last].double().view(m, shape.kv_heads or 1, -1, found.shape[-1])
        total = float(key_sums.weights(self.logits, keys).sum())
        return grouped.transpose(1, 2).reshape(-1, self.probe_sum_count(shape, m)) * total

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """Keys and values of the universe's first m sequences read, queries read and results written."""
        known = self.census(shape, m)
        start, kv = known.start[:m], known.kv[:m]
        queries = int((kv - start).sum()) * (shape.heads or 1)
        # Of a window's keys those of the first query come first.
        seen = np.minimum(kv, kv - start + shape.window - 1) if shape.window else kv
        cached = self.cache_bytes(shape, precision, int(seen.sum()))
        read, written = item_sizes(precision)
        return cached + queries * (shape.k * read + self.value_size(shape) * written)

    def verification_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """Queries, results and five times the caches.

        These are kept, compared with a second copy, twice copied where pages move, and torch's allocator keeps more.
        """
        known, (read, written) = self.census(shape, universe), item_sizes(precision)
        cached = self.cache_bytes(shape, precision, int(known.pages.sum()) * known.page)
        queries = max(int((known.kv - known.start).sum()), _MOST_QUERIES) * (shape.heads or 1)
        of_query = 2 * shape.k * read + 3 * self.value_size(shape) * written
        return 5 * cached + queries * of_query + _WORKING_BYTES

    def operations(self, shape: Shape, m: int) -> int:
        """Two products over the keys that each query of the first m sequences sees."""
        known = self.census(shape, m)
        seen = int((_seen(known.kv[:m], shape.window) - _seen(known.start[:m], shape.window)).sum())
        return 2 * seen * (shape.heads or 1) * (shape.k + self.value_size(shape))


def _seen(tokens: Ids, window: int | None) -> Ids:
    """How many keys the first so many tokens' queries see together."""
    rising = np.minimum(tokens, window) if window else tokens
    return rising * (rising + 1) // 2 + (tokens - rising) * (window or 0)


class AttentionDecode(Attention):
    """One query a sequence: its last token's."""

    name = "attention_decode"
    summary = "one query a sequence over its paged KV cache"
    mode = "decode"
    usual = (*models.USUAL_HEAD_LAYOUTS, "long")
    rows_are = "sequences"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 257, "cpu": 17}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1, 16, 256), "cpu": (1, 16)}
    lengths: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (128, 2048, 32768), "cpu": (64,)}


class AttentionPrefill(Attention):
    """All queries of every sequence."""

    name = "attention_prefill"
    summary = "all queries of a sequence over its paged KV cache, causal"
    mode = "prefill"
    rows_are = "prefills"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 40, "cpu": 8}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (1,), "cpu": (1,)}
    lengths: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (128, 2048, 8192), "cpu": (64,)}


class AttentionMixed(Attention):
    """Sequences that decode beside sequences that prefill their second half."""

    name = "attention_mixed"
    summary = "decode beside prefill of a second half, over a paged KV cache"
    mode = "mixed"
    rows_are = "prefills"
    universe: ClassVar[Mapping[str, int]] = {"cuda": 65, "cpu": 9}
    timed: ClassVar[Mapping[str, tuple[int, ...]]] = {"cuda": (), "cpu": ()}


ORDER = 1
OPERATORS = (AttentionDecode(), AttentionPrefill(), AttentionMixed())
