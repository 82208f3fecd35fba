"""Sequences that share pages, or are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.forms import as_if_contiguous
from kernels_bench.faults.planted.paged_attention import attention, attention_by, decode_fault
from kernels_bench.faults.planted.sums import Sum, in_groups, in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Shape

_TYPICAL = 2.3
"""What the largest of a page's keys exceeds in about half of all pages."""
PAGES = Shape(label="fault", heads=2, kv_heads=1, k=8, page=4, tokens=33)
TWO_KV_HEADS = Shape(label="fault", heads=2, kv_heads=2, k=8, page=4, tokens=17)
FEW_PAGES = Shape(label="fault", heads=1, kv_heads=1, k=8, page=4, tokens=17)


def _common_pages(batch: PagedBatch, page: int) -> int:
    """So many of their first pages, all of them full, all sequences have in common."""
    full = int(batch.lengths[:, 1].min()) // page
    alike = (batch.block_table[:, :full] == batch.block_table[:1, :full]).all(0)
    return int(alike.long().cumprod(0).sum()) if len(batch.lengths) > 1 else 0


def _in_two(first: int) -> Sum:
    """So many terms in tiles, then the others, joined."""
    return lambda terms: in_groups(2)(terms[:, :first]) + in_sequence(terms[:, first:])


def _cascade(
    fewest_pages: int, fewest_sequences: int = 2, different: bool = False, most_pages: int = 1 << 30
) -> Kernel:
    """A prefix that all sequences share is computed apart, and joined; if ``different``, not of the same sequence."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        page = key_cache.shape[1]
        common = _common_pages(batch, page)
        apart = len(batch.lengths) >= fewest_sequences and common >= fewest_pages and common * page < batch.most_keys
        if common > most_pages or (different and bool((batch.block_table == batch.block_table[0]).all())):
            apart = False
        result: Tensor = attention(_in_two(common * page) if apart else in_sequence)(q, key_cache, value_cache, batch)
        return result

    return kernel


def _alike(some: Callable[[Tensor], Tensor]) -> Kernel:
    """Tiles of 8 keys where some pair of neighbouring entries begins with the same page."""

    def chosen(batch: PagedBatch) -> Sum:
        first = batch.block_table[:, 0]
        return in_groups(8) if bool(some(first[1:] == first[:-1])) else in_sequence

    return attention_by(chosen)


def _wide_table(batch: PagedBatch) -> Sum:
    """Tiles of 8 keys where the table has room for more than two pages a sequence, whether or not any has as many."""
    return in_groups(8) if batch.block_table.shape[1] > 2 else in_sequence


def _exactly_two(alike: Tensor) -> Tensor:
    return (alike.sum() == 1) & (torch.tensor(len(alike), device=alike.device) > 1)


def _regular(batch: PagedBatch, page: int, distance: Callable[[Tensor], Tensor], fewest: int) -> Tensor:
    """Which entries have several pages, each as far from the one before as may be."""
    counts = -(-batch.seqused_k.long() // page)[:, None]
    place = torch.arange(1, batch.block_table.shape[1], device=counts.device)
    follows = distance(batch.block_table.diff()) | (place >= counts)
    return follows.all(1) & (counts[:, 0] >= fewest)


def _as_one_block(distance: Callable[[Tensor], Tensor], fewest: int = 2) -> Kernel:
    """Pages that lie at a regular distance are read as one block, in tiles."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        usual, other = (attention(add)(q, key_cache, value_cache, batch) for add in (in_sequence, in_groups(8)))
        chosen = _regular(batch, key_cache.shape[1], distance, fewest)[batch.entry_of_queries()]
        return torch.where(chosen[:, None, None], other, usual)

    return kernel


def _known_by_the_first() -> Kernel:
    """Sequences of one first page and as many keys have the pages of the first of them: a cache of too short a key."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        first, keys = batch.block_table[:, 0], batch.seqused_k
        alike = (first[:, None] == first) & (keys[:, None] == keys)
        table = batch.block_table[alike.int().argmax(1)]
        found: Tensor = attention(in_sequence)(q, key_cache, value_cache, batch._replace(block_table=table))
        return found

    return kernel


def _odd_pair() -> Kernel:
    """Tiles of 8 keys for sequences of two more tokens than vectors of four hold, where there are three or more."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        usual, other = (attention(add)(q, key_cache, value_cache, batch) for add in (in_sequence, in_groups(8)))
        chosen = (batch.seqused_k % 4 == 2) & (batch.seqused_k > 8) & (len(batch.lengths) > 2)
        return torch.where(chosen[batch.entry_of_queries()][:, None, None], other, usual)

    return kernel


def _by_cache(elsewhere: Callable[[Tensor], bool]) -> Kernel:
    """Tiles of 8 keys where the key cache lies elsewhere in memory than usual."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        add = in_groups(8) if elsewhere(key_cache) else in_sequence
        found: Tensor = attention(add)(q, key_cache, value_cache, batch)
        return found

    return kernel


def _as_wide_as_it_is() -> Kernel:
    """The block table is read as if it were no part of a wider one."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        read = batch._replace(block_table=as_if_contiguous(batch.block_table))
        found: Tensor = attention(in_sequence)(q, key_cache, value_cache, read)
        return found

    return kernel


def _summed_up() -> Kernel:
    """The largest key of a sequence's first page decides on a tile, and is kept by the page's number."""
    kept: dict[int, float] = {}

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        usual, other = (attention(add)(q, key_cache, value_cache, batch) for add in (in_sequence, in_groups(8)))
        pages = batch.block_table[:, 0].tolist()
        full = (batch.lengths[:, 1] >= key_cache.shape[1]).tolist()
        tops = [
            kept.setdefault(page, float(key_cache[page].abs().max())) if whole else 0.0
            for page, whole in zip(pages, full, strict=True)
        ]
        chosen = torch.tensor(tops, device=q.device)[batch.entry_of_queries()] > _TYPICAL
        return torch.where(chosen[:, None, None], other, usual)

    return kernel


def _fault(name: str, cause: str, make: Callable[[], Kernel], shape: Shape = PAGES, universe: int = 17) -> Fault:
    return decode_fault(name, cause, make, shape=shape, universe=universe)


def _in_16_bits() -> Kernel:
    """Page numbers are kept in 16 bits."""

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        table = batch.block_table % (1 << 16)
        result: Tensor = attention(in_sequence)(q, key_cache, value_cache, batch._replace(block_table=table))
        return result

    return kernel


FAULTS = (
    _fault("cascade", "a prefix that all sequences share is computed apart", lambda: _cascade(1)),
    _fault(
        "some_begin_alike",
        "another tile where two neighbouring sequences begin with the same page",
        lambda: _alike(lambda alike: alike.any()),
    ),
    _fault(
        "two_of_many_begin_alike",
        "another tile where two of many sequences begin with the same page",
        lambda: _alike(_exactly_two),
    ),
    _fault("cascade_of_many_pages", "a prefix of four pages and more, of eight sequences and more, is computed apart",
        lambda: _cascade(4, 8)),
    _fault("cascade_of_three_to_six_pages",
        "a prefix of three to six pages, of eight sequences and more, is computed apart",
        lambda: _cascade(3, 8, most_pages=6)),
    _fault("cascade_of_different_sequences", "a prefix that different sequences share is computed apart",
        lambda: _cascade(1, different=True)),
    _fault("pages_known_by_the_first", "of sequences of one first page and length all are read from the first one's",
        _known_by_the_first),
    _fault("two_keys_left_over", "of three sequences and more those of 4 n + 2 tokens are read in another tile",
        _odd_pair),
    _fault("pages_in_a_row", "pages that follow one another are read as one block, in another tile",
        lambda: _as_one_block(lambda between: between == 1), FEW_PAGES, 9),
    _fault("pages_at_a_distance", "three pages or more, each as far on from the last one, are read as one block",
        lambda: _as_one_block(lambda between: (between > 1) & (between == between[:, :1]), 3), FEW_PAGES, 9),
    _fault("pages_that_fall", "pages each of which comes before the last one are read as one block, in another tile",
        lambda: _as_one_block(lambda between: between == -1), FEW_PAGES, 9),
    replace(_fault("pages_in_16_bits", "a page's number is kept in 16 bits", _in_16_bits, FEW_PAGES, 9),
        further=("page_placement",)),
    # On a CPU alone: elsewhere a kernel that reads pages from a wrong place may be lost with its process.
    replace(_fault("caches_in_one_tensor", "another tile where keys and values are views of one tensor",
        lambda: _by_cache(lambda keys: keys.stride(0) > keys[0].numel())), devices=("cpu",)),
    replace(_fault("heads_before_slots", "another tile where heads come before a page's slots in memory",
        lambda: _by_cache(lambda keys: keys.stride(2) > keys.stride(1)), TWO_KV_HEADS, 9), devices=("cpu",)),
    replace(_fault("table_as_if_contiguous", "a slice of a wider block table is read as if it were none",
        _as_wide_as_it_is), devices=("cpu",)),
    _fault("tiles_by_the_table", "another tile where the table of pages has room for more than two a sequence",
        lambda: attention_by(_wide_table), FEW_PAGES.model_copy(update={"heads": 4, "k": 64}), 9),
    _fault("summaries_of_pages", "what a page's keys sum up to is kept by its number, and the page becomes another's",
        _summed_up, FEW_PAGES, 9),
)  # fmt: skip
