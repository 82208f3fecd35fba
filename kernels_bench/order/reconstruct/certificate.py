"""Few questions whose answers one summation tree alone gives: so an order that is known is proven to be a kernel's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from kernels_bench.order.trees.tree import Ints, Mismatch, Tree


@dataclass(frozen=True, eq=False)
class Questions:
    """Two huge terms that cancel each, and units among the others; all arrays but ``place`` are (questions, …).

    Attributes:
        place: each term's place on a line, (K,).
        first: the term that is huge.
        second: the one that is minus huge.
        among: units are the other terms whose places are from the first of these on and before the second, (…, 2).
        but: without those within these, (…, 2).
    """

    place: Ints
    first: Ints
    second: Ints
    among: Ints
    but: Ints

    def __len__(self) -> int:
        return len(self.first)


_AT_ONCE = 1 << 20
"""Questions that are made together, where there is a choice: who answers sees in between whether there is time left."""

Left = Callable[[Questions], Ints]
"""How many units are left of each question: those that are not below the node in which its huge terms meet."""


def counting(first: Ints, second: Ints, terms: int, most: int, begins: Ints) -> Questions:
    """Questions about pairs with units at ``most`` other terms, from each of some on: (begins, pairs), flattened."""
    among = np.stack([begins, np.minimum(begins + most, terms)], 1)
    return Questions(
        place=np.arange(terms),
        first=np.tile(first, len(among)),
        second=np.tile(second, len(among)),
        among=np.repeat(among, len(first), 0),
        but=np.zeros((len(first) * len(among), 2), np.int64),
    )


def meeting_sizes(first: Ints, second: Ints, terms: int, most: int, left: Left) -> Ints:
    """Sizes of the nodes in which pairs of terms meet; ``most`` units are told exactly at a time."""
    begins, found = np.arange(0, terms, most), np.full(len(first), terms)
    step = max(1, _AT_ONCE // max(1, len(first)))
    for at in range(0, len(begins), step):
        some = begins[at : at + step]
        found -= left(counting(first, second, terms, most, some)).reshape(len(some), len(first)).sum(0)
    return found


@lru_cache(16)
def certificate(known: Tree, most: int) -> tuple[Questions, Ints]:
    r"""Questions, and how many units are left of each, that no other tree gives.

    Children are spoken for by their first terms.  *Together*: of every two children of a node with three or more, with
    units at all other terms of the node: none is left.  *Apart*: of a node's first two children, with units at the
    terms outside of the node, ``most`` at a time: all are left.

    Let another tree T give the same answers.  From the leaves up, every node v of the known tree is one of T: where its
    children are, two of them meet in a node u of T that holds both whole, being laminar with them; it holds a term of
    every other child (together), hence each whole; and for the first two it holds nothing else (apart), so that u is v.
    And T has no other node: take the smallest known node v that holds one, w.  As w is not within one child of v, it
    holds terms of two, hence both whole, and then their first terms meet in w or below; but they meet in v.
    """
    begin, end = known.begins, known.begins + known.sizes
    together, apart = _pairs_of_many(known), np.arange(known.terms, known.nodes - 1)
    parts = np.arange(0, known.terms, most)
    node, part = (grid.ravel() for grid in np.meshgrid(apart, np.arange(len(parts)), indexing="ij"))
    low, high = parts[part], np.minimum(parts[part] + most, known.terms)
    outside = high - low - np.maximum(0, np.minimum(high, end[node]) - np.maximum(low, begin[node]))
    node, low, high, outside = (array[outside > 0] for array in (node, low, high, outside))
    firsts = np.array([known.children[one - known.terms][:2] for one in node], dtype=np.int64).reshape(-1, 2)
    asked = Questions(
        place=begin[: known.terms],
        first=known.firsts[np.concatenate([together[:, 1], firsts[:, 0]])],
        second=known.firsts[np.concatenate([together[:, 2], firsts[:, 1]])],
        among=np.concatenate([_bounds(begin, end, together[:, 0]), np.stack([low, high], 1)]),
        but=np.concatenate([np.zeros((len(together), 2), np.int64), _bounds(begin, end, node)]),
    )
    return asked, np.concatenate([np.zeros(len(together), np.int64), outside])


def certificate_size(known: Tree, most: int) -> int:
    """How many questions `certificate` would have, of which a wide sum that tells few units at a time has very many."""
    together = sum(len(children) * (len(children) - 1) // 2 for children in known.children if len(children) > 2)
    parts, inner = -(-known.terms // most), slice(known.terms, known.nodes - 1)
    begin, end = known.begins[inner], known.begins[inner] + known.sizes[inner]
    last = np.where(end == known.terms, parts, end // most)
    within = np.maximum(0, last - -(-begin // most))
    return together + int((parts - within).sum())


def _pairs_of_many(known: Tree) -> Ints:
    """A node with three children or more, and two of them: (pairs, 3)."""
    found = [
        (node, *pair)
        for node, children in enumerate(known.children, known.terms)
        if len(children) > 2
        for pair in combinations(children, 2)
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _bounds(begin: Ints, end: Ints, nodes: Ints) -> Ints:
    return np.stack([begin[nodes], end[nodes]], 1)


def confirm(known: Tree, left: Left, most: int) -> Mismatch | None:
    """Whether the order is the known tree; None if it is, which `certificate` proves.

    Args:
        known: the tree.
        left: answers questions.
        most: units that an answer tells exactly.
    """
    asked, expected = certificate(known, most)
    wrong = np.flatnonzero(left(asked) != expected)
    if not len(wrong):
        return None
    first, second = asked.first[wrong[:1]], asked.second[wrong[:1]]
    expected = known.sizes[known.meeting(first, second)]
    got = meeting_sizes(first, second, known.terms, most, left)
    return Mismatch(int(first[0]), int(second[0]), int(expected[0]), int(got[0]))
