"""Launches that count the terms that are lost where two huge ones cancel, see `kernels_bench.order.reveal`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.cases import Precision, Shape
from kernels_bench.operators import Operator
from kernels_bench.order.checks import check
from kernels_bench.order.columns import confirm_layout, read_layout
from kernels_bench.order.layout import Layout
from kernels_bench.order.probe import Asker, Launch
from kernels_bench.order.reveal import Inconsistent, RowsDiffer
from kernels_bench.order.tree import Ints


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


class Prober(Asker):
    """Asks one kernel at one number of rows, each of whose columns is a sum of terms of either sign.

    Attributes:
        counted: units that a result tells exactly.
        columns: sums in which questions are asked.

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
        super().__init__(operator, shape, precision, launch, m=m, device=device, seed=seed)
        self._scale = SCALES[precision.input]
        # A quotient is off by a unit in its last place at most, which must stay well below half a unit of ours.
        self.counted = COUNTED[self.output] // (1 if operator.sums_are_exact else 8)
        self._parts = np.array_split(np.arange(self.terms), math.ceil(self.terms / self.counted))
        self.columns = np.arange(self.sums)

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
            columns = self.draw.permutation(self.columns)[: len(first[chosen])]
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
        place = torch.as_tensor(columns, device=self.device)
        terms = torch.zeros(self.sums, self.terms, dtype=self.dtype, device=self.device)
        alike = len(first) > 0 and units.strides[0] == 0  # the same for all questions
        shown = units[0].copy() if alike else np.ascontiguousarray(units)
        terms[place] = torch.as_tensor(shown, device=self.device).to(self.dtype) * self._scale.unit
        apart = first != second
        there = place[torch.as_tensor(apart, device=self.device)]
        terms[there, torch.as_tensor(first[apart], device=self.device)] = self._scale.huge
        terms[there, torch.as_tensor(second[apart], device=self.device)] = -self._scale.huge
        return self._units(self.launched(terms), place)

    def _units(self, sums: torch.Tensor, place: torch.Tensor) -> Ints:
        """Sums (rows, columns) as numbers of units, all rows' being the same."""
        if not bool(sums.isfinite().all()):
            raise Inconsistent("a sum is not finite: huge terms are too large for what it is kept in")
        differs = (sums != sums[0]).any(1)
        if bool(differs.any()):
            row = int(differs.nonzero()[0])
            raise RowsDiffer(f"row {row} adds in another order than row 0 of the same launch")
        units = sums[0].index_select(0, place).double() / self._scale.unit
        # A mean was divided by K and rounded once, which no count below the limit survives as another one.
        whole = units.round()
        wrong = ((units - whole).abs() > 0.25).nonzero()
        if len(wrong):
            raise Inconsistent(f"a sum of units is {float(units[wrong[0]]):.6g}: it is rounded in between")
        return whole.long().cpu().numpy()

    def read(self, seed: int) -> Layout:
        """See `read_layout`."""
        return read_layout(self, seed)

    def confirm(self, known: Layout) -> str | None:
        """See `confirm_layout`."""
        wrong = confirm_layout(known, self)
        if wrong is None:
            return None
        return f"terms {wrong.first} and {wrong.second} meet in a sum of {wrong.got} terms instead of {wrong.expected}"

    def check(self, layout: Layout, seed: int) -> None:
        """See `check`, for each part of the columns."""
        for part in layout.parts:
            with self.within(part.columns if len(layout.parts) > 1 else self.columns):
                check(self, part.tree, seed)

    def _check_dtype(self) -> None:
        if self.terms > SCALES[self._precision.input].most_terms:
            raise Unsupported(f"{self._precision.input} has no numbers to probe {self.terms} terms with")
