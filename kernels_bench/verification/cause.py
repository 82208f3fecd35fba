"""What a difference between two batches depends on: the batch, what was called before it, or chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kernels_bench.operators import RowTensors
from kernels_bench.records.cases import Launch
from kernels_bench.records.results import Counterexample
from kernels_bench.relations import Batch, Comparison, make_batch
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.bitwise import all_same_bits
from kernels_bench.verification.reporter import Reporter
from kernels_bench.verification.trials import BrokenTrial, Places, align_rows, take

NOT_REPEATABLE = "the kernel is not repeatable, which alone explains the difference"
DEPENDS_ON_CALLS = "the difference depends on earlier calls, see history"

Cause = Literal["batch", "calls", "chance", "once"]
"""``once``: the difference did not come again, however often both batches were launched."""

_ITS_OWN: tuple[Launch, ...] = ("graph", "updated", "concurrent", "kept", *AROUND)
"""Forms of a launch whose differences are their relation's alone: what comes by chance there may come there alone."""

OFTEN, OFTEN_S = 3000, 1.0
"""Launches, and seconds, for which a difference is waited for that did not come again at once."""

Launched = Callable[[], RowTensors]
"""Launches a batch and gives the lines that are compared."""


@dataclass(frozen=True)
class Pair:
    """A batch and its reference, to be launched again.

    Attributes:
        reference: launches the one.
        company: launches the other.
    """

    reference: Launched
    company: Launched


def cause_of(pair: Pair) -> Cause:
    """Launch both again, in several orders, and see what decides on the difference."""
    _one_after_the_other(pair)  # so that what follows comes after the same calls
    (first, got), (again, got_again) = _one_after_the_other(pair), _one_after_the_other(pair)
    if not (all_same_bits(first, again) and all_same_bits(got, got_again)):
        return "chance"
    if all_same_bits(first, got):
        return "chance" if _differs_at_last(pair, first) else "once"
    after_itself = [pair.company(), pair.company()]
    if all(all_same_bits(one, got) for one in after_itself):
        return "batch"
    _, once_more = _one_after_the_other(pair)
    return "calls" if all_same_bits(*after_itself) and all_same_bits(once_more, got) else "chance"


def _one_after_the_other(pair: Pair) -> tuple[RowTensors, RowTensors]:
    return pair.reference(), pair.company()


def _differs_at_last(pair: Pair, expected: RowTensors) -> bool:
    """Whether some launch of the batch gives other bits than all others; it may be one of hundreds."""
    until = time.perf_counter() + OFTEN_S
    for _ in range(OFTEN):
        if not all_same_bits(pair.company(), expected):
            return True
        if time.perf_counter() > until:
            break
    return False


@dataclass(frozen=True)
class Blame:
    """A difference that another relation is to answer for than the one that met it.

    Attributes:
        reason: why, for the relation that met it.
        counterexample: the difference, under the name of the relation that answers for it.
    """

    reason: str
    counterexample: Counterexample


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two batches of a trial, to be launched again.

    Attributes:
        batch: the one.
        places: its lines that are compared.
        form: how it is launched.
    """

    batch: Batch
    places: Places
    form: Launch


class Inquest:
    """Finds out what a difference in one trial depends on.

    Args:
        reporter: of the subject.
        trial: where the difference was seen.
        found: the difference, as a record.
    """

    def __init__(self, reporter: Reporter, trial: BrokenTrial, found: Counterexample) -> None:
        self._reporter, self._subject = reporter, reporter.subject
        self._trial, self._found = trial, found
        reference, company = trial.group.reference.company, trial.company
        lines = self._subject.lines
        alignment = align_rows(lines(reference), (lines(company),), self._subject.device)
        self._reference = _Side(reference, alignment.left, "eager")
        self._company = _Side(company, alignment.right, trial.comparison.launch)

    def blame(self) -> Blame | None:
        """Whom the difference is laid at the door of; None where it is the relation's own that met it."""
        if self._found.relation == "history" or self._company.form in _ITS_OWN:
            return None
        cause = cause_of(Pair(lambda: self._again(self._reference), lambda: self._again(self._company)))
        if cause == "batch":
            return None
        if cause == "calls":
            return self._on_calls((self._found.reference.spec,), odd=self._company)
        if cause == "once" and (found := self._replayed()) is not None:
            return found
        if self._found.relation == "repeat":
            return None
        return Blame(NOT_REPEATABLE, self._found.model_copy(update={"relation": "repeat"}))

    def _again(self, side: _Side) -> RowTensors:
        outputs = self._subject.start(side.batch, side.form).outputs
        return tuple(take(output, side.places) for output in outputs)

    def _replayed(self) -> Blame | None:
        """Whether the difference comes again once what was launched before it is; the odd one may be the reference."""
        seen = self._trial.group.reference
        then = tuple(take(output, self._reference.places) for output in seen.outputs)
        if all_same_bits(self._again(self._reference), then):
            odd, before, then = self._company, self._trial.before, self._trial.outputs()
        else:
            odd, before = self._reference, seen.after
        if not before:
            return self._on_calls((), odd)
        for _ in range(2):
            self._again(odd)
            self._subject.start(make_batch(before, self._subject.universe))
            if not all_same_bits(self._again(odd), then):
                return None
        return self._on_calls((before,), odd)

    def _on_calls(self, before: tuple[str, ...], odd: _Side) -> Blame:
        """The difference under the name of `history`, with the calls that make it come again."""
        found = self._found
        update: dict[str, object] = {"relation": "history", "before": before}
        if odd is self._reference:  # what it gave is what nobody expects
            update |= {"company": found.reference, "expected": found.got, "got": found.expected}
            update |= {"expected_bits": found.got_bits, "got_bits": found.expected_bits}
        elif before:
            update |= {"reference": found.company.model_copy(update={"launch": "eager"})}
        blamed = found.model_copy(update=update)
        comparison = Comparison(blamed.reference.spec, blamed.company.spec, blamed.company.launch, before)
        command = self._reporter.command(comparison, "history")
        return Blame(DEPENDS_ON_CALLS, blamed.model_copy(update={"command": command}))
