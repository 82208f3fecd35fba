"""Read out a summation tree whose terms are all positive, as squares and exponentials are, where nothing can cancel.

One term is 1, two others are three quarters of half a unit in its last place, and the rest are zero.  Added to the 1
one by one, both are lost; added to each other first, they are rounded up to a unit.  So a launch tells whether two
terms meet before either meets a third, and such triples make a binary tree (Aho, Sagiv, Szymanski & Ullman, *Inferring
a Tree from Lowest Common Ancestors*, SIAM J. Comput. 1981).  Several terms added at once cannot be told that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels_bench.order.reconstruct.cancellation import Inconsistent
from kernels_bench.order.trees.tree import Ints, Tree, tree

AskTriples = Callable[[Ints, Ints, Ints], NDArray[np.bool_]]
"""Given three terms each as arrays: whether the second and the third meet before either meets the first."""


@dataclass(eq=False)
class _Subtree:
    """Terms that are a subtree: one of them, and the subtrees that join it on its way up."""

    pivot: int
    joins: list[_Subtree] = field(default_factory=list)


@dataclass(eq=False)
class _Way:
    """Terms that join the way up from one, which are to be put in order: between two places of ``joins``."""

    subtree: _Subtree
    left: Ints


class _Sorting:
    """Subtrees are sorted along each way as quicksort does, all ways side by side."""

    def __init__(self, terms: int, seed: int) -> None:
        self._draw = np.random.default_rng([seed, terms])
        leaves = self._draw.permutation(terms)
        self.root = _Subtree(int(leaves[0]))
        self._slots: dict[int, list[_Way | _Subtree]] = {}
        self.open: list[_Way] = []
        self._begin(self.root, leaves[1:])

    def _begin(self, subtree: _Subtree, others: Ints) -> None:
        """Terms whose places on a subtree's way are not known yet."""
        slots: list[_Way | _Subtree] = []
        self._slots[id(subtree)] = slots
        if len(others):
            way = _Way(subtree, others)
            slots.append(way)
            self.open.append(way)

    def questions(self) -> tuple[Ints, Ints, Ints]:
        """For each open way its first term to be placed, against each other one: twice, asked both ways round."""
        parts = []
        for way in self.open:
            chosen, others = way.left[0], way.left[1:]
            start = np.full(len(others), way.subtree.pivot)
            parts += [(start, np.full(len(others), chosen), others), (np.full(len(others), chosen), start, others)]
        first, second, third = (np.concatenate(part) for part in zip(*parts, strict=True))
        return first, second, third

    def learn(self, answers: NDArray[np.bool_]) -> None:
        """Answers to `questions`.

        Raises:
            Inconsistent: no order of additions of two has such answers.
        """
        ways, self.open = self.open, []
        at = 0
        for way in ways:
            others = way.left[1:]
            count = len(others)
            together, below = answers[at : at + count], answers[at + count : at + 2 * count]
            at += 2 * count
            if (together & below).any():
                raise Inconsistent("more than two terms are added at once, which positive terms cannot tell apart")
            self._place(way, others[below & ~together], others[together], others[~(below | together)])

    def _place(self, way: _Way, below: Ints, together: Ints, above: Ints) -> None:
        """Put the chosen term's subtree on the way, and what joins before and after it on either side."""
        subtree = _Subtree(int(way.left[0]))
        slots = self._slots[id(way.subtree)]
        place = slots.index(way)
        parts: list[_Way | _Subtree] = [_Way(way.subtree, below)] if len(below) else []
        parts += [subtree, *([_Way(way.subtree, above)] if len(above) else [])]
        slots[place : place + 1] = parts
        self.open += [part for part in parts if isinstance(part, _Way)]
        self._begin(subtree, together)

    def groups(self, terms: int) -> list[list[int]]:
        """The inner nodes, once everything is placed."""
        groups: list[list[int]] = []

        def top(subtree: _Subtree) -> int:
            """The node that a subtree ends in."""
            node = subtree.pivot
            for joined in self._slots[id(subtree)]:
                assert isinstance(joined, _Subtree)
                groups.append([node, top(joined)])
                node = terms + len(groups) - 1
            return node

        top(self.root)
        return groups


def reveal_triples(terms: int, ask: AskTriples, seed: int = 0) -> Tree:
    """The tree in which ``terms`` positive terms are added, two at a time; its certificate holds.

    Raises:
        Inconsistent: the answers are no binary tree's.
    """
    sorting = _Sorting(terms, seed)
    while sorting.open:
        if all(len(way.left) == 1 for way in sorting.open):
            sorting.learn(np.zeros(0, dtype=np.bool_))
        else:
            sorting.learn(ask(*sorting.questions()))
    found = tree(terms, sorting.groups(terms))
    wrong = confirm_triples(found, ask)
    if wrong is not None:
        raise Inconsistent(f"terms {wrong[1]} and {wrong[2]} do not meet before term {wrong[0]}, as others say they do")
    return found


def triples_certificate(known: Tree) -> tuple[Ints, Ints, Ints]:
    """Triples that no other tree has all of: for each sum but the last a term of its sibling, and one of each child.

    Within the terms below a node every sum below a child of it links that child's terms by its triple, and none links
    the two children, so that Aho's algorithm parts the terms as the tree does, all the way down; and where it parts
    them in two, no tree that has the triples parts them otherwise.

    Raises:
        ValueError: more than two are added at once somewhere.
    """
    pairs = [children for children in known.children if len(children) == 2]
    if len(pairs) != len(known.children):
        raise ValueError("only a tree of additions of two has a certificate of triples")
    nodes = np.arange(known.terms, known.nodes - 1)
    if not len(nodes):
        return nodes, nodes, nodes
    children = np.array(known.children)
    parents = children[known.parents[nodes] - known.terms]
    siblings = np.where(parents[:, 0] == nodes, parents[:, 1], parents[:, 0])
    own = children[nodes - known.terms]
    return known.firsts[siblings], known.firsts[own[:, 0]], known.firsts[own[:, 1]]


def confirm_triples(known: Tree, ask: AskTriples) -> tuple[int, int, int] | None:
    """Whether the order is the known tree; None if it is, else a triple that is not there."""
    first, second, third = triples_certificate(known)
    if not len(first):
        return None
    wrong = np.flatnonzero(~ask(first, second, third))
    return None if not len(wrong) else (int(first[wrong[0]]), int(second[wrong[0]]), int(third[wrong[0]]))


def meets_first(known: Tree, first: Ints, second: Ints, third: Ints) -> NDArray[np.bool_]:
    """What a tree answers: whether the second and the third meet below where either meets the first."""
    inner = known.sizes[known.meeting(second, third)]
    return np.asarray(inner < known.sizes[known.meeting(first, second)])
