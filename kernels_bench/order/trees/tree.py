"""Summation trees: which terms are added to which, in a form that is equal for equal orders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tree:
    """The order in which some terms are added.

    A leaf is a term.  An inner node is the sum of its children, rounded once: two children are an ordinary addition,
    more are added at once, as matrix units do.  Additions commute, so children have no order of their own; nodes and
    children are numbered by size and first term, which makes equal orders equal trees.

    Attributes:
        terms: how many are added; leaves are 0 to ``terms - 1``.
        children: of the inner nodes ``terms``, ``terms + 1``, …; children come before their node, the last is the root.
    """

    terms: int
    children: tuple[tuple[int, ...], ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and (self.terms, self.children) == (other.terms, other.children)

    def __hash__(self) -> int:
        return hash((self.terms, self.children))

    @property
    def nodes(self) -> int:
        """Leaves and inner nodes."""
        return self.terms + len(self.children)

    @cached_property
    def sizes(self) -> Ints:
        """Terms below each node, itself included: (nodes,)."""
        sizes = np.ones(self.nodes, dtype=np.int64)
        for node, children in enumerate(self.children, self.terms):
            sizes[node] = sizes[list(children)].sum()
        return sizes

    @cached_property
    def firsts(self) -> Ints:
        """The first term below each node: (nodes,)."""
        firsts = np.arange(self.nodes, dtype=np.int64)
        for node, children in enumerate(self.children, self.terms):
            firsts[node] = firsts[children[0]]
        return firsts

    @cached_property
    def begins(self) -> Ints:
        """Where each node's terms begin on a line on which every node's are neighbours: (nodes,)."""
        begins = np.zeros(self.nodes, dtype=np.int64)
        for node in range(self.nodes - 1, self.terms - 1, -1):
            at = begins[node]
            for child in self.children[node - self.terms]:
                begins[child] = at
                at += self.sizes[child]
        return begins

    @cached_property
    def parents(self) -> Ints:
        """Each node's parent, the root's being itself: (nodes,)."""
        parents = np.arange(self.nodes, dtype=np.int64)
        for node, children in enumerate(self.children, self.terms):
            parents[list(children)] = node
        return parents

    @cached_property
    def digest(self) -> str:
        """64 bits, in hexadecimal, that stand for the order."""
        return hashlib.sha256(f"{self.terms}".encode() + self.parents.tobytes()).hexdigest()[:16]

    @cached_property
    def _lifts(self) -> tuple[Ints, Ints]:
        """Depths, and each node's ancestors 1, 2, 4, … above it: (nodes,) and (steps, nodes)."""
        depths = np.zeros(self.nodes, dtype=np.int64)
        for node in range(self.nodes - 2, -1, -1):
            depths[node] = depths[self.parents[node]] + 1
        lifts = [self.parents]
        while (1 << len(lifts)) <= depths.max(initial=0):
            lifts.append(lifts[-1][lifts[-1]])
        return depths, np.stack(lifts)

    def meeting(self, first: Ints, second: Ints) -> Ints:
        """The node in which each pair of terms meets, their lowest common ancestor."""
        depths, lifts = self._lifts
        a, b = np.asarray(first).copy(), np.asarray(second).copy()
        for step in range(len(lifts) - 1, -1, -1):
            for low, high in ((a, b), (b, a)):
                deeper = depths[low] - (1 << step) >= depths[high]
                low[deeper] = lifts[step][low[deeper]]
        for step in range(len(lifts) - 1, -1, -1):
            apart = lifts[step][a] != lifts[step][b]
            a[apart], b[apart] = lifts[step][a[apart]], lifts[step][b[apart]]
        return np.where(a == b, a, self.parents[a])

    def below(self, values: Ints) -> Ints:
        """Sums of the terms' ``values`` (terms, …) below each node: (nodes, …)."""
        sums = np.zeros((self.nodes, *values.shape[1:]), dtype=np.int64)
        sums[: self.terms] = values
        for node, children in enumerate(self.children, self.terms):
            sums[node] = sums[list(children)].sum(0)
        return sums


def tree(terms: int, groups: Sequence[Sequence[int]]) -> Tree:
    """The tree of some inner nodes in any order in which children come before their parents.

    Args:
        terms: how many terms there are.
        groups: each inner node's children: terms, or ``terms + g`` for the g-th group.

    Raises:
        ValueError: the groups are no tree over all terms.
    """
    sizes, firsts = [1] * terms, list(range(terms))
    used = np.zeros(terms + len(groups), dtype=np.int64)
    for number, group in enumerate(groups, terms):
        if len(group) < 2 or max(group) >= number:
            raise ValueError(f"node {number} cannot have the children {list(group)[:8]}")
        np.add.at(used, list(group), 1)
        sizes.append(sum(sizes[child] for child in group))
        firsts.append(min(firsts[child] for child in group))
    if sizes[-1] != terms or (used[:-1] != 1).any() or used[-1] != 0:
        raise ValueError("the nodes are no tree over all terms")
    ranked = sorted(range(terms, len(sizes)), key=lambda node: (sizes[node], firsts[node]))
    number_of = {**{leaf: leaf for leaf in range(terms)}, **{old: new for new, old in enumerate(ranked, terms)}}
    children = (sorted(groups[old - terms], key=lambda child: firsts[child]) for old in ranked)
    return Tree(terms, tuple(tuple(number_of[child] for child in group) for group in children))


@dataclass(frozen=True)
class Mismatch:
    """A pair of terms that does not meet where the known tree has it.

    Attributes:
        first: a term.
        second: another.
        expected: terms below the node in which they meet, by the known tree.
        got: by the kernel; the same number where they are other terms.
    """

    first: int
    second: int
    expected: int
    got: int

    @property
    def words(self) -> str:
        """In a sentence."""
        met = f"terms {self.first} and {self.second} meet in a sum of "
        if self.got == self.expected:
            return f"{met}other terms, {self.got} as well"
        return f"{met}{self.got} terms instead of {self.expected}"
