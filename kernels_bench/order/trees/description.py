"""A summation tree in words: repeated structure is folded, so that a tree over thousands of terms is one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from kernels_bench.order.trees.tree import Tree

_MOST_RUNS = 4
"""Runs of equal steps that are told one by one."""

_FURTHER = " further "
"""Stands before what is counted and not told."""

IRREGULAR = "too irregular for a sentence: order outlines it, order --svg DIR draws it"
"""Ends the sentence of an order that it does not tell to its end."""


@dataclass(frozen=True)
class Step:
    """What joins a running sum at once.

    Attributes:
        items: nodes, ascending by first term.
        shape: equal for steps that look alike, wherever they stand.
    """

    items: tuple[int, ...]
    shape: tuple[tuple[int, int], ...]


class Folded:
    """A tree whose nodes have shapes: two nodes have one shape if they differ by the place of their first term alone.

    Attributes:
        tree: the tree.
        shapes: each node's shape.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        known: dict[tuple[tuple[int, int], ...], int] = {}
        self.shapes = [0] * tree.terms
        for children in tree.children:
            self.shapes.append(known.setdefault(self._look(children), len(known) + 1))

    def _look(self, nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        first = int(self.tree.firsts[nodes[0]])
        return tuple((self.shapes[node], int(self.tree.firsts[node]) - first) for node in nodes)

    def children(self, node: int) -> tuple[int, ...]:
        """A node's children; none of a term."""
        return self.tree.children[node - self.tree.terms] if node >= self.tree.terms else ()

    def size(self, node: int) -> int:
        """Terms below a node."""
        return int(self.tree.sizes[node])

    def step(self, *items: int) -> Step:
        """Some nodes as a step."""
        return Step(items, self._look(items))

    def steps(self, node: int) -> list[Step]:
        """The running sum that a node ends, step by step: down the larger child as long as there is one."""
        steps: list[Step] = []
        while True:
            *others, running = sorted(self.children(node), key=self.size)
            if self.size(running) == self.size(others[-1]):
                break
            steps.append(self.step(*sorted(others, key=lambda item: int(self.tree.firsts[item]))))
            node = running
        start = self.children(node)
        if len(start) != 2 or (steps and len(steps[-1].items) != 1):
            return [self.step(*start), *steps[::-1]]
        if steps and self.tree.firsts[steps[-1].items[0]] < self.tree.firsts[start[0]]:
            start = start[::-1]  # of two equal parts that is the first which the third's place makes regular
        return [*(self.step(item) for item in start), *steps[::-1]]

    def halves(self, node: int) -> tuple[int, int]:
        """How often a node falls into two parts of one shape, and the first of the smallest such parts."""
        times = 0
        while (kids := self.children(node)) and len(kids) == 2 and self.shapes[kids[0]] == self.shapes[kids[1]]:
            node, times = kids[0], times + 1
        return times, node


def sentence(tree: Tree) -> str:
    """The order in one sentence, such as ``256 groups of 16 terms, each at once, one after the other``."""
    if tree.terms == 1:
        return "one term"
    told = _sum(Folded(tree), tree.nodes - 1)
    return f"{told}; {IRREGULAR}" if _FURTHER in told else told


def _sum(folded: Folded, node: int) -> str:
    """How the terms below a node are added, in words."""
    times, part = folded.halves(node)
    if times and (times > 1 or folded.size(part) > 1):
        first, second = folded.tree.firsts[list(folded.children(node))]
        return f"{1 << times} " + _parts(folded, part, int(second - first), 1 << (times - 1), ", added pairwise")
    runs = [list(run) for _, run in groupby(folded.steps(node), key=lambda step: step.shape)]
    told = [_run(folded, run, first=number == 0) for number, run in enumerate(runs[:_MOST_RUNS])]
    if len(runs) > _MOST_RUNS:
        further = [step for run in runs[_MOST_RUNS:] for step in run]
        kinds = len({step.shape for step in further})
        told.append(f"{len(further)}{_FURTHER}additions of {kinds} different kind{'s' if kinds > 1 else ''}")
    return ", then ".join(told)


def _run(folded: Folded, run: Sequence[Step], first: bool) -> str:
    """Steps of one shape, one after the other; ``first`` if the sum begins with them."""
    items, count = run[0].items, len(run)
    starts = [int(folded.tree.firsts[step.items[0]]) for step in run]
    if all(not folded.children(item) for item in items):
        width = len(items)
        apart = 1 if width == 1 else items[1] - items[0]
        even = all(b - a == apart for a, b in pairwise(items))
        which = "" if apart == 1 else f", every {_ordinal(apart)}" if even else ", scattered"
        if width == 1:
            return f"{count} {_terms(count)} one after the other{_way(starts, 1, first)}" if count > 1 else "a term"
        if count == 1:
            return f"{width} terms{which} at once"
        return f"{count} groups of {width} terms{which}, each at once, one after the other{_way(starts, width)}"
    if count == 1:
        return _at_once(folded, items)
    size = folded.size(items[0])
    return f"{count} " + _parts(folded, items[0], size, 1, f", added one after the other{_way(starts, size)}")


def _at_once(folded: Folded, items: Sequence[int]) -> str:
    """One step of items of which some are sums."""
    if len(items) > 1 and len({folded.shapes[item] for item in items}) == 1:
        return f"{len(items)} parts at once, each {_sum(folded, items[0])}"
    parts = [_sum(folded, item) if folded.children(item) else "a term" for item in items[:_MOST_RUNS]]
    if len(items) > _MOST_RUNS:
        parts.append(f"{len(items) - _MOST_RUNS}{_FURTHER}parts")
    inner = "; ".join(parts)
    return f"({inner})" if len(items) == 1 else f"{len(items)} parts at once ({inner})"


def _parts(folded: Folded, part: int, apart: int, between: int, how: str) -> str:
    """What some parts of one shape are and how they are added; two of them ``between`` parts away are ``apart``."""
    size = folded.size(part)
    if size == 1:
        return f"terms{how}"
    where = "" if apart == size * between else ", interleaved"
    return f"parts of {size} terms{where}{how}: each {_sum(folded, part)}"


def _way(starts: Sequence[int], usual: int, ends_meet: bool = False) -> str:
    """The way in which steps go through the terms; nothing where they go from one to its neighbour.

    Args:
        starts: the steps' first terms.
        usual: how far apart neighbours are.
        ends_meet: whether they may go around: on to the first term from the last, as a ring of processes adds.
    """
    gaps = {b - a for a, b in pairwise(starts)}
    if gaps <= {usual}:
        return ""
    if gaps == {-usual}:
        return ", last first"
    if len(gaps) == 1:
        (gap,) = gaps
        return f", {abs(gap)} apart" + (", last first" if gap < 0 else "")
    return (_around(starts) if ends_meet else "") or ", in no regular order"


def _around(starts: Sequence[int]) -> str:
    """Where single terms, of which the first two may change places, follow one another around; else nothing."""
    lowest, count = min(starts), len(starts)
    for order in (starts, [starts[1], starts[0], *starts[2:]]):
        steps = {(b - a) % count for a, b in pairwise(order)}
        if sorted(order) == [*range(lowest, lowest + count)] and steps in ({1}, {count - 1}):
            return f"{'' if steps == {1} else ', last first'}, around from term {order[0]}"
    return ""


def _terms(count: int) -> str:
    return "term" if count == 1 else "terms"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 // 10 != 1 else 0, "th")
    return f"{number}{ending}"


def outline(tree: Tree, most: int = 24) -> Iterator[str]:
    """The tree as indented lines, for a terminal: steps of one shape are told once."""
    folded = Folded(tree)
    lines = _outlined(folded, tree.nodes - 1, 0) if tree.terms > 1 else iter(["term 0"])
    for number, line in enumerate(lines):
        if number == most:
            yield "…"
            return
        yield line


def _outlined(folded: Folded, node: int, depth: int) -> Iterator[str]:
    """A line for a node and for each run of equal steps, those inside the first one below it."""
    pad = "  " * depth
    yield f"{pad}sum of {folded.size(node)} terms from {folded.tree.firsts[node]}"
    for _, run in groupby(folded.steps(node), key=lambda step: step.shape):
        steps = list(run)
        inner = [item for item in steps[0].items if folded.children(item)]
        first, last = steps[0].items[0], steps[-1].items[0]
        span = f"{folded.tree.firsts[first]}" + (f" to {folded.tree.firsts[last]}" if len(steps) > 1 else "")
        yield f"{pad}├ {len(steps)} × + {len(steps[0].items)} at once, from {span}"
        if inner:
            yield from _outlined(folded, inner[0], depth + 1)
