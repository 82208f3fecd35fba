"""Batches: ordered choices of rows from one universe, and how they are served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels_bench.relations.spec import BatchSpec

# rows.HOSTILE in order; named again so that this module needs no torch. A test holds the two together.
HOSTILE = ("huge", "inf", "nan", "zero")
# Those beside which a row that is not kept apart overflows or becomes NaN.
CONTAGIOUS = ("huge", "inf", "nan")
# Counted from the universe's size, like the hostile rows: a sequence as long as any neighbour needs to be.
LONG_NEIGHBOUR = len(HOSTILE)
# Of rows that choose experts or an adapter, the same row chooses others than rows that are routed alike do.
ELSEWHERE = LONG_NEIGHBOUR
# Likewise, and after it: the first of the rows that hold values which are rare, and which are compared.
FIRST_SPECIAL = LONG_NEIGHBOUR + 1
SPECIAL = (
    "subnormal",
    "negative zero",
    "signed zeros",
    "infinity",
    "negative infinity",
    "NaN",
    "masked",
    "outlier",
    "constant",
    "largest",
    "sparse",
    "one left",
    "all masked",
    "infinity added",
    "NaN added",
    "masked end",
    "few left",
)
"""What the rows from `FIRST_SPECIAL` on hold, see `kernels_bench.operators.inputs.rows.special_rows`."""

# Patterns of the rows that stay where others are exchanged: every fourth from one of so many on, or a random half.
PHASES = 4
KINDS_OF_ROWS = 4
"""Rows' values are of so many kinds in turn: see `kernels_bench.operators.inputs.rows.KINDS`."""
ALIKE, FIRST_ALIKE, FIRST_WHOLE = 8, 5, 2
"""Of packed sequences every so-many-th one, from the second number on, is of one length, and from the third on as long
as some whole tiles."""


class InCommon(NamedTuple):
    """Which of `IN_COMMON` rows have something in common with that one of all others.

    Attributes:
        drawn: a single number that was drawn; 1 where it may be 1.
        another: likewise, and no round one.
        least: the least number there may be.
        largest: the largest.
        narrow: all are numbers of a narrower dtype, or multiples of 16.
        shares: all are shares of one, the largest first.
        begun: their first half.
        nothing: what is added to them is zero; single numbers are 0 where they may be, else 1.
        rising: all numbers ascend.
        negative: no number is positive.
        led: they begin with zeros, or with the least there may be; single numbers are 0 and 1 in turn.
        ended: their second half, which ends with zeros, or with the least there may be; single numbers are 1 and 0 in
            turn.
        unit: their length is 1; of whole numbers, each is one more than the one before, from the least on; single
            numbers are 1 where they may be, else 0.
        bits: all numbers are 0 or 1, of a range from 0 to 1; of whole numbers, -1, in all of whose bits there is a one.
        powers: all numbers of a range are the same power of two; what is added to them, or multiplies them, is 1.
        first_least: of several tensors with a range the first, the third and so on have the least number.
        second_least: the second, the fourth and so on have.
    """

    drawn: int
    another: int
    least: int
    largest: int
    narrow: int
    shares: int
    begun: int
    nothing: int
    rising: int
    negative: int
    led: int
    ended: int
    unit: int
    bits: int
    powers: int
    first_least: int
    second_least: int


IN_COMMON = 32
FIRST_IN_COMMON = InCommon(
    drawn=25, another=28, least=27, largest=29, narrow=26, shares=31, begun=19, nothing=24, rising=11, negative=9,
    led=7, ended=5, unit=10, bits=6, powers=12, first_least=18, second_least=22,
)  # fmt: skip
BEGUN_ALIKE, NEARLY_ALIKE, TURNED_ALIKE = (17, 23), (13, 21), (1, 30)
"""Of so many rows the second one begins as the first does, differs from it in the last bit of each number, or has its
numbers in the opposite order."""
IN_TURN = 64
"""In every so many rows the first ones have single integers that follow one another, in every second run by two."""
ALIKE_BUT_FOR_ONE = ((40, 52), (34, 46))
"""Of so many rows, which have several tensors, the second one is the first one's copy but for one of these. None
stands in a run, and no copy among the rows that are `routed_alike`."""
Ids = npt.NDArray[np.int64]


def routed_alike(rows: Ids) -> npt.NDArray[np.bool_]:
    """Which rows all choose the same experts, or adapter, where rows choose any: one in four, of every kind."""
    return np.equal(rows % PHASES, rows // PHASES % PHASES)


@dataclass(frozen=True)
class Serving:
    """How an engine would serve rows that are sequences, or sums over ranks; without meaning where they are not.

    Attributes:
        chunk: queries of a compared row that one entry of the batch computes; 0: all of them.
        tail: how many of a compared row's last queries are computed; 0: all of them.
        unequal: of each compared row another number of them, from all of those down to two and over again.
        stranger: KV length of the neighbours; 0: their own.
        prefilling: such neighbours compute all their queries, not only the last.
        equal: neighbours are as long as the compared row, and served as it is.
        shortest: rows are numbered from the shortest sequence on.
        paired: rows are numbered so that of packed sequences those of one length stand in pairs.
        placement: which of many placements of the KV cache's pages; 0: the usual one, 1: in order,
            3: falling, 4: in turn, 5: the usual one after 65,536 other pages.
        unused: what slots of the cache hold that no token was written to, one of `UNUSED`; 0: the usual.
        behind: what slots of the cache hold whose tokens no query of the batch sees any more, likewise.
        prefix: so many of the first pages hold what those of the longest sequence do; 0: their own.
        shared: these pages are the longest sequence's own, and not copies of them.
        cached: the queries of these pages' tokens are not computed, as where an earlier request's pages are there.
        far: the pages lie at the end of a cache of more than 2^31 elements.
        ranks: so many ranks have a part of each row; 0: as many as the shape says.
    """

    chunk: int = 0
    tail: int = 0
    unequal: bool = False
    stranger: int = 0
    prefilling: bool = False
    equal: bool = False
    shortest: bool = False
    paired: bool = False
    placement: int = 0
    unused: int = 0
    behind: int = 0
    prefix: int = 0
    shared: bool = False
    cached: bool = False
    far: bool = False
    ranks: int = 0


AFTER_MANY = 5
"""The placement of pages after so many others that 16 bits do not count them."""
UNUSED = ("usual", "NaN", "huge", "other tokens")
"""What unused slots of a KV cache may hold: what was there before."""


@dataclass(frozen=True, eq=False)
class Batch:
    """An ordered choice of rows.

    Attributes:
        name: what makes it again.
        rows: identity of the row at each position; from the universe's size on, the hostile rows, after them the long
            stranger that universes of sequences have, and the rows of special values.
        compared: positions whose rows' outputs are compared; the others are mere neighbours.
        serving: how the rows are served where they are sequences.

    Both arrays are read-only: batches are shared.
    """

    name: BatchSpec
    rows: Ids
    compared: Ids
    serving: Serving = Serving()

    def __post_init__(self) -> None:
        for array in (self.rows, self.compared):
            array.flags.writeable = False

    @cached_property
    def spec(self) -> str:
        """Its name as text, such as ``shuffle:64:1``."""
        return str(self.name)

    @property
    def size(self) -> int:
        """M."""
        return len(self.rows)

    @property
    def contagious(self) -> bool:
        """Whether there are values that a row takes harm from, if it is not kept apart, or that overflow on the way."""
        return self.name.kind in (*CONTAGIOUS, "special", "rare", "parts", "unused", "behind")

    @cached_property
    def follows_from(self) -> int | None:
        """The first row's identity, if the others follow it one by one; else None."""
        first = int(self.rows[0])
        return first if np.array_equal(self.rows, np.arange(first, first + len(self.rows))) else None


@dataclass(frozen=True, eq=False)
class ResultRows:
    """What the rows of a batch's result, its lines, are: of most operators one line a row.

    Attributes:
        ids: identity of each line in the order of the result; lines with equal ids must have equal bits.
        compared: places of the lines that are compared.
    """

    ids: Ids
    compared: Ids
