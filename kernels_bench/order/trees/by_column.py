"""The orders in which the columns of one launch add: one for all, or some for some."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from kernels_bench.order.trees.description import sentence
from kernels_bench.order.trees.tree import Ints, Mismatch, Tree


@dataclass(frozen=True, eq=False)
class ColumnGroup:
    """Columns that add in one order.

    Attributes:
        columns: their numbers, ascending.
        tree: the order.
    """

    columns: Ints
    tree: Tree


@dataclass(frozen=True, eq=False)
class ColumnOrders:
    """Every column's order.

    Attributes:
        parts: columns by order; of the first column's first.
    """

    parts: tuple[ColumnGroup, ...]

    @property
    def count(self) -> int:
        """So many columns have it."""
        return 1 + max(int(part.columns.max()) for part in self.parts)

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


def uniform(tree: Tree, columns: int) -> ColumnOrders:
    """One order for all columns."""
    return ColumnOrders((ColumnGroup(np.arange(columns), tree),))


def difference(known: ColumnOrders, found: ColumnOrders) -> str:
    """Two terms that do not meet in the same sum in two layouts that differ, in words."""
    for part in known.parts:
        for other in found.parts:
            if part.tree.digest != other.tree.digest and len(np.intersect1d(part.columns, other.columns)):
                return _told_apart(part.tree, other.tree).words
    return "columns that have an order of their own are others"


def _told_apart(known: Tree, found: Tree) -> Mismatch:
    """Two terms that do not meet in the same sum: of two trees that differ, one has a node that the other lacks."""
    marks = np.random.default_rng(0).integers(1, 1 << 40, known.terms)
    sums = [tree.below(marks) for tree in (known, found)]
    for tree in (known, found):
        pairs = tree.firsts[np.array([children[:2] for children in tree.children], dtype=np.int64).reshape(-1, 2)]
        nodes = [one.meeting(*pairs.T) for one in (known, found)]
        wrong = np.flatnonzero(sums[0][nodes[0]] != sums[1][nodes[1]])
        if len(wrong):
            at = wrong[0]
            expected, got = (int(one.sizes[node[at]]) for one, node in zip((known, found), nodes, strict=True))
            return Mismatch(int(pairs[at, 0]), int(pairs[at, 1]), expected, got)
    raise ValueError("the trees are one and the same")


def _columns(columns: Ints) -> str:
    first, last = columns[0], columns[-1]
    if len(columns) == 1:
        return f"column {first}"
    return (
        f"columns {first} to {last}" if last - first + 1 == len(columns) else f"{len(columns)} columns from {first} on"
    )
