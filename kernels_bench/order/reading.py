"""One case's orders over its numbers of rows: read once, proven at the others, checked by prediction."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kernels_bench.order.layout import Layout, confirm_layout, distinct, read_layout
from kernels_bench.order.probe import Prober
from kernels_bench.order.reveal import Inconsistent, Mismatch, RowsDiffer
from kernels_bench.order.tree import Ints, Tree

FRESH = 64
"""Random probes that check every tree at every number of rows, at least."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of a kernel's orders.

    Attributes:
        layouts: every column's order at each number of rows that could be read, in the order of reading.
        mismatch: the first number of rows at which the order is another than the first tree, and where.
        uneven: numbers of rows at which rows of one launch add in different orders, and which.
        refused: other numbers of rows at which nothing can be claimed, and why.
        launches: how many there were.
    """

    layouts: dict[int, Layout] = field(default_factory=dict)
    mismatch: tuple[int, Mismatch] | None = None
    uneven: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    launches: int = 0

    @property
    def distinct(self) -> list[Layout]:
        """All that were found, in the order of reading."""
        return distinct(list(self.layouts.values()))

    @property
    def trees(self) -> dict[int, Tree]:
        """The tree at each number of rows at which all columns have the same."""
        return {m: layout.parts[0].tree for m, layout in self.layouts.items() if len(layout.parts) == 1}


def read_orders(
    prober_of: Callable[[int], Prober], sizes: Sequence[int], seed: int = 0, budget_s: float = math.inf
) -> Reading:
    """The order at every number of rows, as far as time allows.

    It is read out at the number of rows whose launches answer most, and proven to be the same at every other one by a
    certificate; where it is not, that order is read out too.

    Raises:
        Unsupported: see `Prober`.
    """
    deadline = time.monotonic() + budget_s
    probers = {m: prober_of(m) for m in sizes}
    reading = Reading()
    for m in sorted(probers, key=lambda m: (-probers[m].width, m)):
        try:
            with probers[m].until(deadline):
                found, wrong = _read(probers[m], reading.distinct, seed)
                check_layout(probers[m], found, seed)
        except Inconsistent as reason:
            (reading.uneven if isinstance(reason, RowsDiffer) else reading.refused)[m] = str(reason)
            continue
        reading.layouts[m] = found
        if wrong is not None and reading.mismatch is None:
            reading = replace(reading, mismatch=(m, wrong))
    return replace(reading, launches=sum(prober.launches for prober in probers.values()))


def _read(prober: Prober, known: Sequence[Layout], seed: int) -> tuple[Layout, Mismatch | None]:
    """One of the known orders if it is that, else a new one and where it differs from the first."""
    wrong: Mismatch | None = None
    for layout in known:
        mismatch = confirm_layout(layout, prober)
        if mismatch is None:
            return layout, wrong
        wrong = wrong or mismatch
    return read_layout(prober, seed), wrong


def check_layout(prober: Prober, layout: Layout, seed: int) -> None:
    """See `check`, for each part of the columns."""
    for part in layout.parts:
        with prober.within(part.columns if len(layout.parts) > 1 else prober.columns):
            check(prober, part.tree, seed)


def check(prober: Prober, tree: Tree, seed: int) -> None:
    """Predict what fresh probes give: random pairs of huge terms among random units of either sign, and no pair at all.

    Raises:
        Inconsistent: a prediction fails; the kernel is not repeatable, its order depends on its data, or terms are
            left out.
    """
    draw = np.random.default_rng([seed, prober.m, prober.terms])
    count = max(FRESH, min(prober.width, 4 * FRESH)) if prober.width > 1 else FRESH
    first, second = _pairs(draw, prober.terms, count)
    units = _few_units(draw, count, prober.terms, prober.counted)
    taken = np.arange(count)
    expected_units = units.astype(np.int64)
    expected_units[taken, first] = np.where(first == second, expected_units[taken, first], 0)
    expected_units[taken, second] = np.where(first == second, expected_units[taken, second], 0)
    below = tree.below(expected_units.T)
    lost = np.where(first == second, 0, below[tree.meeting(first, second), taken])
    expected = expected_units.sum(1) - lost
    again = [prober.totals(first, second, units) for _ in range(2)]
    if (again[0] != again[1]).any():
        raise Inconsistent("it is not repeatable: equal launches gave different sums")
    wrong = np.flatnonzero(again[0] != expected)
    if len(wrong):
        raise Inconsistent(_failed(first, second, expected, again[0], int(wrong[0])))


def _failed(first: Ints, second: Ints, expected: Ints, got: Ints, place: int) -> str:
    if first[place] == second[place]:
        return f"terms are left out or added twice: {expected[place]} units gave {got[place]}"
    return (
        f"its order depends on its data: terms {first[place]} and {second[place]} cancelled, "
        f"and {got[place]} instead of {expected[place]} units were left"
    )


def _pairs(draw: np.random.Generator, terms: int, count: int) -> tuple[Ints, Ints]:
    """Random pairs; every eighth of one and the same term, and the last terms among them."""
    first, second = draw.integers(0, terms, (2, count))
    second = np.where((first == second) & (terms > 1), (second + 1) % terms, second)
    second[::8] = first[::8]
    first[1::8] = terms - 1
    second[1::8] = np.where(second[1::8] == terms - 1, 0, second[1::8])
    return first, second


def _few_units(
    draw: np.random.Generator, count: int, terms: int, most: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    """Units of either sign, so few that every sum of them is exact; the last term is always one."""
    share = min(1.0, most / terms)
    present = draw.random((count, terms)) < share
    units = np.where(present, draw.choice(np.array([-1, 1], dtype=np.int8), (count, terms)), 0).astype(np.int8)
    units[:, -1] = 1
    rich = np.flatnonzero(np.abs(units).sum(1, dtype=np.int64) > most)
    for row in rich:
        places = np.flatnonzero(units[row])
        units[row, draw.choice(places, len(places) - most, replace=False)] = 0
    return units
