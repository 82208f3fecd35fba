"""Launches of a kernel that answer questions about its order of addition."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.cases import Precision, Shape
from kernels_bench.operators import Operator, RowTensors
from kernels_bench.order.reveal import Inconsistent, RowsDiffer
from kernels_bench.order.tree import Ints

Launch = Callable[[RowTensors, tuple[torch.Tensor, ...]], RowTensors]
"""Rows and weights to a kernel's results, see `Operator.by_row`."""


OUT_OF_TIME = "not reached in the time given to it"


@dataclass(frozen=True)
class Scale:
    """Numbers that one dtype's sums can be probed with.

    Attributes:
        unit: an ordinary term.
        huge: a term beside which any number of units is lost.
        most_terms: how many that may be.
    """

    unit: float
    huge: float
    most_terms: int


# Huge terms are far enough from the units for sums in float64 too, where the dtype's exponents allow it.  fp16 has 40
# binades: units are its smallest number, and in fp32 half a unit in the last place of 2^15 is 2^-9, or 2^15 of them.
SCALES = {
    "bf16": Scale(1.0, 2.0**100, 1 << 24),
    "fp32": Scale(1.0, 2.0**100, 1 << 24),
    "fp16": Scale(2.0**-24, 2.0**15, 1 << 15),
}

COUNTED = {"fp32": 1 << 24, "fp16": 1 << 10, "bf16": 1 << 8}
"""Units that a result of each dtype counts exactly."""


class Prober:
    """Asks one kernel at one number of rows.

    Args:
        operator: the kernel's.
        shape: K terms are added.
        precision: of inputs and result.
        launch: calls the kernel.
        m: rows.
        device: where.
        seed: of which question is asked in which column.

    Attributes:
        terms: K.
        counted: units that a result tells exactly.
        columns: sums in which questions are asked.
        launches: how many there were.
        output: dtype of the result.

    Raises:
        Unsupported: the order cannot be read off this operator's results, or K exceeds what its dtype can tell.
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
        self.m, self.terms, self.output, self.launches = m, shape.k, precision.output, 0
        self._operator, self._shape, self._precision = operator, shape, precision
        self._launch, self._device = launch, device
        self._scale = SCALES[precision.input]
        self._sums = operator.sums_of(shape, m)
        if self._sums == 0:
            raise Unsupported(f"the order of {operator.name} cannot be read off its result")
        if self.terms > self._scale.most_terms:
            raise Unsupported(f"{precision.input} has no numbers to probe {self.terms} terms with")
        self._deadline = math.inf
        self._draw = np.random.default_rng([seed, m])
        # A quotient is off by a unit in its last place at most, which must stay well below half a unit of ours.
        self.counted = COUNTED[self.output] // (1 if operator.sums_are_exact else 8)
        self._parts = np.array_split(np.arange(self.terms), math.ceil(self.terms / self.counted))
        self.columns = np.arange(self._sums)

    @property
    def width(self) -> int:
        """Questions that a launch answers, about."""
        return max(1, len(self.columns) // len(self._parts))

    @contextmanager
    def within(self, columns: Ints) -> Iterator[None]:
        """Ask in some columns only."""
        before, self.columns = self.columns, columns
        try:
            yield
        finally:
            self.columns = before

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Refuse questions from a point of `time.monotonic` on."""
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = math.inf

    def ask(self, first: Ints, second: Ints) -> Ints:
        """See `kernels_bench.order.reveal.Ask`."""
        left = np.zeros(len(first), dtype=np.int64)
        for part in self._parts:
            present = np.zeros(self.terms, dtype=np.int8)
            present[part] = 1
            left += self.totals(first, second, np.broadcast_to(present, (len(first), self.terms)))
        return self.terms - left

    def totals(self, first: Ints, second: Ints, units: np.ndarray[tuple[int, int], np.dtype[np.int8]]) -> Ints:
        """What is left of the units where two terms are huge and cancel.

        Args:
            first: of each question, the term that is huge.
            second: the one that is minus huge; where both are the same there is none.
            units: how many units the other terms are, -1, 0 or 1: (questions, K).

        Raises:
            RowsDiffer: rows of one launch give different results.
        Inconsistent: a result is no number of units, or time is over.
        """
        found = np.empty(len(first), dtype=np.int64)
        for begin in range(0, len(first), len(self.columns)):
            chosen = slice(begin, begin + len(self.columns))
            # Columns are drawn, so that none is asked the same in every launch: their orders could differ.
            columns = self._draw.permutation(self.columns)[: len(first[chosen])]
            found[chosen] = self._totals(columns, first[chosen], second[chosen], units[chosen])
        return found

    def each(self, first: Ints, second: Ints) -> Ints:
        """`ask`, one question in each of the columns in their order."""
        left = np.zeros(len(self.columns), dtype=np.int64)
        for part in self._parts:
            present = np.zeros(self.terms, dtype=np.int8)
            present[part] = 1
            units = np.broadcast_to(present, (len(first), self.terms))
            left += self._totals(self.columns, first, second, units)
        return self.terms - left

    def _totals(
        self, columns: Ints, first: Ints, second: Ints, units: np.ndarray[tuple[int, int], np.dtype[np.int8]]
    ) -> Ints:
        if time.monotonic() > self._deadline:
            raise Inconsistent(OUT_OF_TIME)
        place = torch.as_tensor(columns, device=self._device)
        dtype = self._precision.torch_input
        terms = torch.zeros(self._sums, self.terms, dtype=dtype, device=self._device)
        if len(first) and units.strides[0] == 0:  # the same for all questions
            terms[place] = torch.as_tensor(units[0].copy(), device=self._device).to(dtype) * self._scale.unit
        else:
            terms[place] = (
                torch.as_tensor(np.ascontiguousarray(units), device=self._device).to(dtype) * self._scale.unit
            )
        apart = first != second
        there = place[torch.as_tensor(apart, device=self._device)]
        terms[there, torch.as_tensor(first[apart], device=self._device)] = self._scale.huge
        terms[there, torch.as_tensor(second[apart], device=self._device)] = -self._scale.huge
        rows, weights = self._operator.adding(terms, self._shape, self.m)
        outputs = self._launch(rows, weights)
        self.launches += 1
        return self._read(self._operator.added(outputs, self._shape, self.m), place)

    def _read(self, sums: torch.Tensor, place: torch.Tensor) -> Ints:
        """Sums (rows, columns) as numbers of units, all rows' being the same."""
        asked = sums.index_select(1, place)
        differs = (asked != asked[0]).any(1)
        if bool(differs.any()):
            row = int(differs.nonzero()[0])
            raise RowsDiffer(f"row {row} adds in another order than row 0 of the same launch")
        units = asked[0] / self._scale.unit
        # A mean was divided by K and rounded once, which no count below the limit survives as another one.
        whole = units.round()
        if not bool(((units - whole).abs() <= 0.25).all()):
            wrong = int(((units - whole).abs() <= 0.25).logical_not().nonzero()[0])
            raise Inconsistent(f"a sum of units is {float(units[wrong]):.6g}: huge terms do not swamp or do not cancel")
        return whole.long().cpu().numpy()
