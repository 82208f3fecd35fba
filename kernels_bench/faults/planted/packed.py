"""Attention of whole packed sequences, as in a prefill with latent attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.paged_attention import attend, attention_adding, attention_by
from kernels_bench.faults.planted.sums import Sum, in_groups, in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch, packed
from kernels_bench.records.cases import Shape

_SHAPE = Shape.of("fault", {"heads": 2, "dk": 8, "dv": 8, "tokens": 33})
_MANY_HEADS = Shape.of("fault", {"heads": 4, "dk": 8, "dv": 16, "tokens": 33})
"""Of few sums in bf16 it may happen that none shows another order."""
_LONG, _TILE, _DRAFTS, _MOST_DRAFTS = 24, 16, 6, 8


def _packed(in_tiles: Callable[[PagedBatch], bool]) -> Kernel:
    """Adds over the keys in sequence, of some batches in tiles of 8 keys."""
    attention = attention_by(lambda batch: in_groups(8) if in_tiles(batch) else in_sequence)

    def kernel(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
        found: Tensor = attention(q, k[:, None], v[:, None], packed(cu_seqlens, q.shape[-1] ** -0.5))
        return found

    return kernel


def _long(batch: PagedBatch) -> bool:
    return batch.most_keys >= _LONG


def _few(batch: PagedBatch) -> bool:
    return int(batch.lengths[:, 0].sum()) < _LONG


def _drafted(fewest: int, most: int) -> Callable[[PagedBatch], Sum]:
    """As where a few drafted tokens of each sequence are verified, by a kernel for decoding."""

    def chosen(batch: PagedBatch) -> Sum:
        queries = batch.lengths[:, 0]
        uniform = len(queries) > 1 and bool((queries == queries[0]).all())
        return in_groups(8) if uniform and fewest <= int(queries[0]) <= most else in_sequence

    return chosen


def _filling_a_tile(batch: PagedBatch) -> Sum:
    """As where a tree of 16 drafts of each sequence is verified, by a kernel for decoding."""
    queries, keys = batch.lengths.T
    uniform = len(queries) > 1 and bool((queries == _TILE).all()) and bool((keys > _TILE).all())
    return in_groups(8) if uniform else in_sequence


def _filling_a_wave(batch: PagedBatch) -> Sum:
    queries = batch.lengths[:, 0]
    return in_groups(8) if 9 <= len(queries) <= 15 and bool((queries == _DRAFTS).all()) else in_sequence


def _not_as_many(batch: PagedBatch) -> Sum:
    """As where some drafts were rejected, and what is left of each sequence is padded for the kernel for decoding."""
    queries, keys = batch.lengths.T
    few = len(queries) > 1 and bool((queries <= _MOST_DRAFTS).all()) and bool((keys > queries).all())
    return in_groups(8) if few and bool((queries != queries[0]).any()) else in_sequence


def _after_a_prefix() -> Kernel:
    """Keys of a first page that all sequences share are added up apart where none has queries there."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        page, (queries, keys) = key_cache.shape[1], batch.lengths.T
        several = len(queries) > 1 and not bool((queries == 1).all())
        shared = several and bool((batch.block_table[:, 0] == batch.block_table[0, 0]).all())
        add = in_groups(8) if shared and bool((keys - queries >= page).all()) else in_sequence
        return attend(q, key_cache, value_cache, batch, add)

    return kernel


def _merged() -> Kernel:
    """Of queries that come after others' keys NaN are taken for those of an empty part, and give zero."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        found = attend(q, key_cache, value_cache, batch, in_sequence)
        queries, keys = batch.lengths.T.to(q.device)
        after = (keys > queries)[batch.entry_of_queries()][:, None, None]
        return torch.where(after & found.isnan(), 0.0, found)

    return kernel


def _control() -> Kernel:
    return _packed(lambda _: False)


def _drafted_fault(name: str, cause: str, fewest: int, most: int) -> Fault:
    return _prefill_fault(name, cause, lambda: attention_by(_drafted(fewest, most)))


def _prefill_fault(name: str, cause: str, make: Callable[[], Kernel]) -> Fault:
    return Fault(name, cause, "attention_prefill", make, attention_adding(in_sequence), shape=HEADS, universe=9)


FAULTS = (
    _drafted_fault("tiles_for_drafted_tokens",
        "keys are added in tiles of 8 where all of several sequences have 2 to 8 queries", 2, 8),
    _drafted_fault("tiles_for_five_to_seven_tokens",
        "keys are added in tiles of 8 where all of several sequences have 5 to 7 queries", 5, 7),
    _prefill_fault("tiles_for_sixteen_drafts",
        "keys are added in tiles of 8 where all of several sequences have 16 queries and keys before them",
        lambda: attention_by(_filling_a_tile)),
    _prefill_fault("tiles_for_six_tokens_of_ten",
        "keys are added in tiles of 8 where each of 9 to 15 sequences has 6 queries",
        lambda: attention_by(_filling_a_wave)),
    _prefill_fault("tiles_for_unequal_drafts",
        "keys are added in tiles of 8 where several sequences have up to 8 queries, not as many each, after others",
        lambda: attention_by(_not_as_many)),
    _prefill_fault("prefills_after_one_prefix",
        "keys are added in tiles of 8 where prefills begin after a first page that they share",
        _after_a_prefix),
    _prefill_fault("empty_parts_by_nan", "NaN of queries that come after other tokens' are taken for empty parts",
        _merged),
    Fault("prefill_tiles_by_the_longest", "keys are added in tiles of 8 beside a prefill of 24 tokens or more",
        "mla_prefill", lambda: _packed(_long), _control, shape=_SHAPE, universe=9),
    Fault("tiles_for_few_packed_tokens", "keys are added in tiles of 8 where a prefill has fewer than 24 tokens",
        "mla_prefill", lambda: _packed(_few), _control, precision="bf16", shape=_MANY_HEADS, universe=9),
)  # fmt: skip
