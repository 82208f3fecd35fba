"""Batches of some of the universe's rows, all of which are compared, whatever a row is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from kernels_bench.relations.batch import FIRST_SPECIAL, SPECIAL, Batch, Ids
from kernels_bench.relations.batch_kinds.kind import BatchKind, ImpossibleError, all_of, reordered, shuffled
from kernels_bench.relations.spec import BatchSpec


def _in_order(name: BatchSpec, _: int) -> Batch:
    return all_of(name, np.arange(name.size, dtype=np.int64))


def _pair(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    if name.size != len(("R", "R+D")):
        raise ImpossibleError("is of two rows")
    first, distance = name.arguments
    return np.array([first % universe, (first + distance) % universe], dtype=np.int64)


def _every(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    step, first = name.arguments
    if not (1 <= step <= universe and 0 <= first < step):
        raise ImpossibleError("has no row: S must be between 1 and the universe's rows, and R below S")
    return rows * step % (universe // step * step) + first


def _rare(rows: Ids, name: BatchSpec, universe: int) -> Ids:
    if not 0 <= name.arguments[0] < len(SPECIAL):
        raise ImpossibleError(f"has no row: P must be below {len(SPECIAL)}")
    return 0 * rows + universe + FIRST_SPECIAL + name.arguments[0]


def _period(universe: int) -> int:
    """The largest prime in the universe: what begins anew after a power of two does not begin with the same row."""
    return next(n for n in range(universe, 0, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))


KINDS: Mapping[str, BatchKind] = MappingProxyType({
    "first": BatchKind((), _in_order, ""),
    "last": BatchKind((), reordered(lambda rows, name, universe: rows + universe - name.size), "other rows first"),
    "from": BatchKind(
        ("S",), reordered(lambda rows, name, universe: (rows + name.arguments[0]) % universe), "other rows first"
    ),
    "pair": BatchKind(("R", "D"), reordered(_pair), "two rows"),
    "copies": BatchKind(
        ("R",),
        reordered(lambda rows, name, universe: 0 * rows + name.arguments[0] % universe),
        "one row repeated",
        place="row {0} at every place",
    ),
    "twice": BatchKind((), reordered(lambda rows, *_: rows // 2), "each row twice", place="each row twice"),
    "cycled": BatchKind(
        (),
        reordered(lambda rows, _, universe: rows % _period(universe)),
        "rows repeated",
        place="rows repeated",
        beyond=True,
    ),
    "reverse": BatchKind((), reordered(lambda rows, *_: rows[::-1].copy()), "reversed"),
    "rotate": BatchKind(("P",), reordered(lambda rows, name, _: np.roll(rows, name.arguments[0])), "rotated"),
    "shuffle": BatchKind(("S",), reordered(lambda _, name, __: shuffled(name.size, name.arguments[0])), "shuffled"),
    "rare": BatchKind(
        ("P",), reordered(_rare), "one special row repeated", place="special row {0} at every place"
    ),
    "every": BatchKind(("S", "R"), reordered(_every), "some of the rows", place="every {0}th row from row {1} on"),
})  # fmt: skip
"""Each by name."""
