"""Where the pages of a batch's sequences lie in the KV caches, and what the caches hold beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import OFFSETS
from kernels_bench.operators.inputs.sequences import Entries
from kernels_bench.relations.batch import AFTER_MANY, UNUSED, Ids, Serving

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_SPARE = 4  # pages that belong to nobody, in addition
MANY_PAGES = 1 << 16
"""More than numbers of 16 bits count."""
_STRIDE = 7  # from one entry's stale pages to the next one's


@dataclass(frozen=True, eq=False)
class ServedPages:
    """The pages of a batch's entries.

    Attributes:
        table: page numbers of each entry in order, (entries, most pages), on the host.
        caches: each (pages, page, …), on the device.
    """

    table: Ids
    caches: tuple[torch.Tensor, ...]

    @property
    def page(self) -> int:
        """Tokens a page."""
        return self.caches[0].shape[1]

    def pages_of(self, tokens: Ids) -> Flags:
        """Which places of the table belong to entries of so many tokens."""
        return np.arange(self.table.shape[1]) < -(-tokens // self.page)[:, None]


def is_usual(serving: Serving) -> bool:
    """Whether pages lie where they always do, and hold what they always do."""
    return not (
        serving.prefix or serving.unused or serving.behind or serving.placement or serving.far or serving.shortest
    )


def serve(serving: Serving, batch: Entries, usual: ServedPages, window: int = 0) -> ServedPages:
    """The same sequences as an engine would serve them; caches are copied where something else is to be in them."""
    found = usual
    if serving.prefix:
        found = _begun_alike(found, batch, serving.prefix, serving.shared)
    if serving.unused:
        found = _refilled(found, batch, UNUSED[serving.unused])
    if serving.behind and window:
        found = _left_behind(found, batch, window, UNUSED[serving.behind])
    if serving.placement in _ARRANGED or serving.shortest:  # a table as wide as the batch's longest, not the universe's
        found = ServedPages(found.table[:, : int((-(-batch.stop // found.page)).max())], found.caches)
    if serving.placement == AFTER_MANY:
        return _after(found, MANY_PAGES)
    if serving.placement:
        arranged = _ARRANGED.get(serving.placement)
        found = arranged(found, batch) if arranged else _moved(found, serving.placement)
    return _after(found, pages_before([cache[0].numel() for cache in found.caches])) if serving.far else found


def _begun_alike(usual: ServedPages, batch: Entries, pages: int, shared: bool) -> ServedPages:
    """The first pages hold what the longest sequence's do: its own pages, or copies in each one's own.

    Pages that a sequence does not fill are not shared.
    """
    alike = usual.pages_of(np.minimum(pages, batch.stop // usual.page) * usual.page)
    longest = np.broadcast_to(usual.table[int(batch.stop.argmax())], usual.table.shape)
    if shared:
        return ServedPages(np.where(alike, longest, usual.table), usual.caches)
    there, here = (copy_to_device(table[alike], usual.caches[0].device) for table in (usual.table, longest))
    return ServedPages(usual.table, tuple(_with_pages(cache, there, here) for cache in usual.caches))


def _with_pages(cache: torch.Tensor, there: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """A copy of a cache in which some pages hold what others do."""
    numbers = _movable(cache)
    return numbers.index_copy(0, there, numbers.index_select(0, here)).view(cache.dtype)


def _refilled(usual: ServedPages, batch: Entries, what: str) -> ServedPages:
    """Slots that no token of the batch was written to hold something else, and stale table entries name such pages."""
    own = usual.pages_of(batch.stop)
    pages = len(usual.caches[0]) + _SPARE
    entry, place = own.nonzero()
    written = np.zeros(pages, dtype=np.int64)
    np.maximum.at(written, usual.table[own], np.minimum(batch.stop[entry] - place * usual.page, usual.page))
    used = np.arange(usual.page) < written[:, None]
    free = np.flatnonzero(written == 0)
    stale = free[(np.arange(len(own))[:, None] * _STRIDE + np.arange(own.shape[1])) % len(free)]
    fill = _filling(what, *np.split(np.argsort(used, axis=None, kind="stable"), [int((~used).sum())]))
    return ServedPages(np.where(own, usual.table, stale), tuple(fill(cache) for cache in usual.caches))


def _left_behind(usual: ServedPages, batch: Entries, window: int, what: str) -> ServedPages:
    """Pages of the batch's tokens that no query sees hold something else, and their entries name others.

    A page with some token that is seen is not freed, and so the tokens before it stay: a tile of keys may begin there.
    """
    first = np.maximum(batch.start - window + 1, 0)[:, None] // usual.page * usual.page
    token = np.arange(int(batch.stop.max()))
    slot = usual.table[:, token // usual.page] * usual.page + token % usual.page
    pages = len(usual.caches[0]) + _SPARE
    seen, behind = np.zeros((2, pages * usual.page), dtype=np.bool_)
    seen[slot[(token >= first) & (token < batch.stop[:, None])]] = True
    behind[slot[token < first]] = True
    behind[-_SPARE * usual.page :] = True
    gone = np.arange(usual.table.shape[1]) * usual.page < first
    spare = pages - 1 - np.arange(usual.table.shape[1]) % _SPARE
    fill = _filling(what, np.flatnonzero(behind & ~seen), np.flatnonzero(seen))
    return ServedPages(np.where(gone, spare, usual.table), tuple(fill(cache) for cache in usual.caches))


def _movable(cache: torch.Tensor) -> torch.Tensor:
    """The same memory as numbers that torch copies by index: it does not know how to with those of eight bits."""
    return cache.view(torch.uint8) if cache.element_size() == 1 else cache


def _filling(what: str, unused: Ids, used: Ids) -> Callable[[torch.Tensor], torch.Tensor]:
    """What copies a cache with spare pages, and fills unused slots."""

    def fill(cache: torch.Tensor) -> torch.Tensor:
        longer = torch.cat([cache, cache.new_zeros(_SPARE, *cache.shape[1:])])
        slots = _movable(longer).flatten(0, 1)
        there = copy_to_device(unused, cache.device)
        if what == "other tokens":
            here = copy_to_device(np.resize(used, len(unused)), cache.device)
            slots.index_copy_(0, there, slots.index_select(0, here))
        else:
            value = {"NaN": math.nan, "huge": torch.finfo(cache.dtype).max}[what]
            filling = torch.full((1,), value, dtype=cache.dtype, device=cache.device)
            slots.index_fill_(0, there, _movable(filling)[0])
        return longer

    return fill


def _in_order(usual: ServedPages, batch: Entries) -> ServedPages:
    """Each entry's pages one after the other, as where a cache was empty before."""
    return _beginning_with(usual, usual.table[usual.pages_of(batch.stop)])


def _falling(usual: ServedPages, batch: Entries) -> ServedPages:
    """Each entry's pages from its last one on, as where free pages are taken from the end of a list."""
    return _beginning_with(usual, usual.table[:, ::-1][usual.pages_of(batch.stop)[:, ::-1]])


def _in_turn(usual: ServedPages, batch: Entries) -> ServedPages:
    """Each entry's pages as many apart as there are entries, as where all grow at once.

    Where an entry has no page any more, one that belongs to nobody takes its turn, as long as there are any.
    """
    own = usual.pages_of(batch.stop)
    turns, vacant = usual.table.T.flatten(), np.flatnonzero(~own.T)
    rest = np.setdiff1d(np.arange(len(usual.caches[0])), usual.table[own])[: len(vacant)]
    turns[vacant[: len(rest)]] = rest
    return _beginning_with(usual, np.delete(turns, vacant[len(rest) :]))


def _beginning_with(usual: ServedPages, pages: Ids) -> ServedPages:
    """These pages in this order, each at the first place it is named, and all others after them."""
    rest = np.setdiff1d(np.arange(len(usual.caches[0])), pages)
    return _permuted(usual, np.concatenate([np.array([*dict.fromkeys(pages.tolist())], dtype=np.int64), rest]))


def _moved(usual: ServedPages, placement: int) -> ServedPages:
    """All pages in another order."""
    count = len(usual.caches[0])
    return _permuted(usual, np.random.default_rng([placement, count]).permutation(count))


def _permuted(usual: ServedPages, order: Ids) -> ServedPages:
    """The page that was ``order[n]`` is page ``n``."""
    moved = copy_to_device(order, usual.caches[0].device)
    return ServedPages(np.argsort(order)[usual.table], tuple(cache.index_select(0, moved) for cache in usual.caches))


_ARRANGED: Mapping[int, Callable[[ServedPages, Entries], ServedPages]] = MappingProxyType(
    {1: _in_order, 3: _falling, 4: _in_turn}
)
"""Placements in which each entry's pages lie in some order; those of all other numbers are random."""


def _after(usual: ServedPages, before: int) -> ServedPages:
    """All pages after so many of NaN."""
    caches = []
    for cache in usual.caches:
        longer = torch.full((before + len(cache), *cache.shape[1:]), math.nan, dtype=cache.dtype, device=cache.device)
        longer[before:] = cache
        caches.append(longer)
    return ServedPages(usual.table + before, tuple(caches))


def pages_before(page_elements: Sequence[int]) -> int:
    """So many pages that more than 2^31 elements lie before the rest, in caches whose pages have so many each."""
    return OFFSETS // min(page_elements) + 1
