"""Launches that count the terms that are lost where two huge ones cancel, see `kernels_bench.order.reveal`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.order.checks import check
from kernels_bench.order.columns import confirm_layout, read_layout
from kernels_bench.order.layout import Layout
from kernels_bench.order.probe import Asker
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

Units = np.ndarray[tuple[int, int], np.dtype[np.int8]]
"""How many units each term of each question is, -1, 0 or 1: (questions, K)."""

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

    def prepare(self) -> None:
        """Choose the numbers to ask with, and how many units a launch may count."""
        if self.terms > SCALES[self.input].most_terms:
            raise Unsupported(f"{self.input} has no numbers to probe {self.terms} terms with")
        if self.output not in self.operator.readable:
            raise Unsupported(f"a result in {self.output} does not show the order of {self.operator.name}")
        self._scale = SCALES[self.input]
        # A quotient is off by a unit in its last place at most, which must stay well below half a unit of ours.
        self.counted = COUNTED[self.output] // (1 if self.operator.sums_are_exact else 8)
        places = np.arange(self.terms)
        self._parts = [
            np.isin(places, part).astype(np.int8)
            for part in np.array_split(places, math.ceil(self.terms / self.counted))
        ]
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
        return self.terms - _together(self.totals(first, second, units) for units in self._shares(len(first)))

    def _shares(self, questions: int) -> Iterator[Units]:
        """Units at all terms, as many at a time as a result counts."""
        return (np.broadcast_to(part, (questions, self.terms)) for part in self._parts)

    def totals(self, first: Ints, second: Ints, units: Units) -> Ints:
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
        shares = self._shares(len(first))
        return self.terms - _together(self._totals(self.columns, first, second, units) for units in shares)

    def _totals(self, columns: Ints, first: Ints, second: Ints, units: Units) -> Ints:
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
        most = float(whole.abs().amax())
        if most > self.terms:
            raise Inconsistent(f"{self.terms} units sum to {most:.6g}: huge terms were rounded before they cancelled")
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


def _together(counts: Iterable[Ints]) -> Ints:
    """What is left of all shares of the units."""
    left: Ints = np.sum(list(counts), axis=0)
    return left
