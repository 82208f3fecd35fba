"""What asks a kernel about its order of addition, whatever the question is."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.operators import Operator, RowTensors
from kernels_bench.order.probing.launches import EAGER, REPLAYED_FASTER, launched_in_turn
from kernels_bench.order.probing.prepared_questions import PreparedQuestions
from kernels_bench.order.reconstruct.cancellation import OutOfTime
from kernels_bench.order.reconstruct.certificate import Left
from kernels_bench.order.trees.by_column import ColumnOrders
from kernels_bench.order.trees.tree import Ints
from kernels_bench.records.cases import Precision, Shape

Launch = Callable[[RowTensors, tuple[torch.Tensor, ...]], RowTensors]
"""Rows and weights to a kernel's results, see `Operator.by_row`."""

MOST_COLUMNS = 1 << 13
"""Columns that are asked in one launch; of a model's vocabulary each launch draws so many."""


Units = np.ndarray[tuple[int, int], np.dtype[np.int8]]
T = TypeVar("T")


_TIMED = 8
"""Launches that are timed together on a CPU."""


def _timed(launch: Callable[[], torch.Tensor]) -> float:
    """Seconds of what is done the second time: the first time something may be compiled."""
    for _ in ("first", "second"):
        start = time.perf_counter()
        launch().sum().item()
    return time.perf_counter() - start


class CancellationQuestions(Protocol):
    """What is asked of a kernel of which two huge terms cancel each other; `cancellation_prober` asks it.

    Attributes:
        terms: how many a sum has, K.
        columns: sums in which questions are asked.
        counted: units that a result tells exactly.
        left: how many units are left, in columns that are drawn.
    """

    terms: int
    columns: Ints
    counted: int

    @property
    def width(self) -> int:
        """Pairs whose meeting a launch tells, about."""

    @property
    def left(self) -> Left:
        """See `kernels_bench.order.reconstruct.certificate`."""

    def within(self, columns: Ints) -> AbstractContextManager[None]:
        """Ask in some columns only."""

    def totals(self, first: Ints, second: Ints, units: Units) -> Ints:
        """What is left of some units, of which two terms are huge."""

    def twice(self, ask: Callable[[], T]) -> tuple[T, T]:
        """See `Prober.twice`."""

    def each(self, first: Ints, second: Ints) -> Ints:
        """Sizes of the nodes in which pairs of terms meet, one pair in each of the columns."""


class Prober(ABC):
    """Asks one kernel at one number of rows.

    Args:
        operator: the kernel's.
        shape: its sizes.
        precision: of inputs and result.
        launch: calls the kernel.
        m: rows.
        device: where.
        seed: of which question is asked in which column.

    Attributes:
        operator: the kernel's.
        m: rows.
        terms: how many a sum has, K.
        sums: how many a launch has.
        input: dtype of the inputs, by its short name.
        output: likewise of the result.
        dtype: of the inputs, as torch has it.
        device: where.
        draw: chooses columns.
        launches: how many there were.

    Raises:
        Unsupported: the order cannot be read off this operator's results.
    """

    def __init__(
        self,
        operator: Operator,
        shape: Shape,
        precision: Precision,
        launch: Launch,
        *,
        m: int,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.operator, self.m, self.terms, self.device = operator, m, operator.probe_terms(shape), device
        self.input, self.output, self.dtype = precision.input, precision.output, precision.torch_input
        self.launches = 0
        self.sums = operator.probe_sum_count(shape, m)
        self.draw = np.random.default_rng([seed, m])
        self._shape, self._launch = shape, launch
        self._deadline = math.inf
        if self.sums == 0:
            raise Unsupported(f"the order of {operator.name} cannot be read off its result")
        self.prepare()

    @property
    def width(self) -> int:
        """Questions that a launch answers, about."""
        return self.sums

    @property
    def fewest_launches(self) -> int:
        """What a proof takes at least: as many questions as a tree of additions of two has nodes."""
        return self._launches_for(max(0, self.terms - 1))

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Refuse questions from a point of `time.monotonic` on."""
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = math.inf

    def launched(self, terms: torch.Tensor) -> torch.Tensor:
        """Sums of some terms (sums, K), as `Operator.added` gives them.

        Raises:
            OutOfTime: time is over.
        """
        self._see_time()
        rows, weights = self.operator.probe_inputs(terms.to(self.dtype), self._shape, self.m)
        outputs = self._launch(rows, weights)
        self.launches += 1
        return self.operator.probe_sums(outputs, self._shape, self.m)

    def twice(self, ask: Callable[[], T]) -> tuple[T, T]:
        """The answers to what is asked twice by equal launches: each question in the same column or row both times.

        Asked elsewhere it may have another answer, since columns may add in orders of their own.
        """
        placed = self.draw.bit_generator.state
        once = ask()
        self.draw.bit_generator.state = placed
        return once, ask()

    def _see_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTime

    def gives(self, posed: PreparedQuestions) -> torch.Tensor:
        """Whether every row answers as is foretold, in columns drawn anew: one boolean, on the device.

        Raises:
            OutOfTime: time is over.
        """
        if not len(posed):
            return torch.ones((), dtype=torch.bool, device=self.device)
        if self.operator.sums_are_rows:
            chosen = posed.drawn(self.sums, self.draw).flatten()
            return posed.agrees(self._launched_by_row(posed.terms[chosen]), chosen)
        width = min(self.sums, MOST_COLUMNS)
        agree = []
        for chosen in posed.drawn(width, self.draw):
            at = int(self.draw.integers(self.sums - width + 1))
            terms = posed.terms[chosen]
            if width < self.sums:
                terms = torch.nn.functional.pad(terms, (0, 0, at, self.sums - width - at))
            agree.append(posed.agrees(self.launched(terms)[:, at : at + width], chosen))
        return torch.stack(agree).all()

    def _launched_by_row(self, terms: torch.Tensor) -> torch.Tensor:
        """Sums of terms (launches * M, K), M of them a launch: inputs are made, and results read, for all at once."""
        rows, weights = self.operator.probe_inputs(terms.to(self.dtype), self._shape, len(terms))
        outputs = launched_in_turn(lambda given: self._launch(given, weights), rows, self.m, self._see_time)
        self.launches += len(terms) // self.m
        return self.operator.probe_sums(outputs, self._shape, len(terms))

    def launch_s(self) -> float:
        """Seconds that a launch takes here, with what it is made of; waits for it."""
        if not self.operator.sums_are_rows:
            return _timed(lambda: self.launched(torch.ones(self.sums, self.terms, device=self.device)))
        count = _TIMED if self.device.type == "cpu" else 2 * EAGER  # so many are replayed, if they can be
        several = torch.ones(count * self.m, self.terms, device=self.device)
        return _timed(lambda: self._launched_by_row(several)) / count

    def effort(self, questions: int) -> float:
        """Launches that so many posed questions take, each as long as one by itself, about."""
        launches = self._launches_for(questions)
        replayed = self.device.type != "cpu" and self.operator.sums_are_rows and launches > EAGER
        return launches / REPLAYED_FASTER if replayed else launches

    def _launches_for(self, questions: int) -> int:
        return -(-questions // min(self.sums, MOST_COLUMNS))

    @abstractmethod
    def posed(self, known: ColumnOrders, seed: int) -> Iterator[PreparedQuestions]:
        """Questions that one order alone answers as foretold: `FRESH` random pieces, and then its certificate.

        Raises:
            ValueError: columns add in several orders, or the order is none that these questions tell.
        """

    @abstractmethod
    def certified_by(self, known: ColumnOrders) -> int:
        """How many questions its certificate has.

        Raises:
            ValueError: see `posed`.
        """

    def read(self, seed: int) -> ColumnOrders:
        """Every column's order, which fresh random probes are foretold by.

        Raises:
            Inconsistent: the answers are no tree's, a prediction fails, or the kernel is not repeatable.
        """
        found = self.revealed(seed)
        self.check(found, seed)
        return found

    def has(self, known: ColumnOrders, seed: int) -> bool:
        """Whether the order is a known one, which a certificate proves.

        Raises:
            Inconsistent: a prediction fails, or the kernel is not repeatable.
        """
        if not self.confirmed(known):
            return False
        self.check(known, seed)
        return True

    @abstractmethod
    def revealed(self, seed: int) -> ColumnOrders:
        """Every column's order, read out.

        Raises:
            Inconsistent: the answers are no tree's.
        """

    @abstractmethod
    def confirmed(self, known: ColumnOrders) -> bool:
        """Whether the order is a known one, by its certificate."""

    @abstractmethod
    def check(self, layout: ColumnOrders, seed: int) -> None:
        """Predict what fresh random probes give.

        Raises:
            Inconsistent: a prediction fails, or the kernel is not repeatable.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Make ready to ask; called once.

        Raises:
            Unsupported: these dtypes do not tell.
        """
