"""Batches in which the rows that are compared stand among others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from kernels_bench.relations.batch import (
    ELSEWHERE,
    FIRST_SPECIAL,
    HOSTILE,
    IN_COMMON,
    KINDS_OF_ROWS,
    PHASES,
    SPECIAL,
    Batch,
    Ids,
    routed_alike,
)  # fmt: skip
from kernels_bench.relations.batch_kinds.kind import BatchKind, ImpossibleError, shuffled
from kernels_bench.relations.spec import BatchSpec

Flags = npt.NDArray[np.bool_]


def _staying(name: BatchSpec, phase: int) -> Flags:
    """Which positions keep their rows."""
    rows = np.arange(name.size)
    stays = rows % PHASES == phase if phase < PHASES else np.isin(rows, shuffled(name.size, phase)[::2])
    if not stays.any():
        raise ImpossibleError("compares no row: T must be below M")
    return stays


def _with_others(name: BatchSpec, universe: int) -> Batch:
    rows = np.arange(name.size, dtype=np.int64)
    stays = _staying(name, name.arguments[0])
    # Far from the rows they replace, and of other kinds in turn (rows.KINDS has period four).
    return Batch(name, np.where(stays, rows, (rows + universe // 2 + 1) % universe), rows[stays])


def _alike(name: BatchSpec, universe: int) -> Batch:
    (kind,) = name.arguments
    of_a_kind = universe // KINDS_OF_ROWS * KINDS_OF_ROWS
    if not 0 <= kind < min(name.size, KINDS_OF_ROWS, of_a_kind):
        raise ImpossibleError(f"compares no row: T must be below M and {KINDS_OF_ROWS}")
    rows = np.arange(name.size, dtype=np.int64)
    stays = rows % KINDS_OF_ROWS == kind
    # From the middle of the universe on, far from the rows they replace.
    others = (rows * KINDS_OF_ROWS + of_a_kind // 2 // KINDS_OF_ROWS * KINDS_OF_ROWS + kind) % of_a_kind
    return Batch(name, np.where(stays, rows, others), rows[stays])


def _in_common(name: BatchSpec, universe: int) -> Batch:
    (first,) = name.arguments
    if not 0 <= first < min(IN_COMMON, universe):
        raise ImpossibleError(f"has no row: R must be below {IN_COMMON}, and the universe's rows")
    positions = np.arange(name.size, dtype=np.int64)
    stays = (positions % IN_COMMON == 0) & (first + positions < universe)
    having = np.arange(first, universe, IN_COMMON, dtype=np.int64)
    others = having[(positions + len(having) // 2) % len(having)]
    return Batch(name, np.where(stays, first + positions, others), positions[stays])


def _of_sorts(with_others: bool) -> Callable[[BatchSpec, int], Batch]:
    """Rows of two sorts, over and over; or each of them once, and rows of none of them at some places."""

    def make(name: BatchSpec, universe: int) -> Batch:
        rows = _two_sorts(name, universe)
        places = np.arange(name.size, dtype=np.int64)
        from_quarter = places - name.size // PHASES
        apart = (from_quarter >= 0) & (from_quarter < max(1, name.size // (2 * PHASES)))
        kept = np.isin(places, np.unique(rows, return_index=True)[1]) & ~apart
        if not with_others:
            return Batch(name, rows, places[kept])
        others = np.setdiff1d(np.arange(universe, dtype=np.int64), rows)[: int((~kept).sum())]
        if len(others) < (~kept).sum():
            raise ImpossibleError("has not enough other rows")
        rows[~kept] = others
        return Batch(name, rows, places[kept])

    return make


def _two_sorts(name: BatchSpec, universe: int) -> Ids:
    usual, second, begin, end = name.arguments
    if not 0 <= usual < min(IN_COMMON, universe) or not 0 <= second < min(IN_COMMON, universe):
        raise ImpossibleError(f"has no row: R and S must be below {IN_COMMON}, and the universe's rows")
    if name.size < PHASES or not 0 <= begin < end <= name.size:
        raise ImpossibleError(f"has no such places: M must be {PHASES} or more, and B … E - 1 places of it")
    places = np.arange(name.size, dtype=np.int64)
    of_usual, of_second = (
        rows[places % len(rows)]
        for rows in (np.arange(first, universe, IN_COMMON, dtype=np.int64) for first in (usual, second))
    )
    return np.where((begin <= places) & (places < end), of_second, of_usual)


def with_strangers(stranger: int) -> Callable[[BatchSpec, int], Batch]:
    """The other rows are all one row, whose identity is counted from the universe's size."""

    def make(name: BatchSpec, universe: int) -> Batch:
        rows = np.arange(name.size, dtype=np.int64)
        stays = _staying(name, name.arguments[-1])
        return Batch(name, np.where(stays, rows, universe + stranger), rows[stays])

    return make


def _padded(name: BatchSpec, universe: int) -> Batch:
    (real,) = name.arguments
    if not 1 <= real < name.size:
        raise ImpossibleError("has no row, or no padding: C must be between 1 and M - 1")
    rows = np.arange(name.size, dtype=np.int64)
    return Batch(name, np.where(rows < real, rows, universe + HOSTILE.index("zero")), rows[:real])


def _routed(name: BatchSpec, universe: int) -> Batch:
    """Which rows stay, where there is not room for all that are alike, changes with C."""
    (alike_in_all,) = name.arguments
    if not 1 <= alike_in_all <= name.size:
        raise ImpossibleError("routes no row, or more than M, alike: C must be between 1 and M")
    positions = np.arange(name.size, dtype=np.int64)
    alike = routed_alike(positions)
    there = np.flatnonzero(alike)
    staying = np.sort(np.roll(there, alike_in_all)[:alike_in_all])
    others = np.flatnonzero(~alike)
    crowd = others[shuffled(len(others), alike_in_all)[: alike_in_all - len(staying)]]
    known = np.flatnonzero(routed_alike(np.arange(universe)))
    rows = np.full(name.size, universe + ELSEWHERE, dtype=np.int64)
    rows[staying] = staying
    # From the first ones on that have no place in a batch of M rows.
    rows[crowd] = known[(len(there) + np.arange(len(crowd))) % len(known)]
    return Batch(name, rows, staying)


def with_special(name: BatchSpec, universe: int) -> Batch:
    """The special rows, as many as there is room for, spread over the batch; which come first goes round with P."""
    count, first = min(len(SPECIAL), name.size), name.arguments[0]
    numbers = np.arange(count, dtype=np.int64)
    positions = (first + numbers * (name.size // count)) % name.size
    rows = np.arange(name.size, dtype=np.int64) % universe
    rows[positions] = universe + FIRST_SPECIAL + (first + numbers) % len(SPECIAL)
    return Batch(name, rows, np.sort(positions))


def _hostile(kind: str) -> BatchKind:
    return BatchKind(("T",), with_strangers(HOSTILE.index(kind)), f"{kind} neighbours")


KINDS: Mapping[str, BatchKind] = MappingProxyType({
    "others": BatchKind(("T",), _with_others, "other neighbours"),
    "alike": BatchKind(("T",), _alike, "neighbours of the same kind"),
    "common": BatchKind(("R",), _in_common, "neighbours with a number in common"),
    "two": BatchKind(
        ("R", "S", "B", "E"), _of_sorts(with_others=False), "rows of two sorts alone", place="rows of two sorts alone"
    ),
    "three": BatchKind(
        ("R", "S", "B", "E"), _of_sorts(with_others=True), "rows of two sorts", place="rows of two sorts and others"
    ),
    **{kind: _hostile(kind) for kind in HOSTILE},
    "padded": BatchKind(("C",), _padded, "padded with zeros", place="padded with zeros after {0} rows"),
    "routed": BatchKind(
        ("C",), _routed, "rows of the same experts or adapter:", told=True, place="{0} of the same experts or adapter"
    ),
    "special": BatchKind(("P",), with_special, "among other rows", place="among other rows", beyond=True),
})  # fmt: skip
"""Each by name."""
