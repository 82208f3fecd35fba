"""Companies, the comparisons between two of them, and the relations that choose the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from kernels_bench.discovery import offering

# Sizes at which costlier relations look, the most telling first: one in every range of the powers of two, since kernels
# choose a path for each, beside whole tiles of several sizes.
REVEALING_SIZES = (5, 16, 65, 257, 33, 2, 64, 1025, 129, 17, 8, 513, 3, 2049)
FEW = 6

Launch = Literal["eager", "graph"]
RowKind = Literal["rows", "sequences", "prefills"]


@dataclass(frozen=True)
class Comparison:
    """Two companies whose common rows must have the same bits.

    Attributes:
        reference: spec of the company that gives the expected bits, launched eagerly.
        company: spec of the company under test.
        launch: how the company under test is launched.
    """

    reference: str
    company: str
    launch: Launch = "eager"


@dataclass(frozen=True)
class Setting:
    """What a relation chooses from.

    Attributes:
        universe: number of rows.
        sizes: every M of the sweep, ascending.
        longest: KV length of the longest neighbour there can be, where rows are sequences.
        asked: those of the sizes that the user named: costlier relations look there too.
    """

    universe: int
    sizes: tuple[int, ...]
    longest: int = 0
    asked: tuple[int, ...] = ()

    @property
    def few(self) -> tuple[int, ...]:
        """At most six sizes over the sweep's whole range, its ends among them, for costlier relations."""
        count = min(FEW, len(self.sizes))
        spread = np.linspace(0, len(self.sizes) - 1, count).round().astype(int)
        picks = dict.fromkeys([*self._by_worth, *(self.sizes[i] for i in spread.tolist())])
        return tuple(sorted([*picks][:count]))

    @property
    def telling(self) -> tuple[int, ...]:
        """Those few, those asked for, and one of every range in which a kernel may take a path of its own."""
        return tuple(sorted({*self.few, *self.asked, *self._by_worth}))

    @property
    def _by_worth(self) -> tuple[int, ...]:
        """The ends, and the sizes between them that tell most."""
        known = set(self.sizes)
        return (self.sizes[0], self.sizes[-1], *(m for m in REVEALING_SIZES if m in known))


@dataclass(frozen=True)
class Relation:
    """One way of choosing companies.

    Attributes:
        name: as users type it.
        summary: one line for ``--list``.
        comparisons: the pairs to compare, those of one reference together.
        order: relations run in ascending order.
        needs_cuda: it has no meaning on a CPU.
        needs: what an operator's rows must be for it to have a meaning: anything, sequences, or sequences with many
            queries.
    """

    name: str
    summary: str
    comparisons: Callable[[Setting], Iterator[Comparison]]
    order: int
    needs_cuda: bool = False
    needs: RowKind = "rows"

    def applies_to(self, rows_are: RowKind) -> bool:
        """Whether it has a meaning for an operator whose rows are so."""
        kinds: tuple[RowKind, ...] = ("rows", "sequences", "prefills")
        return kinds.index(self.needs) <= kinds.index(rows_are)


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
