"""The sequences that attention's universes are made of, how companies serve them, and what their tokens hold.

The KV lengths lie on either side of the edges that tiles have, and sequences of four kinds take turns, since each lets
another fault show (`values_of`). After them come those of hostile values, a long one, and those of special values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import bell_at, hostile_rows
from kernels_bench.records.cases import Shape
from kernels_bench.relations.batch import (
    FIRST_SPECIAL,
    HOSTILE,
    LONG_NEIGHBOUR,
    SPECIAL,
    Batch,
    Ids,
    ResultRows,
)  # fmt: skip

Mode = Literal["decode", "prefill", "mixed"]

TOKENS = 1 << 20
"""A line's identity is its row's number times this, plus its token's place in the sequence."""

_HOSTILE_LENGTH = 33

_HIGHEST_LOGIT = 12
_CHUNK_TOKENS, _CHUNK_ELEMENTS = 1 << 14, 1 << 26
KEPT = 512  # a case has some three hundred companies
KINDS = ("flat", "normal", "rising", "wide")


_TILES = (24, 48, 80, 96, 112, 176, 192)
_OF_MANY_TILES = (240, 336, 528, 960, 2112, 3360, 6720, 13440, 29568)  # multiples of three of those and more
_WITHIN_TILE = 22
"""Two more than a multiple of four: of what is left over after vectors of four there are 0 to 3."""
_SEVERAL_PAGES = 3
"""From so many shared pages on all sequences of a batch have them."""
_LONGEST, _ALMOST = 0, -1
_WORTHIEST = (15, 17, 5, 48, 25, 64, 1, _LONGEST, 129, 2, 1025, 22, 65, 33, 16, _ALMOST, 113, 81)
"""KV lengths on either side of many kinds of edges, for universes that have room for few.

The longest of the first M grows with M, so that kernels which look at it take one path after the other. Every fourth,
which is a ``flat`` sequence's, is odd: where both halves fill tiles alike, all orders of their sum give zero. The last
value is zero then: the sequences that begin a page with their last token are others.
"""

_SPECIAL_LENGTH, _MASKED_LENGTH = 33, 161  # of which 128 are masked
_SPECIAL_IDENTITY = 1 << 32  # beyond every ordinary sequence's


def kv_lengths(tokens: int) -> tuple[int, ...]:
    """KV lengths up to ``tokens``, ascending, at the edges of tiles and a token before and after.

    The tiles are powers of two from 16 on and those heights in use that are none. Of numbers that are multiples of
    many of them, which are further edges, they themselves and one more; beside all these 1, 2, 5 and 22.
    """
    edges = {edge + d for edge in (*(16 << e for e in range(16)), *_TILES) for d in (-1, 0, 1)}
    edges |= {edge + d for edge in _OF_MANY_TILES for d in (0, 1)} | {1, 2, 5, _WITHIN_TILE}
    return tuple(sorted(n for n in edges if n <= tokens))


def lengths_by_worth(tokens: int, asked: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The same with those that the user named, the most telling first, and the rest in no order of size."""
    known = kv_lengths(tokens)
    golden = (5**0.5 - 1) / 2
    first = (n if n > 0 else known[-1] + n for n in _WORTHIEST)
    rest = (known[i] for i in sorted(range(len(known)), key=lambda i: i * golden % 1))
    return tuple(dict.fromkeys([*asked, *(n for n in first if n in known), *rest]))


@dataclass(frozen=True, eq=False)
class Census:
    """The sequences of a universe: ordinary ones, one of each hostile kind, the long stranger, and special ones.

    Attributes:
        kv: tokens of each sequence.
        start: the first token of each whose query belongs to the universe; all later ones do too.
        page: tokens a page of the KV cache.
        ordinary: how many are.
    """

    kv: Ids
    start: Ids
    page: int
    ordinary: int

    @cached_property
    def identity(self) -> Ids:
        """What each one's data are drawn for: its number; of special ones, which are bell-shaped, always the same."""
        found = np.arange(len(self.kv))
        special = found[self.ordinary + FIRST_SPECIAL :]
        special[:] = _SPECIAL_IDENTITY + np.arange(len(special)) * len(KINDS) + KINDS.index("normal")
        return found

    @cached_property
    def offset(self) -> Ids:
        """Where token 0's query of each sequence would stand among all queries."""
        ends = np.cumsum(self.kv - self.start)
        found: Ids = ends - self.kv
        return found

    @cached_property
    def pages(self) -> Ids:
        """Pages of each sequence."""
        found: Ids = -(-self.kv // self.page)
        return found

    @cached_property
    def longest_first(self) -> Ids:
        """The ordinary sequences in descending order of their lengths."""
        found: Ids = np.argsort(-self.kv[: self.ordinary], kind="stable")
        return found

    @cached_property
    def block_table(self) -> Ids:
        """Page numbers of each sequence in order, (sequences, most pages); beyond a sequence's own, page 0."""
        order = np.random.default_rng(self.page).permutation(int(self.pages.sum()))
        # Page 0, which some engines give to nobody, lies within the longest sequence.
        within = int(self.pages[: self.longest_first[0]].sum() + self.pages[self.longest_first[0]] // 2)
        where = int(np.flatnonzero(order == 0)[0])
        order[[where, within]] = order[[within, where]]
        table = np.zeros((len(self.kv), int(self.pages.max())), dtype=np.int64)
        table[np.arange(table.shape[1]) < self.pages[:, None]] = order
        return table


def uniform(mode: Mode, shape: Shape, count: int, length: int) -> Census:
    """``count`` sequences of one length and no others: what is timed."""
    kv = np.full(count, length)
    return Census(kv, starts(mode, kv), shape.page or 1, count)


def starts(mode: Mode, kv: Ids) -> Ids:
    """The first token of each sequence whose query is computed."""
    if mode == "prefill":
        return np.zeros_like(kv)
    half = (np.arange(len(kv)) % 2 == 1) & (mode == "mixed")
    found: Ids = np.where(half, kv // 2, kv - 1)
    return found


@lru_cache(64)
def census(mode: Mode, shape: Shape, count: int, length: int | None = None, asked: tuple[int, ...] = ()) -> Census:
    """The sequences of a universe of ``count``; the first ones do not depend on how many there are.

    Args:
        mode: which queries are computed.
        shape: heads, pages, and tokens of the longest sequence.
        count: ordinary sequences.
        length: tokens that all have; then none are hostile or special.
        asked: lengths that come first; where all queries are computed, none but those up to the shape's longest.
    """
    if length is not None:
        return uniform(mode, shape, count, length)
    tokens = kv_lengths(shape.tokens or 1)[-1]
    hostile = np.full(len(HOSTILE), min(_HOSTILE_LENGTH, tokens))
    special = special_lengths(shape, tokens)
    wanted = asked if mode == "decode" else tuple(n for n in asked if n <= tokens)
    kv = np.concatenate([_ordinary_lengths(count, lengths_by_worth(tokens, wanted)), hostile, [tokens], special])
    start = starts(mode, kv)
    start[count + LONG_NEIGHBOUR] = 0
    start[count + FIRST_SPECIAL :] = starts(mode, special)
    return Census(kv, start, shape.page or 1, count)


def _ordinary_lengths(count: int, by_worth: tuple[int, ...]) -> Ids:
    """Every length in turn, and in four turns each of them with every kind."""
    kinds = len(KINDS)
    turn, place = np.divmod(np.arange(count), -(-len(by_worth) // kinds) * kinds)
    found: Ids = np.array(by_worth)[(place // kinds * kinds + (place + turn) % kinds) % len(by_worth)]
    return found


def special_lengths(shape: Shape, tokens: int) -> Ids:
    """Tokens of each special sequence: a page and a half at least, and a block that is masked, up to ``tokens``."""
    usual = max(_SPECIAL_LENGTH, (shape.page or 1) * 3 // 2)
    wanted = [max(usual, _MASKED_LENGTH) if kind == "masked" else usual for kind in SPECIAL]
    return np.minimum(wanted, tokens)


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a batch: a sequence each, or a part of one.

    Attributes:
        row: the sequence.
        start: its first query's token.
        stop: one after its last query's token, which is also the KV length.
        compared: whether its lines are compared.
    """

    row: Ids
    start: Ids
    stop: Ids
    compared: np.ndarray[Any, np.dtype[np.bool_]]

    @cached_property
    def lines(self) -> ResultRows:
        """Every query of every entry."""
        counts = self.stop - self.start
        first = np.repeat(self.start - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        ids = np.repeat(self.row, counts) * TOKENS + first + np.arange(int(counts.sum()))
        return ResultRows(ids, np.repeat(self.compared, counts).nonzero()[0])


@lru_cache(KEPT)
def entries(known: Census, company: Batch) -> Entries:
    """How a company's sequences are served."""
    serving = company.serving
    rows = _of_a_prefix(known, company) if serving.prefix else company.rows
    rows = known.longest_first[::-1][rows] if serving.shortest else rows
    like = int(rows[company.compared[0]])
    compared = np.isin(np.arange(company.size), company.compared)
    found: list[tuple[int, int, int, bool]] = []
    for place, (row, mine) in enumerate(zip(rows.tolist(), compared.tolist(), strict=True)):
        start, stop = int(known.start[row]), int(known.kv[row])
        if not mine and serving.equal:
            stop = int(known.kv[[like, row]].min())
            start = min(int(known.start[like]), stop - 1)
        elif not mine and serving.stranger:
            start, stop = 0 if serving.prefilling else serving.stranger - 1, serving.stranger
        elif mine and serving.tail:
            fewer = place % max(1, serving.tail - 1) if serving.unequal else 0
            start = max(start, stop - serving.tail + fewer)
        elif serving.cached:
            start = max(start, min(serving.prefix * known.page, stop // known.page * known.page, stop - 1))
        chunk = serving.chunk if mine and serving.chunk else stop - start
        found += [(row, at, min(at + chunk, stop), mine) for at in range(start, stop, chunk)]
    row_of, starts, stops, flags = (np.array(column) for column in zip(*found, strict=True))
    return Entries(row_of.astype(np.int64), starts.astype(np.int64), stops.astype(np.int64), flags.astype(np.bool_))


def _of_a_prefix(known: Census, company: Batch) -> Ids:
    """The longest sequences; of a prefix of several pages those alone that go on after it, over and over.

    Those that are none of the ordinary ones stay.
    """
    pages = company.serving.prefix
    longer = int((known.kv[: known.ordinary] > pages * known.page).sum())
    ordinary, found = company.rows < known.ordinary, company.rows.copy()
    chosen = company.rows[ordinary]
    found[ordinary] = known.longest_first[chosen % longer if pages >= _SEVERAL_PAGES and longer else chosen]
    return found


@dataclass(frozen=True)
class Tokens:
    """Some tokens of a universe, one after the other.

    Attributes:
        part: where they stand among all.
        row: each one's sequence, on the device.
        identity: of each one's sequence, likewise, see `Census`.
        place: each one's place in its sequence, likewise.
        last_row: the last of their sequences, which stand in ascending order.
        ordinary: how many of the universe's sequences are.
        special_from: where the first of them stands that belongs to a special sequence; all later ones do too.
    """

    part: slice
    row: torch.Tensor
    identity: torch.Tensor
    place: torch.Tensor
    last_row: int
    ordinary: int
    special_from: int

    @property
    def ids(self) -> torch.Tensor:
        """Identity of each."""
        return self.identity * TOKENS + self.place

    def of_kind(self, kind: str, seed: int) -> torch.Tensor:
        """Whether each one's sequence is of a kind in `KINDS`; with another seed a length meets another kind."""
        return (self.identity + seed) % len(KINDS) == KINDS.index(kind)

    def special(self, kind: str) -> torch.Tensor:
        """Whether each one's sequence is special and of a kind in `SPECIAL`."""
        return self.row == self.ordinary + FIRST_SPECIAL + SPECIAL.index(kind)

    @property
    def specials(self) -> Tokens | None:
        """Those that belong to special sequences; None where none do."""
        if self.special_from == len(self.row):
            return None
        first = self.special_from
        return replace(
            self,
            part=slice(self.part.start + first, self.part.stop),
            row=self.row[first:],
            identity=self.identity[first:],
            place=self.place[first:],
            special_from=0,
        )


def tokens_of(known: Census, start: Ids, width: int, device: torch.device) -> Iterator[Tokens]:
    """The tokens of every sequence from ``start`` on, some thousands at a time, fewer where they are wide.

    Args:
        known: the sequences.
        start: each sequence's first.
        width: elements of each, about.
        device: where their numbers go.
    """
    counts = known.kv - start
    step = min(_CHUNK_TOKENS, max(1, _CHUNK_ELEMENTS // width))
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - start, counts)
    for first in range(0, len(row), step):
        part = slice(first, min(len(row), first + step))
        yield Tokens(
            part=part,
            row=copy_to_device(row[part], device),
            identity=copy_to_device(known.identity[row[part]], device),
            place=copy_to_device(place[part], device),
            last_row=int(row[part][-1]),
            ordinary=known.ordinary,
            special_from=int(np.searchsorted(row[part], known.ordinary + FIRST_SPECIAL)),
        )


def queries_of(seed: int, tokens: Tokens, width: int) -> torch.Tensor:
    """fp32 queries (tokens, width); see `values_of` for the kinds."""
    drawn = bell_at(seed, "queries", tokens.ids, width)
    drawn = torch.where(tokens.of_kind("rising", seed)[:, None], drawn / 2 + 1, drawn)
    return torch.where(tokens.of_kind("flat", seed)[:, None], 0.0, drawn)


def keys_of(
    seed: int, tokens: Tokens, kv: torch.Tensor, width: int, size: int, place: torch.Tensor | None = None
) -> torch.Tensor:
    """fp32 keys (tokens, width), for sequences of ``kv`` tokens and heads of ``size``; see `values_of` for the kinds.

    Logits of ``rising`` sequences grow with the tokens' places, unless with another ``place``.
    """
    place = tokens.place if place is None else place
    again, ids = _repeated(seed, tokens, place, kv)
    drawn = bell_at(seed, "keys", torch.where(tokens.of_kind("wide", seed) & again, ids, tokens.ids), width)
    ramp = (_HIGHEST_LOGIT * place / kv / size**0.5)[:, None].float()
    return torch.where(tokens.of_kind("rising", seed)[:, None], drawn / 2 + ramp, drawn)


def values_of(seed: int, tokens: Tokens, kv: torch.Tensor, width: int) -> torch.Tensor:
    """fp32 values (tokens, width), for sequences of ``kv`` tokens.

    ``flat`` sequences have queries of zero, so that all keys weigh alike, and values over twenty binades of which
    every one comes twice with opposite signs: what the last token's result is made of is the rounding error itself.
    In every other one they come in another order the second time, beginning with a third of them left out, so that no
    two halves, or tiles of any size, have sums that are exactly opposite.
    ``wide`` ones have values over twelve binades, which cancel likewise: there the keys come twice, and with them the
    weights. The logits of ``rising`` ones grow with the key's place, so that the running maximum keeps rising and the
    sum is rescaled. The rest is bell-shaped.
    """
    flat, wide = (tokens.of_kind(kind, seed) for kind in ("flat", "wide"))
    again, ids = _repeated(seed, tokens, tokens.place, kv)
    repeated = (flat | wide) & again
    drawn = bell_at(seed, "values", torch.where(repeated, ids, tokens.ids), width, wide, flat)
    sign = torch.where(repeated, torch.where(tokens.place < kv // 2 * 2, -1.0, 0.0), 1.0)
    return drawn * sign[:, None]


def _repeated(seed: int, tokens: Tokens, place: torch.Tensor, kv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens are in their sequence's second half, and the ids of those of the first half that they repeat."""
    half = kv // 2
    apart = torch.where((tokens.identity // len(KINDS) + seed) % 2 == 0, 0, half // 3)
    first = (place - half + apart) % half.clamp(min=1)
    return place >= half, tokens.ids - place + first


def with_hostile(values: torch.Tensor, tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
    """The tokens' values in a dtype, those of hostile sequences, which follow the ordinary ones, replaced."""
    found = values.to(dtype)
    if tokens.last_row < tokens.ordinary:
        return found
    kind = tokens.row - tokens.ordinary
    hostile = (kind >= 0) & (kind < len(HOSTILE))
    return torch.where(
        hostile[:, None], hostile_rows(values.shape[1], dtype, values.device)[kind.clamp(0, len(HOSTILE) - 1)], found
    )
