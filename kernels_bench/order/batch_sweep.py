"""One case's orders over its numbers of rows: read once, proven at the others, checked by prediction."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch

from kernels_bench.order.probing.prepared_questions import FRESH
from kernels_bench.order.probing.prober import Prober
from kernels_bench.order.reconstruct.cancellation import Inconsistent, OutOfTime, RowsDiffer
from kernels_bench.order.trees.by_column import ColumnOrders, difference, uniform
from kernels_bench.order.trees.tree import Tree
from kernels_bench.records.cases import scale_of

FASTEST_LAUNCH_S = {"cuda": 8e-6, "cpu": 3e-5}
"""A launch takes longer everywhere, replayed from a graph too: what cannot be done in time is not begun."""

_HOPE = 0.5
"""Of the time that a certificate seems to need, what must be there for it to be begun."""

_NEAR = 0.2
"""Of the time that there is, what the fastest launches take where it is worth while to time one of the kernel's."""

NOT_ASKED = "not asked, since other M add in two orders already"


@dataclass(frozen=True)
class Task:
    """What is to be read of a case.

    Attributes:
        sizes: every M.
        seed: of questions and checks.
        budget_s: seconds after which no further question is asked.
        guesses: trees that may well be this kernel's; they spare the reading, and prove nothing.
        every: whether the orders at all M are wanted, or no more once two differ.
    """

    sizes: Sequence[int]
    seed: int = 0
    budget_s: float = math.inf
    guesses: Sequence[Tree] = ()
    every: bool = True


@dataclass(frozen=True, eq=False)
class OrderSweep:
    """What is known of a kernel's orders.

    Attributes:
        layouts: every column's order at each number of rows that could be read, in the order of reading.
        mismatch: the first number of rows at which the order is another than the first tree, and where.
        uneven: numbers of rows at which rows of one launch add in different orders, and which.
        refused: other numbers of rows at which nothing can be claimed, and why.
        launches: how many there were.
    """

    layouts: dict[int, ColumnOrders] = field(default_factory=dict)
    mismatch: tuple[int, str] | None = None
    uneven: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    launches: int = 0

    @property
    def distinct(self) -> list[ColumnOrders]:
        """All that were found, in the order of reading."""
        return list({layout.digest: layout for layout in self.layouts.values()}.values())

    @property
    def trees(self) -> dict[int, Tree]:
        """The tree at each number of rows at which all columns have the same."""
        return {m: layout.parts[0].tree for m, layout in self.layouts.items() if len(layout.parts) == 1}


def read_orders(asker_of: Callable[[int], Prober], task: Task) -> OrderSweep:
    """The order at every number of rows, as far as time allows.

    A certificate proves at which of them it is one of the guesses.  Of those that are left it is read out where a
    launch answers most, and proven likewise to be the same at the others; where it is not, that order is read out too.

    Args:
        asker_of: makes what asks at a number of rows.
        task: at which, and how.

    Raises:
        Unsupported: see `Prober`.
    """
    deadline = time.monotonic() + task.budget_s
    askers = {m: asker_of(m) for m in task.sizes}
    fewest = sum(asker.fewest_launches for asker in askers.values())
    if any(fewest * seconds > task.budget_s for seconds in _launch_s(askers[min(askers)], fewest, task)):
        why = f"it takes {fewest} launches at least, which `order` has time for"
        return OrderSweep(refused=dict.fromkeys(task.sizes, why))
    widest = sorted(askers, key=lambda m: (-askers[m].width, m))
    with ExitStack() as stack:
        for asker in askers.values():
            stack.enter_context(asker.until(deadline))
        reader = _Reader({m: askers[m] for m in widest}, task, deadline)
        reader.read()
        found = reader.reading()
    return replace(found, launches=sum(asker.launches for asker in askers.values()))


def _launch_s(smallest: Prober, fewest: int, task: Task) -> Iterator[float]:
    """Seconds of a launch, at least; then, where that nearly excludes it, as one takes at the fewest rows.

    On a CPU launches differ most, and one of them is always timed; on a GPU many, of kernels whose rows are sums, as
    of whole vocabularies: they are replayed from a graph, and nobody knows beforehand how long a kernel itself takes.
    """
    fastest = FASTEST_LAUNCH_S[scale_of(smallest.device.type)]
    yield fastest
    if not math.isfinite(task.budget_s):
        return
    if smallest.device.type == "cpu":
        yield smallest.launch_s()
    elif smallest.operator.sums_are_rows and fewest * fastest > _NEAR * task.budget_s:
        yield _HOPE * smallest.launch_s()


class _Reader:
    """Finds each order at one M, and every M that has it.

    Args:
        askers: by M; orders are read at the first that has none yet.
        task: what is wanted.
        deadline: when its time is over, as `time.monotonic` counts.
    """

    def __init__(self, askers: Mapping[int, Prober], task: Task, deadline: float) -> None:
        self._askers, self._task, self._seed, self._deadline = askers, task, task.seed, deadline
        self._open = dict(askers)
        self._layouts: dict[int, ColumnOrders] = {}
        self._denied: dict[int, set[str]] = {m: set() for m in askers}
        self._uneven: dict[int, str] = {}
        self._refused: dict[int, str] = {}

    def read(self) -> None:
        """Until every M that is wanted has an order, or a reason why not."""
        for tree in self._task.guesses:
            if self._wanted():
                self._give(uniform(tree, next(iter(self._open.values())).sums))
        while self._wanted():
            m, asker = next(iter(self._open.items()))
            with self._refusing(m):
                found = asker.read(self._seed)
                self._settle(m, found)
                self._give(found)
                self._look_again_for(found)
        self._refused |= dict.fromkeys(self._open, NOT_ASKED)

    def _wanted(self) -> bool:
        """Whether there is anything left to find out."""
        several = len({layout.digest for layout in self._layouts.values()}) > 1
        return bool(self._open) and (self._task.every or not several)

    def _settle(self, m: int, found: ColumnOrders) -> None:
        """An M's order is known.

        Raises:
            Inconsistent: but questions whose answers it foretells were answered otherwise before.
        """
        if found.digest in self._denied[m]:
            raise Inconsistent("it adds in this order in some launches or columns, and in others not")
        self._layouts[m] = found
        del self._open[m]

    def _give(self, layout: ColumnOrders) -> None:
        """An order to every M that is proven to have it."""
        of_several = len(layout.parts) > 1
        for m in self._proven_one_by_one(layout) if of_several else self._proven_together(layout):
            self._layouts[m] = layout
            del self._open[m]

    def _look_again_for(self, layout: ColumnOrders) -> None:
        """An order in several parts to every M that seemed to have that of one part in all columns, and has it.

        Where few columns have an order of their own, questions may have met none of them.
        """
        alike = {part.tree for part in layout.parts}
        for m, known in list(self._layouts.items()) if len(layout.parts) > 1 else ():
            if len(known.parts) == 1 and known.parts[0].tree in alike and layout.count <= self._askers[m].sums:
                with self._refusing(m):
                    if self._askers[m].has(layout, self._seed):
                        self._layouts[m] = layout

    def _proven_together(self, layout: ColumnOrders) -> list[int]:
        """Every open M at which this order holds, all of them asked the same questions at once."""
        if not self._open:
            return []
        left = dict(self._open)
        try:
            for number, posed in enumerate(next(iter(left.values())).posed(layout, self._seed)):
                began = time.monotonic()
                agree = torch.stack([asker.gives(posed) for asker in left.values()]).tolist()
                for m in [m for m, agrees in zip(left, agree, strict=True) if not agrees]:
                    self._denied[m].add(layout.digest)
                    del left[m]
                if not left:
                    break
                if number == FRESH - 1:
                    self._see_whether_time_suffices(left.values(), layout, len(posed), time.monotonic() - began)
        except Inconsistent as reason:  # time is over, or will be
            self._refused |= dict.fromkeys(self._open, str(reason))
            self._open = {}
            return []
        return list(left)

    def _see_whether_time_suffices(
        self, askers: Collection[Prober], layout: ColumnOrders, questions: int, seconds: float
    ) -> None:
        """What cannot be done in time is not begun: fresh questions tell how long a certificate's will take.

        Raises:
            Inconsistent: time will be over.
        """
        ahead = next(iter(askers)).certified_by(layout)
        effort, known = (sum(asker.effort(count) for asker in askers) for count in (ahead, questions))
        if time.monotonic() + _HOPE * seconds * effort / max(1.0, known) > self._deadline:
            raise OutOfTime

    def _proven_one_by_one(self, layout: ColumnOrders) -> list[int]:
        proven = []
        for m, asker in list(self._open.items()):
            with self._refusing(m):
                # Where every row is a sum, fewer rows lack some of the columns, and have orders of their own.
                if layout.count <= asker.sums and asker.has(layout, self._seed):
                    proven.append(m)
        return proven

    @contextmanager
    def _refusing(self, m: int) -> Iterator[None]:
        """What contradicts itself at an M is that M's reason why nothing is claimed there."""
        try:
            yield
        except Inconsistent as reason:
            (self._uneven if isinstance(reason, RowsDiffer) else self._refused)[m] = str(reason)
            self._open.pop(m, None)

    def reading(self) -> OrderSweep:
        """All that was found, and where the first order that differs from the first M's differs."""
        layouts = {m: self._layouts[m] for m in self._askers if m in self._layouts}
        first = next(iter(layouts.values()), None)
        other = next((m for m, one in layouts.items() if first is not None and one.digest != first.digest), None)
        mismatch = (other, difference(first, layouts[other])) if first is not None and other is not None else None
        return OrderSweep(layouts, mismatch, self._uneven, self._refused)
