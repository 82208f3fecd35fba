"""Batches: ordered choices of rows from one universe, and how they are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# rows.HOSTILE in order; named again so that this module needs no torch. A test holds the two together.
HOSTILE = ("huge", "inf", "nan", "zero")
# Those beside which a row that is not kept apart overflows or becomes NaN.
CONTAGIOUS = ("huge", "inf", "nan")
# Counted from the universe's size, like the hostile rows: a sequence as long as any neighbour needs to be.
LONG_NEIGHBOUR = len(HOSTILE)
# Patterns of the rows that stay where others are exchanged: every fourth from one of so many on, or a random half.
PHASES = 4
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Serving:
    """How an engine would serve rows that are sequences; without meaning where they are not.

    Attributes:
        chunk: queries of a compared row that one entry of the batch computes; 0: all of them.
        tail: how many of a compared row's last queries are computed; 0: all of them.
        stranger: KV length of the neighbours; 0: their own.
        prefilling: such neighbours compute all their queries, not only the last.
        placement: which of many placements of the KV cache's pages; 0: the usual one.
    """

    chunk: int = 0
    tail: int = 0
    stranger: int = 0
    prefilling: bool = False
    placement: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """An ordered choice of rows.

    Attributes:
        spec: what makes it again, such as ``shuffle:64:1``.
        rows: identity of the row at each position; from the universe's size on, the hostile rows, and after them the
            long stranger that universes of sequences have.
        compared: positions whose rows' outputs are compared; the others are mere neighbours.
        serving: how the rows are served where they are sequences.

    Both arrays are read-only: companies are shared.
    """

    spec: str
    rows: Ids
    compared: Ids
    serving: Serving = Serving()

    def __post_init__(self) -> None:
        for array in (self.rows, self.compared):
            array.flags.writeable = False

    @property
    def size(self) -> int:
        """M."""
        return len(self.rows)

    @property
    def contagious(self) -> bool:
        """Whether there are neighbours whose values a row takes harm from, if it is not kept apart from them."""
        return self.spec.partition(":")[0] in CONTAGIOUS


@lru_cache(4096)
def make_batch(spec: str, universe: int) -> Batch:
    """The company of a spec, always the same object; M and the other arguments are whole numbers.

    ============================  ====================================================================
    ``first:M``                   rows 0 … M-1 in order
    ``last:M``                    the universe's last M rows in order
    ``reverse:M``                 rows M-1 … 0
    ``rotate:M:P``                rows 0 … M-1 moved on by P positions, so that row 0 stands at P
    ``shuffle:M:S``               rows 0 … M-1 in the random order S
    ``others:M:T``                every fourth row from T on stays, the rest come from elsewhere; from T=4 on a
                                  random half stays, for neighbours at every distance
    ``huge:M:T`` … ``zero:M:T``   likewise, the rest replaced by one hostile row
    ``decoding:M:L:T``            likewise, the rest replaced by sequences that decode at KV length L
    ``prefilling:M:L:T``          likewise, by sequences that prefill L tokens
    ``placed:M:S``                rows 0 … M-1, the pages of their KV cache in the random order S
    ``chunks:M:C``                rows 0 … M-1, their queries in chunks of C, all in one batch
    ``tails:M``                   rows 0 … M-1, of each the last query alone
    ============================  ====================================================================

    Raises:
        ValueError: an unknown or impossible spec.
    """
    kind, *numbers = spec.split(":")
    try:
        size, *arguments = (int(number) for number in numbers)
    except ValueError:
        raise ValueError(f"company {spec!r}: expected KIND:M or KIND:M:ARGUMENT with whole numbers") from None
    if not 1 <= size <= universe:
        raise ValueError(f"company {spec!r}: M must be between 1 and the universe's {universe} rows")
    rows = np.arange(size, dtype=np.int64)
    if kind in ("first", "last", "reverse") and not arguments:
        chosen = {"first": rows, "last": rows + universe - size, "reverse": rows[::-1].copy()}[kind]
        return Batch(spec, chosen, rows)
    if kind in ("rotate", "shuffle") and len(arguments) == 1:
        chosen = np.roll(rows, arguments[0]) if kind == "rotate" else _shuffled(size, arguments[0])
        return Batch(spec, chosen, rows)
    if kind in ("others", *HOSTILE) and len(arguments) == 1:
        return _with_other_neighbours(spec, kind, rows, arguments[0], universe)
    if kind in ("decoding", "prefilling") and len(arguments) == 2 and arguments[0] > 0:
        found = _with_other_neighbours(spec, kind, rows, arguments[1], universe)
        return replace(found, serving=Serving(stranger=arguments[0], prefilling=kind == "prefilling"))
    if (serving := _serving(kind, arguments)) is not None:
        return Batch(spec, rows, rows, serving)
    raise ValueError(f"company {spec!r}: unknown kind, or the wrong number of arguments")


def _shuffled(size: int, seed: int) -> Ids:
    return np.random.default_rng([seed, size]).permutation(size).astype(np.int64)


def _serving(kind: str, arguments: Sequence[int]) -> Serving | None:
    if kind == "tails" and not arguments:
        return Serving(tail=1)
    if kind in ("placed", "chunks") and len(arguments) == 1 and arguments[0] > 0:
        return Serving(placement=arguments[0]) if kind == "placed" else Serving(chunk=arguments[0])
    return None


def _with_other_neighbours(spec: str, kind: str, rows: Ids, phase: int, universe: int) -> Batch:
    stays = rows % PHASES == phase if phase < PHASES else np.isin(rows, _shuffled(len(rows), phase)[::2])
    # Far from the rows they replace, and of other kinds in turn (rows.KINDS has period four).
    if kind == "others":
        strangers = (rows + universe // 2 + 1) % universe
    else:
        strangers = np.full_like(rows, universe + (HOSTILE.index(kind) if kind in HOSTILE else LONG_NEIGHBOUR))
    if not stays.any():
        raise ValueError(f"company {spec!r} compares no row: T must be below M")
    return Batch(spec, np.where(stays, rows, strangers), rows[stays])


@dataclass(frozen=True, eq=False)
class ResultRows:
    """What the rows of a company's result, its lines, are: of most operators one line a row.

    Attributes:
        ids: identity of each line in the order of the result; lines with equal ids must have equal bits.
        compared: places of the lines that are compared.
    """

    ids: Ids
    compared: Ids
