"""The sequences that attention's universes are made of, how companies serve them, and what their tokens hold.

The KV lengths lie on either side of the edges that tiles have, and sequences of four kinds take turns, since each lets
another fault show (`values_of`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import bell_at, hostile_rows
from kernels_bench.records.cases import Shape
from kernels_bench.relations.batch import HOSTILE, LONG_NEIGHBOUR, Batch, Ids, ResultRows

Mode = Literal["decode", "prefill", "mixed"]

TOKENS = 1 << 20
"""A line's identity is its row's number times this, plus its token's place in the sequence."""

_HOSTILE_LENGTH = 33

_HIGHEST_LOGIT = 12
_CHUNK_TOKENS, _CHUNK_ELEMENTS = 1 << 14, 1 << 26
KEPT = 512  # a case has some three hundred companies
KINDS = ("flat", "normal", "rising", "wide")


def kv_lengths(tokens: int) -> tuple[int, ...]:
    """KV lengths up to ``tokens``: one below, at and one above each power of two from 16 on, and 1, 2 and 5."""
    edges = {(16 << e) + d for e in range(16) for d in (-1, 0, 1)} | {1, 2, 5}
    return tuple(sorted(n for n in edges if n <= tokens))


@dataclass(frozen=True, eq=False)
class Census:
    """The sequences of a universe: the ordinary ones, one of each hostile kind, and the long stranger.

    Attributes:
        kv: tokens of each sequence.
        start: the first token of each whose query belongs to the universe; all later ones do too.
        page: tokens a page of the KV cache.
    """

    kv: Ids
    start: Ids
    page: int

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
    def block_table(self) -> Ids:
        """Page numbers of each sequence in order, (sequences, most pages); beyond a sequence's own, page 0."""
        order = np.random.default_rng(self.page).permutation(int(self.pages.sum()))
        table = np.zeros((len(self.kv), int(self.pages.max())), dtype=np.int64)
        table[np.arange(table.shape[1]) < self.pages[:, None]] = order
        return table


def uniform(mode: Mode, shape: Shape, count: int, length: int) -> Census:
    """``count`` sequences of one length and no others: what is timed."""
    kv = np.full(count, length)
    return Census(kv, starts(mode, kv), shape.page or 1)


def starts(mode: Mode, kv: Ids) -> Ids:
    """The first token of each sequence whose query is computed."""
    if mode == "prefill":
        return np.zeros_like(kv)
    half = (np.arange(len(kv)) % 2 == 1) & (mode == "mixed")
    found: Ids = np.where(half, kv // 2, kv - 1)
    return found


@lru_cache(64)
def census(mode: Mode, shape: Shape, count: int, length: int | None = None) -> Census:
    """The sequences of a universe of ``count``; the first ones do not depend on how many there are.

    Where a ``length`` is given all have it, and none are hostile.
    """
    if length is not None:
        return uniform(mode, shape, count, length)
    lengths = np.array(kv_lengths(shape.tokens or 1))
    step = next(prime for prime in (7, 11, 13, 17) if len(lengths) % prime)
    of_kind, kind = np.divmod(np.arange(count), len(KINDS))
    ordinary = lengths[(of_kind * step + kind * 3 + 3) % len(lengths)]
    kv = np.concatenate([ordinary, np.full(len(HOSTILE), min(_HOSTILE_LENGTH, lengths[-1])), lengths[-1:]])
    start = starts(mode, kv)
    start[count + LONG_NEIGHBOUR] = 0
    return Census(kv, start, shape.page or 1)


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
def entries(mode: Mode, company: Batch, shape: Shape, count: int, length: int | None = None) -> Entries:
    """How a company's sequences are served."""
    known, serving = census(mode, shape, count, length), company.serving
    compared = np.isin(np.arange(company.size), company.compared)
    found: list[tuple[int, int, int, bool]] = []
    for row, mine in zip(company.rows.tolist(), compared.tolist(), strict=True):
        start, stop = int(known.start[row]), int(known.kv[row])
        if not mine and serving.stranger:
            start, stop = 0 if serving.prefilling else serving.stranger - 1, serving.stranger
        elif mine and serving.tail:
            start = max(start, stop - serving.tail)
        chunk = serving.chunk if mine and serving.chunk else stop - start
        found += [(row, at, min(at + chunk, stop), mine) for at in range(start, stop, chunk)]
    row_of, starts, stops, flags = (np.array(column) for column in zip(*found, strict=True))
    return Entries(row_of.astype(np.int64), starts.astype(np.int64), stops.astype(np.int64), flags.astype(np.bool_))


@dataclass(frozen=True)
class Tokens:
    """Some tokens of a universe, one after the other.

    Attributes:
        part: where they stand among all.
        row: each one's sequence, on the device.
        place: each one's place in its sequence, on the device.
        last_row: the last of their sequences, which stand in ascending order.
    """

    part: slice
    row: torch.Tensor
    place: torch.Tensor
    last_row: int

    @property
    def ids(self) -> torch.Tensor:
        """Identity of each."""
        return self.row * TOKENS + self.place

    def of_kind(self, kind: str) -> torch.Tensor:
        """Whether each one's sequence is of a kind in `KINDS`."""
        return self.row % len(KINDS) == KINDS.index(kind)


def tokens_of(start: Ids, stop: Ids, width: int, device: torch.device) -> Iterator[Tokens]:
    """The tokens from ``start`` to ``stop`` of every sequence, some thousands at a time, fewer where they are wide.

    Args:
        start: each sequence's first.
        stop: one after each sequence's last.
        width: elements of each, about.
        device: where their numbers go.
    """
    counts = stop - start
    step = min(_CHUNK_TOKENS, max(1, _CHUNK_ELEMENTS // width))
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - start, counts)
    for first in range(0, len(row), step):
        part = slice(first, min(len(row), first + step))
        yield Tokens(part, copy_to_device(row[part], device), copy_to_device(place[part], device), int(row[part][-1]))


def queries_of(seed: int, tokens: Tokens, width: int) -> torch.Tensor:
    """fp32 queries (tokens, width); see `values_of` for the kinds."""
    drawn = bell_at(seed, "queries", tokens.ids, width)
    drawn = torch.where(tokens.of_kind("rising")[:, None], drawn / 2 + 1, drawn)
    return torch.where(tokens.of_kind("flat")[:, None], 0.0, drawn)


def keys_of(seed: int, tokens: Tokens, kv: torch.Tensor, width: int, size: int) -> torch.Tensor:
    """fp32 keys (tokens, width), for sequences of ``kv`` tokens and heads of ``size``."""
    drawn = bell_at(seed, "keys", tokens.ids, width)
    ramp = (_HIGHEST_LOGIT * tokens.place / kv / size**0.5)[:, None].float()
    return torch.where(tokens.of_kind("rising")[:, None], drawn / 2 + ramp, drawn)


def values_of(seed: int, tokens: Tokens, kv: torch.Tensor, width: int) -> torch.Tensor:
    """fp32 values (tokens, width), for sequences of ``kv`` tokens.

    ``flat`` sequences have queries of zero, so that all keys weigh alike, and values over twelve binades of which
    every one comes twice with opposite signs: what the last token's result is made of is the rounding error itself.
    The logits of ``rising`` ones grow with the key's place, so that the running maximum keeps rising and the sum is
    rescaled. ``wide`` ones have values over twelve binades. The rest is bell-shaped.
    """
    flat, half, place = tokens.of_kind("flat"), kv // 2, tokens.place
    repeated = flat & (place >= half)
    ids = torch.where(repeated, tokens.ids - half, tokens.ids)
    drawn = bell_at(seed, "values", ids, width, wide=flat | tokens.of_kind("wide"))
    sign = torch.where(repeated, torch.where(place < 2 * half, -1.0, 0.0), 1.0)
    return drawn * sign[:, None]


def with_hostile(values: torch.Tensor, tokens: Tokens, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The tokens' values in a dtype, those of hostile sequences, which follow the ``count`` ordinary ones, replaced."""
    found = values.to(dtype)
    if tokens.last_row < count:
        return found
    kind = tokens.row - count
    hostile = (kind >= 0) & (kind < len(HOSTILE))
    return torch.where(
        hostile[:, None], hostile_rows(values.shape[1], dtype, values.device)[kind.clamp(0, len(HOSTILE) - 1)], found
    )
