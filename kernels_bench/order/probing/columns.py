"""Every column's order: all columns are asked as one, and in parts where their answers contradict each other."""

from __future__ import annotations

import numpy as np

from kernels_bench.order.probing.prober import CancellationQuestions
from kernels_bench.order.reconstruct.cancellation import Inconsistent, OutOfTime, RowsDiffer, reveal
from kernels_bench.order.reconstruct.certificate import confirm
from kernels_bench.order.trees.by_column import ColumnGroup, ColumnOrders
from kernels_bench.order.trees.tree import Ints, Mismatch, Tree

MOST_PARTS = 16
"""Orders among the columns of one launch that are told apart; kernels have a few paths for tiles at the
edge, and on a CPU one for every alignment of a column."""

_PROBED, _SCREENS = 8, 24


def read_layout(prober: CancellationQuestions, seed: int) -> ColumnOrders:
    """Read out every column's order: as one, or where the answers contradict each other, in parts.

    Raises:
        Inconsistent: no few trees give these answers.
    """
    try:
        return ColumnOrders((ColumnGroup(prober.columns, _revealed(prober, seed)),))
    except Inconsistent as reason:
        if isinstance(reason, (OutOfTime, RowsDiffer)) or len(prober.columns) < 2:
            raise
        return read_parts(prober, seed, reason)


def read_parts(prober: CancellationQuestions, seed: int, reason: Inconsistent) -> ColumnOrders:
    """Read out every column's order in parts.

    Args:
        prober: asks.
        seed: of the questions.
        reason: why they cannot all have one.

    Raises:
        Inconsistent: that reason, where they do not have a few either.
    """
    return ColumnOrders(tuple(_parts(prober, seed, reason)))


def _revealed(prober: CancellationQuestions, seed: int) -> Tree:
    return reveal(prober.terms, prober.left, prober.counted, prober.width, seed)


def _parts(prober: CancellationQuestions, seed: int, reason: Inconsistent) -> list[ColumnGroup]:
    """Read the order of the first columns, find all that have it, and go on with the others."""
    parts: list[ColumnGroup] = []
    left = prober.columns
    while len(left):
        if len(parts) == MOST_PARTS:
            raise reason
        tree = _first_tree(prober, left, seed)
        with prober.within(left):
            agrees = _screen(prober, tree, seed)
        if not agrees[0]:
            raise reason
        parts.append(ColumnGroup(left[agrees], tree))
        left = left[~agrees]
    if len(parts) < 2:
        raise reason
    return parts


def _first_tree(prober: CancellationQuestions, columns: Ints, seed: int) -> Tree:
    """The order of the first of some columns, read with its neighbours' help if they have the same."""
    for count in (_PROBED, 1):
        try:
            with prober.within(columns[:count]):
                return _revealed(prober, seed)
        except Inconsistent as reason:
            if count == 1 or isinstance(reason, OutOfTime):
                raise
    raise AssertionError  # the loop returns or raises


def _screen(prober: CancellationQuestions, tree: Tree, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
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


def confirm_layout(known: ColumnOrders, prober: CancellationQuestions) -> Mismatch | None:
    """Whether all columns add in the orders that are known; None if they do."""
    if len(known.parts) == 1:
        return confirm(known.parts[0].tree, prober.left, prober.counted)
    for part in known.parts:
        # Of row operators the sums are the rows, and there may be fewer of them here.
        here = part.columns[part.columns < len(prober.columns)]
        if not len(here):
            continue
        with prober.within(here):
            mismatch = confirm(part.tree, prober.left, prober.counted)
        if mismatch is not None:
            return mismatch
    return None
