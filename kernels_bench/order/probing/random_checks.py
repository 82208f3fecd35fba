"""Predict what fresh probes give: what the method assumes of a kernel is checked, never taken for granted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kernels_bench.order.probing.prober import CancellationQuestions
from kernels_bench.order.reconstruct.cancellation import ColumnsDiffer, Inconsistent
from kernels_bench.order.trees.tree import Ints, Tree

FEWEST = 64
"""Random probes that check every tree at every number of rows, at least."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Random questions about a tree, and what it makes of them.

    Attributes:
        first: the huge terms, (n,).
        second: the minus huge ones; where they are the same there is none.
        units: of the other terms, (n, K).
        expected: how many are left, (n,).
    """

    first: Ints
    second: Ints
    units: np.ndarray[tuple[int, int], np.dtype[np.int8]]
    expected: Ints


@lru_cache(16)
def probes(tree: Tree, count: int, most: int, seed: int) -> Probes:
    """Random pairs of huge terms among random units of either sign, ``most`` at most, and no pair at all.

    They are asked at every number of rows, since it takes longer to make them than to ask.
    """
    draw = np.random.default_rng([seed, tree.terms, count])
    first, second = _pairs(draw, tree.terms, count)
    units = _few_units(draw, count, tree.terms, most)
    taken = np.arange(count)
    expected_units = units.astype(np.int64)
    expected_units[taken, first] = np.where(first == second, expected_units[taken, first], 0)
    expected_units[taken, second] = np.where(first == second, expected_units[taken, second], 0)
    below = tree.below(expected_units.T)
    lost = np.where(first == second, 0, below[tree.meeting(first, second), taken])
    return Probes(first, second, units, expected_units.sum(1) - lost)


def fresh_probes(prober: CancellationQuestions, tree: Tree, seed: int) -> Probes:
    """As many as fit well into a launch."""
    return probes(tree, max(FEWEST, min(prober.width, 4 * FEWEST)), prober.counted, seed)


def check(prober: CancellationQuestions, tree: Tree, seed: int) -> None:
    """Predict what fresh probes give, see `probes`.

    Raises:
        Inconsistent: a prediction fails; the kernel is not repeatable, its order depends on its data, or terms are
            left out.
    """
    fresh = fresh_probes(prober, tree, seed)

    def ask() -> Ints:
        return prober.totals(fresh.first, fresh.second, fresh.units)

    once, again = prober.twice(ask)
    if (once != again).any():
        raise Inconsistent("it is not repeatable: equal launches gave different sums")
    wrong = np.flatnonzero(once != fresh.expected)
    if len(wrong) and (ask() != once).any():
        raise ColumnsDiffer("its columns add in more orders than were told apart")
    if len(wrong):
        raise Inconsistent(_failed(fresh, once, int(wrong[0])))


def _failed(fresh: Probes, got: Ints, place: int) -> str:
    first, second, expected = fresh.first, fresh.second, fresh.expected
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
