"""The orders in which the columns of one launch add: one for all, or some for some."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels_bench.order.probe import OUT_OF_TIME, Prober
from kernels_bench.order.reveal import Inconsistent, Mismatch, RowsDiffer, confirm, reveal
from kernels_bench.order.tree import Ints, Tree
from kernels_bench.order.words import sentence

MOST_PARTS = 16
"""Orders among the columns of one launch that are told apart; kernels have a few paths for tiles at the
edge, and on a CPU one for every alignment of a column."""

_PROBED, _SCREENS = 8, 24


@dataclass(frozen=True, eq=False)
class Part:
    """Columns that add in one order.

    Attributes:
        columns: their numbers, ascending.
        tree: the order.
    """

    columns: Ints
    tree: Tree


@dataclass(frozen=True, eq=False)
class Layout:
    """Every column's order.

    Attributes:
        parts: columns by order; of the first column's first.
    """

    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """Equal for equal orders of all columns; the tree's own where there is one for all."""
        if len(self.parts) == 1:
            return self.parts[0].tree.digest
        told = "".join(part.tree.digest + part.columns.tobytes().hex() for part in self.parts)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def words(self) -> str:
        """The order in a sentence, or each part's."""
        if len(self.parts) == 1:
            return sentence(self.parts[0].tree)
        return "; ".join(f"{_columns(part.columns)}: {sentence(part.tree)}" for part in self.parts)


def _columns(columns: Ints) -> str:
    first, last = columns[0], columns[-1]
    if len(columns) == 1:
        return f"column {first}"
    return (
        f"columns {first} to {last}" if last - first + 1 == len(columns) else f"{len(columns)} columns from {first} on"
    )


def read_layout(prober: Prober, seed: int) -> Layout:
    """Read out every column's order: as one, or where the answers contradict each other, in parts.

    Raises:
        Inconsistent: no few trees give these answers.
    """
    try:
        return Layout((Part(prober.columns, reveal(prober.terms, prober.ask, prober.width, seed)),))
    except Inconsistent as reason:
        if str(reason) == OUT_OF_TIME or isinstance(reason, RowsDiffer) or len(prober.columns) < 2:
            raise
        parts = _parts(prober, seed, reason)
    return Layout(tuple(parts))


def _parts(prober: Prober, seed: int, reason: Inconsistent) -> list[Part]:
    """Read the order of the first columns, find all that have it, and go on with the others."""
    parts: list[Part] = []
    left = prober.columns
    while len(left):
        if len(parts) == MOST_PARTS:
            raise reason
        tree = _first_tree(prober, left, seed)
        with prober.within(left):
            agrees = _screen(prober, tree, seed)
        if not agrees[0]:
            raise reason
        parts.append(Part(left[agrees], tree))
        left = left[~agrees]
    if len(parts) < 2:
        raise reason
    return parts


def _first_tree(prober: Prober, columns: Ints, seed: int) -> Tree:
    """The order of the first of some columns, read with its neighbours' help if they have the same."""
    for count in (_PROBED, 1):
        try:
            with prober.within(columns[:count]):
                return reveal(prober.terms, prober.ask, prober.width, seed)
        except Inconsistent as reason:
            if count == 1 or str(reason) == OUT_OF_TIME:
                raise
    raise AssertionError  # the loop returns or raises


def _screen(prober: Prober, tree: Tree, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the columns answer as a tree has it, each asked some questions of its own."""
    draw = np.random.default_rng([seed, len(prober.columns)])
    agrees = np.ones(len(prober.columns), dtype=np.bool_)
    if tree.terms < 2:
        return agrees
    for _ in range(_SCREENS):
        first = draw.integers(0, tree.terms, len(prober.columns))
        second = (first + draw.integers(1, tree.terms, len(prober.columns))) % tree.terms
        agrees &= prober.each(first, second) == tree.sizes[tree.meeting(first, second)]
    return agrees


def confirm_layout(known: Layout, prober: Prober) -> Mismatch | None:
    """Whether all columns add in the orders that are known; None if they do."""
    if len(known.parts) == 1:
        return confirm(known.parts[0].tree, prober.ask)
    for part in known.parts:
        # Of row operators the sums are the rows, and there may be fewer of them here.
        here = part.columns[part.columns < len(prober.columns)]
        if not len(here):
            continue
        with prober.within(here):
            mismatch = confirm(part.tree, prober.ask)
        if mismatch is not None:
            return mismatch
    return None


def distinct(layouts: Sequence[Layout]) -> list[Layout]:
    """Those that differ, in order."""
    return list({layout.digest: layout for layout in layouts}.values())
