"""Launches that count the terms that are lost where two huge ones cancel, see `order.reconstruct.cancellation`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from kernels_bench.arms import Unsupported
from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.order.probing.columns import confirm_layout, read_layout, read_parts
from kernels_bench.order.probing.prepared_questions import FRESH, PreparedQuestions, pieces
from kernels_bench.order.probing.prober import MOST_COLUMNS, Prober, Units
from kernels_bench.order.probing.random_checks import check, fresh_probes
from kernels_bench.order.reconstruct.cancellation import ColumnsDiffer, Inconsistent, RowsDiffer
from kernels_bench.order.reconstruct.certificate import Questions, certificate, certificate_size, meeting_sizes
from kernels_bench.order.trees.by_column import ColumnOrders
from kernels_bench.order.trees.tree import Ints, Tree
from kernels_bench.records.cases import scale_of


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

"""How many units each term of each question is, -1, 0 or 1: (questions, K)."""

UnitsOf = Callable[[torch.Tensor], torch.Tensor]
"""The units of some questions, given by their numbers on the device: (questions, K)."""

COUNTED = {"fp32": 1 << 24, "fp16": 1 << 10, "bf16": 1 << 8}
"""Units that a result of each dtype counts exactly."""


class CancellationProber(Prober):
    """Asks one kernel at one number of rows, each of whose columns is a sum of terms of either sign.

    Questions are made on the device, and nothing is waited for before all launches of a call are on their way.

    Attributes:
        counted: units that a result tells exactly.
        columns: sums in which questions are asked.

    Raises:
        Unsupported: the order cannot be read off this operator's results, or K exceeds what its dtype can tell.
    """

    def prepare(self) -> None:
        """Choose the numbers to ask with, and how many units a launch may count.

        Raises:
            Unsupported: the order cannot be read off this operator's results, or of so many terms.
        """
        if self.terms > SCALES[self.input].most_terms:
            raise Unsupported(f"{self.input} has no numbers to probe {self.terms} terms with")
        if self.output not in self.operator.readable:
            raise Unsupported(f"a result in {self.output} does not show the order of {self.operator.name}")
        self._scale = SCALES[self.input]
        # A quotient is off by a unit in its last place at most, which must stay well below half a unit of ours.
        self.counted = COUNTED[self.output] // (1 if self.operator.sums_are_exact else 8)
        # Filled there: what is copied from the host is waited for, on a GPU for all other processes' turns.
        self._unit, self._huge = (
            torch.full((), value, dtype=self.dtype, device=self.device)
            for value in (self._scale.unit, self._scale.huge)
        )
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
        self.columns, self._place = columns, copy_to_device(columns, self.device)
        try:
            yield
        finally:
            self.columns, self._place = before

    def left(self, asked: Questions, drawn: bool = True) -> Ints:
        """See `kernels_bench.order.reconstruct.certificate.Left`; in columns that are drawn, or in all of them in turn.

        Raises:
            RowsDiffer: rows of one launch give different results.
            Inconsistent: a result is no number of units, or time is over.
        """
        there = _on_device(asked, self.device)
        return self._asked(_Pairs(there.first, there.second, None), partial(_units, there), drawn)

    def totals(self, first: Ints, second: Ints, units: Units, drawn: bool = True) -> Ints:
        """What is left of the units where two terms are huge and cancel.

        Args:
            first: of each question, the term that is huge.
            second: the one that is minus huge; where both are the same there is none.
            units: how many units the other terms are, -1, 0 or 1: (questions, K).
            drawn: whether columns are drawn, or asked in turn.

        Raises:
            RowsDiffer: see `left`.
            Inconsistent: see `left`.
        """
        huge, minus, there = (copy_to_device(array, self.device) for array in (first, second, units))
        return self._asked(_Pairs(huge, minus, huge == minus), lambda chosen: there[chosen], drawn)

    def each(self, first: Ints, second: Ints) -> Ints:
        """Sizes of the nodes in which pairs of terms meet, one pair in each of the columns in their order."""
        return meeting_sizes(first, second, self.terms, self.counted, partial(self.left, drawn=False))

    def _asked(self, pairs: _Pairs, units_of: UnitsOf, drawn: bool = True) -> Ints:
        """As many launches as it takes, and their answers together."""
        count, width = len(pairs.huge), len(self.columns)
        # No question is asked in the same column at every M: their orders could differ.
        order = self.draw.permutation(count) if drawn else np.arange(count)
        numbers = copy_to_device(order, self.device)
        told: list[Ints] = []
        answers: list[_Answer] = []
        begin = 0
        while begin < count:
            size = min(self._asked_at_once, width - begin % width, count - begin)
            at = int(self.draw.integers(width - size + 1)) if drawn else begin % width
            chosen = numbers[begin : begin + size]
            answers.append(self._answer(slice(at, at + size), pairs.some(chosen), units_of(chosen)))
            begin += size
            if len(answers) == _TOGETHER[scale_of(self.device.type)] or begin == count:
                told.append(self._told(answers))
                answers = []
        found = np.empty(count, dtype=np.int64)
        found[order] = np.concatenate(told) if told else 0
        return found

    def _answer(self, chosen: slice, pairs: _Pairs, units: torch.Tensor) -> _Answer:
        """One launch, with a question in each of some columns."""
        columns, terms = self._place[chosen], self._terms(pairs, units)
        if not len(terms) == self.sums == len(self.columns):
            given = torch.zeros(self.sums, self.terms, dtype=self.dtype, device=self.device)
            given[columns] = terms
            terms = given
        sums = self.launched(terms)
        low, high = torch.aminmax(sums)
        return _Answer(sums[0].index_select(0, columns), (sums != sums[0]).any(1), low, high)

    def _terms(self, pairs: _Pairs, units: torch.Tensor) -> torch.Tensor:
        """What each question has added, (questions, K)."""
        terms, rows = units * self._unit, torch.arange(len(units), device=self.device)
        kept = terms[rows, pairs.huge] if pairs.same is not None else None
        terms[rows, pairs.huge] = self._huge
        terms[rows, pairs.minus] = -self._huge
        if pairs.same is not None and kept is not None:
            terms[rows, pairs.huge] = torch.where(pairs.same, kept, terms[rows, pairs.huge])
        return terms

    def _told(self, answers: Sequence[_Answer]) -> Ints:
        """Wait once for some launches, and see that all gave numbers of units, the same in all rows."""
        finite = torch.stack([value for one in answers for value in (one.low, one.high)]).isfinite().all()
        differs = torch.stack([one.differs for one in answers]).any(0)
        facts = torch.stack([finite, differs.any()]).double()
        found = torch.cat([*(one.found.double() for one in answers), facts]).cpu().numpy()
        if not found[-2]:
            raise Inconsistent("a sum is not finite: huge terms are too large for what it is kept in")
        if found[-1]:
            row = int(differs.int().argmax())
            raise RowsDiffer(f"row {row} adds in another order than row 0 of the same launch")
        units = found[:-2] / self._scale.unit
        # A mean was divided by K and rounded once, which no count below the limit survives as another one.
        whole = np.rint(units)
        if np.abs(whole).max() > self.terms:
            most = units[np.abs(whole).argmax()]
            raise Inconsistent(f"{self.terms} units sum to {most:.6g}: huge terms were rounded before they cancelled")
        off = np.abs(units - whole)
        if off.max() > _MOST_OFF:
            raise Inconsistent(f"a sum of units is {units[off.argmax()]:.6g}: it is rounded in between")
        told: Ints = whole.astype(np.int64)
        return told

    def read(self, seed: int) -> ColumnOrders:
        """See `Prober.read`; in parts where one order for all columns came out, and foretold some of them wrongly."""
        try:
            found = super().read(seed)
            if len(found.parts) == 1:
                self._ask_every_column(found.parts[0].tree, seed)
            return found
        except ColumnsDiffer as reason:
            found = read_parts(self, seed, reason)
        self.check(found, seed)
        return found

    def _ask_every_column(self, tree: Tree, seed: int) -> None:
        """Predict what each column gives; of very many, the first, some in between and the last.

        The questions that a tree is read by, and the probes that check it, may miss the few columns of a last tile.

        Raises:
            ColumnsDiffer: some columns add in another order.
        """
        fresh, known = fresh_probes(self, tree, seed), self.columns
        last = max(0, len(known) - MOST_COLUMNS)
        for begin in sorted({0, int(self.draw.integers(last + 1)), last}):
            with self.within(known[begin : begin + MOST_COLUMNS]):
                for _ in range(_ROUNDS):
                    places = np.arange(len(self.columns)) + self.draw.integers(len(fresh.first))
                    asked = places % len(fresh.first)
                    told = self.totals(fresh.first[asked], fresh.second[asked], fresh.units[asked], drawn=False)
                    if (told != fresh.expected[asked]).any():
                        raise ColumnsDiffer("its columns add in several orders")

    def revealed(self, seed: int) -> ColumnOrders:
        """See `read_layout`."""
        return read_layout(self, seed)

    def confirmed(self, known: ColumnOrders) -> bool:
        """See `confirm_layout`."""
        return confirm_layout(known, self) is None

    def check(self, layout: ColumnOrders, seed: int) -> None:
        """See `kernels_bench.order.probing.random_checks.check`, for each part of the columns."""
        for part in layout.parts:
            with self.within(part.columns if len(layout.parts) > 1 else self.columns):
                check(self, part.tree, seed)

    def posed(self, known: ColumnOrders, seed: int) -> Iterator[PreparedQuestions]:
        """See `Prober.posed`."""
        (part,) = known.parts
        fresh = fresh_probes(self, part.tree, seed)
        first, second, units = (
            copy_to_device(array, self.device) for array in (fresh.first, fresh.second, fresh.units)
        )
        for _ in range(FRESH):
            yield self._foretold(_Pairs(first, second, first == second), units, fresh.expected)
        asked, expected = certificate(part.tree, self.counted)
        there = _on_device(asked, self.device)
        for numbers in pieces(len(asked), self.terms, self.dtype.itemsize, seed):
            chosen = copy_to_device(numbers, self.device)
            pairs = _Pairs(there.first[chosen], there.second[chosen], None)
            yield self._foretold(pairs, _units(there, chosen), expected[numbers])

    def certified_by(self, known: ColumnOrders) -> int:
        """See `Prober.certified_by`."""
        (part,) = known.parts
        return certificate_size(part.tree, self.counted)

    def _foretold(self, pairs: _Pairs, units: torch.Tensor, expected: Ints) -> PreparedQuestions:
        terms, exact = self._terms(pairs, units), self.operator.sums_are_exact
        answers = copy_to_device(expected * self._scale.unit, self.device)
        return PreparedQuestions(terms, answers, 0.0 if exact else _MOST_OFF * self._scale.unit)


_MOST_OFF, _ROUNDS = 0.25, 3
_TOGETHER = {"cuda": 32, "cpu": 1}
"""Launches that are waited for together: a GPU works on while more are made ready."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Questions' huge terms, on the device, and whether they are one and the same, which is huge then in none."""

    huge: torch.Tensor
    minus: torch.Tensor
    same: torch.Tensor | None

    def some(self, chosen: torch.Tensor) -> _Pairs:
        """Those of some questions."""
        return _Pairs(self.huge[chosen], self.minus[chosen], None if self.same is None else self.same[chosen])


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a launch gave, on the device: row 0's sums that were asked, rows that differ from it, and the extremes."""

    found: torch.Tensor
    differs: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


@dataclass(frozen=True, eq=False)
class _There:
    """`Questions` on the device."""

    place: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    among: torch.Tensor
    but: torch.Tensor


def _on_device(asked: Questions, device: torch.device) -> _There:
    place, among, but = (
        copy_to_device(array.astype(np.int32), device) for array in (asked.place, asked.among, asked.but)
    )
    first, second = (copy_to_device(array, device) for array in (asked.first, asked.second))
    return _There(place, first, second, among, but)


def _units(there: _There, chosen: torch.Tensor) -> torch.Tensor:
    """Which terms are a unit in some of the questions: (n, K)."""
    return _within(there.place, there.among[chosen]).gt(_within(there.place, there.but[chosen]))


def _within(place: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Which terms' places (K,) lie within each of some bounds (n, 2): (n, K)."""
    return (place >= bounds[:, :1]).logical_and_(place < bounds[:, 1:])
