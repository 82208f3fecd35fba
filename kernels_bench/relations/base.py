"""Batches, the comparisons between two of them, and the relations that choose the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from kernels_bench.discovery import offering
from kernels_bench.records.cases import Launch

# Sizes at which costlier relations look, the most telling first: one in every range of the powers of two, since kernels
# choose a path for each, beside whole tiles of several sizes.
REVEALING_SIZES = (5, 16, 65, 257, 33, 2, 64, 1025, 129, 17, 8, 513, 3, 2049)
FEW, FEW_ASKED = 6, 3
EVERY = 320
"""Every M up to this one is tried: kernels are chosen by tables, windows and remainders without any power of two."""
BETWEEN = (24, 112, 12, 176, 48, 80, 144, 224)
"""Sizes near to none of the revealing ones, the most telling first: each of a kernel's tiles is for a range of them."""
TILES = (16, 24, 32, 48, 64, 80, 96, 112, 128, 176, 192, 256)
"""Heights of tiles, and numbers of processors, on whose multiples batches begin a new wave."""
FURTHER = 48
"""So many M beyond `EVERY` that are no multiples of anything in particular."""

RowKind = Literal["rows", "packed", "routed", "sharded", "sequences", "prefills"]
"""What an operator's rows are: of no kind in particular, packed sequences, tokens that choose experts or an adapter,
rows of which each of several ranks has a part, sequences, or sequences with many queries."""

_ARE_ALSO: Mapping[RowKind, tuple[RowKind, ...]] = MappingProxyType(
    {
        "rows": ("rows",),
        "packed": ("rows", "packed"),
        "routed": ("rows", "routed"),
        "sharded": ("rows", "sharded"),
        "sequences": ("rows", "sequences"),
        "prefills": ("rows", "sequences", "prefills"),
    }
)


@dataclass(frozen=True)
class Comparison:
    """Two batches whose common rows must have the same bits.

    Attributes:
        reference: spec of the batch that gives the expected bits, launched eagerly.
        company: spec of the batch under test.
        launch: how the batch under test is launched.
        before: specs of batches that are launched right before the batch under test, which comes before its reference
            then; None where nothing depends on what came before.
    """

    reference: str
    company: str
    launch: Launch = "eager"
    before: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Setting:
    """What a relation chooses from.

    Attributes:
        universe: number of rows.
        sizes: M around every threshold, ascending: those of every run, whatever time there is.
        longest: KV length of the longest neighbour there can be, where rows are sequences.
        asked: those of the sizes that the user named: costlier relations look there too.
        page: tokens a page of the KV cache, likewise.
        every: every M up to this one is looked at in every run: where launches are short, some hundreds.
        most: rows of the largest batch that memory has room for.
        huge: so many rows that their results have more than 2^31 elements, where they are to be tried; else 0.
        far: whether a KV cache of more than 2^31 elements can be had.
        many_pages: whether a KV cache of more than 65,536 pages can be had.
        ranks: so many can compute together here.
        window: keys that a query sees at most, where rows are sequences; 0: all up to its own.
        shape_sizes: of the shape, such as N and K: a kernel may have a path for results that are square.
        strides: whether rows of any strides are tried: on a CPU, where a kernel that reads them as if they followed one
            another is not lost with its process.
    """

    universe: int
    sizes: tuple[int, ...]
    longest: int = 0
    asked: tuple[int, ...] = ()
    page: int = 0
    every: int = 0
    most: int = 0
    huge: int = 0
    far: bool = False
    many_pages: bool = False
    ranks: int = 8
    window: int = 0
    shape_sizes: tuple[int, ...] = ()
    strides: bool = False

    @property
    def few(self) -> tuple[int, ...]:
        """For costlier relations: at most six sizes, the sweep's ends among them, and those asked for if few."""
        count = min(FEW, len(self.sizes))
        spread = np.linspace(0, len(self.sizes) - 1, count).round().astype(int)
        picks = dict.fromkeys([*self._by_worth, *(self.sizes[i] for i in spread.tolist())])
        named = self.asked if len(self.asked) <= FEW_ASKED else ()
        return tuple(sorted({*[*picks][:count], *named}))

    @property
    def fewest(self) -> tuple[int, ...]:
        """Every other one of those few, the largest among them, where one comparison costs as much as many."""
        return self.few[::-2][::-1]

    @property
    def telling(self) -> tuple[int, ...]:
        """Those few, those asked for, and one of every range in which a kernel may take a path of its own."""
        return tuple(sorted({*self.few, *self.asked, *self._by_worth}))

    @property
    def between(self) -> tuple[int, ...]:
        """Some that lie between these, for costlier relations that have time left."""
        telling = self.telling
        return tuple(m for m in BETWEEN if m <= self.universe and m not in telling)

    @property
    def dense(self) -> tuple[int, ...]:
        """Every M up to some hundreds; beyond them the sweep's, multiples of tiles, and others that are of nothing."""
        return tuple(sorted({*self.sizes, *dense_sweep(self.universe)}))

    @property
    def by_worth(self) -> tuple[int, ...]:
        """All of them, the most telling first, and those that are near to none of the earlier ones before others."""
        dense = self.dense
        others = (dense[place] for place in spread(len(dense), len(dense) - 1))
        return tuple(dict.fromkeys((*self.asked, *self._by_worth, *self.between, *others)))

    @property
    def _by_worth(self) -> tuple[int, ...]:
        """The ends, and the sizes between them that tell most."""
        known = set(self.sizes)
        return (self.sizes[0], self.sizes[-1], *(m for m in REVEALING_SIZES if m in known))


def nothing_more(_: Setting) -> Iterator[Comparison]:
    """No further comparisons."""
    return iter(())


def no_draw(_: int, __: Setting) -> Iterator[Comparison]:
    """No comparisons over other data."""
    return iter(())


@dataclass(frozen=True)
class Relation:
    """One way of choosing batches.

    Attributes:
        name: as users type it.
        summary: one line for ``--list``.
        comparisons: the pairs to compare, those of one reference together.
        order: relations run in ascending order.
        more: further pairs, the most telling first, which are compared as far as there is time.
        drawn: pairs for the n-th universe of rows of another seed, of which there are many if there is time.
        optional: of an arm that does not claim it, it makes no verdict: what a kernel may leave to its callers.
        hazardous: a kernel that does not keep it may take its process down: it is examined once all else is known.
        needs_cuda: it has no meaning on a CPU.
        needs: what an operator's rows must be for it to have a meaning.
        optional_of: where an operator's rows are so, it is ``optional`` too, as far as ``callers`` says.
        callers: forms of launches that are callers' to prevent there, unless an arm claims this relation by its name.
    """

    name: str
    summary: str
    comparisons: Callable[[Setting], Iterator[Comparison]]
    order: int
    more: Callable[[Setting], Iterator[Comparison]] = nothing_more
    drawn: Callable[[int, Setting], Iterator[Comparison]] = no_draw
    optional: bool = False
    hazardous: bool = False
    needs_cuda: bool = False
    needs: RowKind = "rows"
    optional_of: RowKind | None = None
    callers: tuple[Launch, ...] = ()

    def applies_to(self, rows_are: RowKind) -> bool:
        """Whether it has a meaning for an operator whose rows are so."""
        return self.needs in _ARE_ALSO[rows_are]

    def is_optional(self, rows_are: RowKind) -> bool:
        """Whether a kernel may leave it to its callers, for an operator whose rows are so."""
        return self.optional or self.optional_of in _ARE_ALSO[rows_are]


def are_sequences(rows_are: RowKind) -> bool:
    """Whether rows that are so have lengths."""
    return "sequences" in _ARE_ALSO[rows_are]


@cache
def relations() -> dict[str, Relation]:
    """Every relation by name, in ascending order."""
    found = [file.RELATION for file in offering(__package__, "RELATION")]
    return {relation.name: relation for relation in sorted(found, key=lambda relation: relation.order)}


def sweep(universe: int) -> tuple[int, ...]:
    """M one below, at and one above every power of two, since batch variance begins at dispatch thresholds."""
    powers = [1 << exponent for exponent in range(13)]
    around = {m for power in powers for m in (power - 1, power, power + 1)} | {5, universe}
    return tuple(sorted(m for m in around if 1 <= m <= universe))


def golden(number: int) -> float:
    """A multiple of the golden ratio, modulo 1: so many of them lie as evenly in [0, 1) as can be."""
    return number * (5**0.5 - 1) / 2 % 1


def dense_sweep(universe: int) -> tuple[int, ...]:
    """Every M up to `EVERY`; beyond it some multiples of each of `TILES`, one more than each, and `FURTHER` others.

    The others are a low-discrepancy choice over the logarithm of M.
    """
    multiples = (tile * (EVERY // tile << octave) for tile in TILES for octave in range(1, 5))
    others = (round(EVERY * (universe / EVERY) ** golden(number)) for number in range(1, FURTHER + 1))
    further = {m + more for m in multiples for more in (0, 1)} | ({*others} if universe > EVERY else set())
    return tuple(sorted({*range(1, min(EVERY, universe) + 1), *(m for m in further if m <= universe)}))


def spread(count: int, wanted: int) -> tuple[int, ...]:
    """At most so many of the numbers 0 … ``count`` - 1, near to none of each other however few are taken."""
    picks = [0, count - 1, *(int(golden(number) * count) for number in range(1, 4 * wanted))]
    return tuple([*dict.fromkeys(picks)][:wanted]) if wanted < count else tuple(range(count))
