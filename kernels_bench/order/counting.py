"""Launches that count the terms that are lost where two huge ones cancel, see `kernels_bench.order.reveal`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.order.certificate import Questions, meeting_sizes
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

UnitsOf = Callable[[slice], torch.Tensor]
"""The units of some questions, on the device: (questions, K)."""

Answer = tuple[torch.Tensor, torch.Tensor]
"""What a launch left of its questions' units, fp64 (questions), and `_facts` of it; both on the device."""

COUNTED = {"fp32": 1 << 24, "fp16": 1 << 10, "bf16": 1 << 8}
"""Units that a result of each dtype counts exactly."""


class Prober(Asker):
    """Asks one kernel at one number of rows, each of whose columns is a sum of terms of either sign.

    Questions are made on the device, and nothing is waited for before all launches of a call are on their way.

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
        self._generator = torch.Generator(self.device).manual_seed(int(self.draw.integers(1 << 62)))
        self.columns = np.arange(self.sums)
        self._place = torch.arange(self.sums, device=self.device)

    @property
    def width(self) -> int:
        """Pairs whose meeting a launch tells, about."""
        return max(1, self._asked_at_once // -(-self.terms // self.counted))

    @property
    def _asked_at_once(self) -> int:
        return min(len(self.columns), MOST_COLUMNS)

    @contextmanager
    def within(self, columns: Ints) -> Iterator[None]:
        """Ask in some columns only."""
        before = self.columns, self._place
        self.columns, self._place = columns, torch.as_tensor(columns, device=self.device)
        try:
            yield
        finally:
            self.columns, self._place = before

    def left(self, asked: Questions, drawn: bool = True) -> Ints:
        """See `kernels_bench.order.certificate.Left`; in columns that are drawn, or in all of them in turn.

        Raises:
            RowsDiffer: rows of one launch give different results.
            Inconsistent: a result is no number of units, or time is over.
        """
        place, among, but = (
            torch.as_tensor(array, device=self.device) for array in (asked.place, asked.among, asked.but)
        )

        def units(chosen: slice) -> torch.Tensor:
            return _within(place, among[chosen]).logical_and_(_within(place, but[chosen]).logical_not_())

        return self._asked(asked.first, asked.second, units, drawn)

    def totals(self, first: Ints, second: Ints, units: Units) -> Ints:
        """What is left of the units where two terms are huge and cancel.

        Args:
            first: of each question, the term that is huge.
            second: the one that is minus huge; where both are the same there is none.
            units: how many units the other terms are, -1, 0 or 1: (questions, K).

        Raises:
            RowsDiffer: see `left`.
            Inconsistent: see `left`.
        """
        there = torch.as_tensor(units, device=self.device)
        return self._asked(first, second, lambda chosen: there[chosen])

    def each(self, first: Ints, second: Ints) -> Ints:
        """Sizes of the nodes in which pairs of terms meet, one pair in each of the columns in their order."""
        parts = -(-self.terms // self.counted)
        order = np.arange(len(first) * parts).reshape(-1, parts).T.ravel()  # part by part, through all columns

        def left(asked: Questions) -> Ints:
            turned = Questions(
                asked.place, asked.first[order], asked.second[order], asked.among[order], asked.but[order]
            )
            found = np.empty(len(order), dtype=np.int64)
            found[order] = self.left(turned, drawn=False)
            return found

        return meeting_sizes(first, second, self.terms, self.counted, left)

    def _drawn(self, count: int) -> torch.Tensor:
        """Some columns, so that none is asked the same in every launch: their orders could differ."""
        return self._place[torch.randperm(len(self._place), generator=self._generator, device=self.device)[:count]]

    def _in_turn(self, questions: slice) -> torch.Tensor:
        """Every question's own column."""
        return self._place[torch.arange(questions.start, questions.stop, device=self.device) % len(self._place)]

    def _asked(self, first: Ints, second: Ints, units_of: UnitsOf, drawn: bool = True) -> Ints:
        """As many launches as it takes, and their answers together."""
        huge, minus = (torch.as_tensor(array, device=self.device) for array in (first, second))
        told: list[Ints] = []
        answers: list[Answer] = []
        for begin in range(0, len(first), self._asked_at_once):
            chosen = slice(begin, min(begin + self._asked_at_once, len(first)))
            columns = self._drawn(chosen.stop - begin) if drawn else self._in_turn(chosen)
            answers.append(self._answer(columns, huge[chosen], minus[chosen], units_of(chosen)))
            if len(answers) == _TOGETHER[self.device.type]:
                told.append(self._told(answers))
                answers = []
        return np.concatenate([*told, self._told(answers)])

    def _answer(self, columns: torch.Tensor, huge: torch.Tensor, minus: torch.Tensor, units: torch.Tensor) -> Answer:
        terms = torch.zeros(self.sums, self.terms, dtype=self.dtype, device=self.device)
        terms[columns] = units.to(self.dtype).mul_(self._scale.unit)
        apart = huge != minus
        for place, value in ((huge, self._scale.huge), (minus, -self._scale.huge)):
            terms[columns, place] = torch.where(apart, value, terms[columns, place].float()).to(self.dtype)
        sums = self.launched(terms)
        found = sums[0].index_select(0, columns).double() / self._scale.unit
        # A mean was divided by K and rounded once, which no count below the limit survives as another one.
        whole = found.round()
        return whole, _facts(sums, found, whole)

    def _told(self, answers: Sequence[Answer]) -> Ints:
        """Wait for some launches, and see that all gave numbers of units, the same in all rows."""
        if not answers:
            return np.zeros(0, dtype=np.int64)
        for finite, row, most, off, worst in torch.stack([facts for _, facts in answers]).tolist():
            if not finite:
                raise Inconsistent("a sum is not finite: huge terms are too large for what it is kept in")
            if row:
                raise RowsDiffer(f"row {int(row)} adds in another order than row 0 of the same launch")
            if most > self.terms:
                raise Inconsistent(
                    f"{self.terms} units sum to {most:.6g}: huge terms were rounded before they cancelled"
                )
            if off > _MOST_OFF:
                raise Inconsistent(f"a sum of units is {worst:.6g}: it is rounded in between")
        told: Ints = torch.cat([found for found, _ in answers]).long().cpu().numpy()
        return told

    def read(self, seed: int) -> Layout:
        """See `read_layout`."""
        return read_layout(self, seed)

    def confirm(self, known: Layout) -> str | None:
        """See `confirm_layout`."""
        wrong = confirm_layout(known, self)
        return None if wrong is None else wrong.words

    def check(self, layout: Layout, seed: int) -> None:
        """See `check`, for each part of the columns."""
        for part in layout.parts:
            with self.within(part.columns if len(layout.parts) > 1 else self.columns):
                check(self, part.tree, seed)


MOST_COLUMNS = 1 << 13
"""Columns that are asked in one launch; of a model's vocabulary each launch draws so many."""

_MOST_OFF = 0.25
_TOGETHER = {"cuda": 32, "cpu": 1}
"""Launches that are waited for together: a GPU works on while more are made ready."""


def _within(place: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Which terms' places (K,) lie within each of some bounds (n, 2): (n, K)."""
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:])


def _facts(sums: torch.Tensor, found: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Of sums (rows, columns), and of the units found in some of them and rounded, what must be seen: fp64 (5).

    Whether all are finite; the first row that differs from row 0; the most units; how far off a whole number they are
    at most, and where they are farthest off.
    """
    differs = (sums != sums[0]).any(1)
    off = (found - whole).abs()
    facts = (
        sums.isfinite().all(), differs.int().argmax(), whole.abs().amax(), off.amax(), found[off.argmax()]
    )  # fmt: skip
    return torch.stack([fact.double() for fact in facts])
