"""Read out a summation tree by asking how many terms are lost where two huge ones cancel.

With every term the unit, a huge number at one place and its negative at another, all units that are added to either
before the two meet are lost, so that the result counts those outside the node in which they meet.  That is FPRev's
question (Xie et al., *FPRev: Revealing the Order of Floating-Point Summation*, USENIX ATC 2025, arXiv:2411.00442).
Here many questions are asked at once, since every column of a matrix is a sum of its own, and the place to split at is
drawn, so that no order takes more than about n log n questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels_bench.order.reconstruct.certificate import Left, confirm, meeting_sizes
from kernels_bench.order.trees.tree import Ints, Mismatch, Tree, tree


class Inconsistent(Exception):  # noqa: N818 - a finding about the kernel, not an error of ours
    """Answers that no summation tree gives; the message says what."""


class OutOfTime(Inconsistent):
    """No answer, since the time given to the questions is over."""

    def __init__(self) -> None:
        super().__init__("not reached in the time given to it")


class ColumnsDiffer(Inconsistent):
    """The same question has another answer in another column."""


class RowsDiffer(Inconsistent):
    """Rows of one launch that were given the same terms have different sums: their place decides on the order."""


@dataclass(eq=False)
class _Group:
    """Terms that meet another one in the same node, which has ``bound`` terms; they may hang below it in parts."""

    left: Ints
    bound: int
    spines: list[_Spine] = field(default_factory=list)


@dataclass(eq=False)
class _Spine:
    """The way from one term up, as the groups that join it, smallest node first."""

    pivot: int
    joins: list[_Group]


class _TreeInference:
    """Trees are read by splitting groups of terms at one of them, all groups side by side."""

    def __init__(self, terms: int, seed: int) -> None:
        self._rank = np.random.default_rng([seed, terms]).permutation(terms)
        self._rows: dict[int, tuple[Ints, Ints]] = {}
        self.answers: list[tuple[Ints, Ints, Ints]] = []
        self.root = _Group(self._ranked(np.arange(terms)), terms + 1)
        self._open = [self.root]

    def _ranked(self, leaves: Ints) -> Ints:
        """In the order in which they are split at."""
        return leaves[np.argsort(self._rank[leaves])]

    def questions(self, width: int) -> list[tuple[int, Ints]]:
        """Terms to compare with others, next; what is left of the last launch asks ahead."""
        asked = [(int(group.left[0]), group.left[1:]) for group in self._open]
        spare = -sum(len(others) for _, others in asked) % width
        for group in sorted(self._open, key=lambda group: len(group.left)):
            for place in range(1, len(group.left) - 1):
                others = group.left[place + 1 :]
                if len(others) > spare:
                    return asked
                spare -= len(others)
                asked.append((int(group.left[place]), others))
        return asked

    def learn(self, asked: Sequence[tuple[int, Ints]], first: Ints, second: Ints, sizes: Ints) -> None:
        """The answers to `questions`."""
        self.answers.append((first, second, sizes))
        ends = np.cumsum([len(others) for _, others in asked])
        for (pivot, others), part in zip(asked, np.split(sizes, ends[:-1]), strict=True):
            order = np.argsort(others)
            self._rows[pivot] = others[order], part[order]

    def split(self) -> bool:
        """Split every group as far as is known; whether there is more to ask."""
        waiting, self._open = self._open, []
        while waiting:
            group = waiting.pop()
            while len(group.left) and (len(group.left) == 1 or int(group.left[0]) in self._rows):
                waiting += self._split(group)
            if len(group.left):
                self._open.append(group)
        return bool(self._open)

    def _split(self, group: _Group) -> list[_Group]:
        """Take the part that the first term hangs in out of a group; returns the groups that join it on its way up."""
        pivot, others = int(group.left[0]), group.left[1:]
        sizes = self._known(pivot, others)
        if len(others) and int(sizes.max()) > group.bound:
            raise Inconsistent(f"term {pivot} meets some in a node of {sizes.max()}, within one of {group.bound} terms")
        inside = sizes < group.bound
        levels = np.unique(sizes[inside])
        held = 1 + np.searchsorted(np.sort(sizes[inside]), levels, side="right")
        wrong = np.flatnonzero(held != levels)
        if len(wrong):
            raise Inconsistent(f"a node that lost {levels[wrong[0]]} terms holds {held[wrong[0]]} of them")
        joins = [_Group(others[sizes == level], int(level)) for level in levels]
        group.spines.append(_Spine(pivot, joins))
        group.left = others[~inside]
        return joins

    def _known(self, pivot: int, others: Ints) -> Ints:
        if not len(others):
            return others
        leaves, sizes = self._rows[pivot]
        return sizes[np.searchsorted(leaves, others)]


def reveal(terms: int, left: Left, most: int, width: int, seed: int = 0) -> Tree:
    """The tree in which ``terms`` terms are added: no answer contradicts it, and its certificate holds.

    Args:
        terms: how many there are.
        left: answers questions.
        most: units that an answer tells exactly.
        width: pairs that a launch answers; nothing but the number asked at a time depends on it.
        seed: of the places to split at, on which the tree does not depend.

    Raises:
        Inconsistent: the answers are no tree's.
    """
    reading = _TreeInference(terms, seed)
    while reading.split():
        asked = reading.questions(width)
        first = np.concatenate([np.full(len(others), pivot) for pivot, others in asked])
        second = np.concatenate([others for _, others in asked])
        reading.learn(asked, first, second, meeting_sizes(first, second, terms, most, left))
    found = _assembled(terms, reading.root)
    wrong = next((mismatch for answers in reading.answers if (mismatch := _contradiction(found, *answers))), None)
    wrong = wrong or confirm(found, left, most)
    if wrong is not None:
        raise Inconsistent(f"{wrong.words}, which is what other terms say")
    return found


def _assembled(terms: int, root: _Group) -> Tree:
    """The tree that groups of terms make, once all of them are known."""
    groups: list[list[int]] = []

    def top(spine: _Spine) -> int:
        """The node that a spine ends in."""
        node = spine.pivot
        for join in spine.joins:
            groups.append([node, *[top(part) for part in join.spines]])
            node = terms + len(groups) - 1
        return node

    for spine in root.spines:
        top(spine)
    try:
        return tree(terms, groups)
    except ValueError:
        raise Inconsistent("nodes overlap, as no tree's do") from None


def _contradiction(known: Tree, first: Ints, second: Ints, got: Ints) -> Mismatch | None:
    """The first of some answers that a tree does not give."""
    expected = known.sizes[known.meeting(first, second)]
    wrong = np.flatnonzero(got != expected)
    if not len(wrong):
        return None
    place = int(wrong[0])
    return Mismatch(int(first[place]), int(second[place]), int(expected[place]), int(got[place]))
