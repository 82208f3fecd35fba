"""Whether a case became faster or slower from one run to another, or whether two runs cannot tell.

Medians of one run are known to a few thousandths; from run to run they differ by more, since processes, memory and
clocks are others.  How much more is estimated from the two runs themselves:

* the **drift** of the machine is by how much its ceilings moved, which are measured in each run with the same code;
* the **scatter** of timings is how far those of one case, warm and cold at every M, moved apart from each other;
* the **scatter** of cases is how far cases moved apart from each other.

A case moved where the median of its timings' changes, or of those with a warm or a cold cache, or at one M, lies
beyond the drift and `SURE` standard errors of it, and most of these timings moved alike, in time and, where clocks are
known, in cycles, each beyond both medians' intervals.  Scales are medians of absolute deviations, so that the cases
that did change, as long as they are no half of all, do not hide themselves.  No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kernels_bench.records.latest_records import STATES, LatestRecords, State, latest_records, measured_in
from kernels_bench.records.results import AnyRecord, Ceiling, SampleSummary, Timing
from kernels_bench.timing.median import median_error
from profiles.run_files.record import Record

Moved = Literal["same", "fast", "slow", "unsure"]
MOVED: tuple[Moved, ...] = ("slow", "fast", "unsure", "same")

LEAST = 0.01
"""A change by a smaller share is none."""

SURE = 3.3
"""Standard errors that a change must be away from nothing."""

ONE_M = 2.0
"""A single M must have moved so many times farther than that, since there are many of them with two timings each."""

TOO_ROUGH = 0.05
"""Where runs differ by a larger share for no reason of the kernels, a case that did not move is no case that stayed."""

LEAST_SCATTER = 0.002
"""Medians scatter by no less from run to run, however few there are to tell."""

FEW_CASES = 5
"""Of fewer cases nothing is known of how far cases scatter: they are taken to scatter as their timings do."""

SEVERAL = 4
"""Of so many timings one may be known too badly to have moved with the others."""

_MAD = 1.4826
"""Turns a median of absolute deviations into a standard deviation."""

_MEDIAN_LOSS = 1.2533
"""The standard error of a median over that of a mean."""


class CaseChange(Record):
    """What became of one case's times.

    Attributes:
        key: the case's, such as ``torch/mm/4096x4096/bf16``.
        moved: whether it did.
        share: by how much its times grew, the median over its timings; negative if they fell.
        error: so far ``share`` may be off, the machine's drift not counted.
        where: in which of its timings it moved, ``warm``, ``cold`` or some M; empty for most of all.
        reason: why nothing can be said; empty where something is.
    """

    key: str
    moved: Moved
    share: float
    error: float
    where: str = ""
    reason: str = ""


class Scatter(Record):
    """How far two runs differ for no reason of the kernels, as shares.

    Attributes:
        drift: of the machine, by its ceilings; None where one of the runs has none.
        timings: of the timings of one case.
        cases: of cases.
    """

    drift: float | None
    timings: float
    cases: float


@dataclass(frozen=True)
class Cycles:
    """SM cycles of a call, from samples whose clock is known: the median, and half of its 95 % interval as a share."""

    median: float
    error: float


@dataclass(frozen=True)
class TimedRun:
    """A run's records, and the cycles of each timing and state whose clocks are known."""

    records: LatestRecords
    cycles: Mapping[tuple[str, State], Cycles]

    @classmethod
    def of(cls, records: Iterable[AnyRecord]) -> TimedRun:
        """Records with their raw samples, which are let go of, one after the other."""
        cycles: dict[tuple[str, State], Cycles] = {}

        def noted() -> Iterator[AnyRecord]:
            for record in records:
                if isinstance(record, Timing):
                    cycles.update(_cycles(record))
                yield record

        return cls(latest_records(noted()), cycles)


def _cycles(timing: Timing) -> Iterator[tuple[tuple[str, State], Cycles]]:
    for state, samples in zip(STATES, (timing.warm_samples, timing.cold_samples), strict=True):
        if samples is not None and samples.clock_mhz:
            counts = np.multiply(samples.us, samples.clock_mhz)
            if np.median(counts) > 0:
                yield (timing.key, state), Cycles(float(np.median(counts)), median_error([*counts]))


@dataclass(frozen=True)
class _Change:
    """One timing in both runs: the logarithm of its growth, and what is known of it.

    Attributes:
        m: number of rows.
        state: what the cache held.
        growth: in time.
        beyond: whether both medians' intervals lie apart, in time and in cycles as far as these are known.
        known: to what share both medians are known together.
    """

    m: int
    state: State
    growth: float
    beyond: bool
    known: float


def case_changes(first: TimedRun, second: TimedRun) -> tuple[tuple[CaseChange, ...], Scatter]:
    """What became of each case that both runs timed, and how far the runs differ otherwise."""
    cases = _changes(first, second)
    scatter = _scatter(cases, drift_of(first.records.ceiling, second.records.ceiling))
    return tuple(_judge(key, changes, scatter) for key, changes in sorted(cases.items())), scatter


def drift_of(first: Ceiling | None, second: Ceiling | None) -> float | None:
    """By what share a machine's ceilings moved, the median over them; None where they cannot be compared."""
    if first is None or second is None:
        return None
    pairs = [(first.bandwidth_gb_s, second.bandwidth_gb_s)]
    pairs += [(speed, second.tflop_s[name]) for name, speed in first.tflop_s.items() if name in second.tflop_s]
    known = [abs(math.log(now / then)) for then, now in pairs if min(then, now) > 0]
    return float(np.median(known)) if known else None


def _changes(first: TimedRun, second: TimedRun) -> dict[str, list[_Change]]:
    cases: dict[str, list[_Change]] = {}
    then_timed, now_timed = first.records.timings, second.records.timings
    for key in sorted(then_timed.keys() & now_timed.keys()):
        one, other = then_timed[key], now_timed[key]
        for state in STATES:
            then, now = measured_in(one, state), measured_in(other, state)
            if then is None or now is None:
                continue
            growth = math.log(now.median_us / then.median_us)
            before, after = first.cycles.get((key, state)), second.cycles.get((key, state))
            beyond = _apart(growth, then, now) and _apart_in_cycles(growth, before, after)
            change = _Change(one.m, state, growth, beyond, _error(then) + _error(now))
            cases.setdefault(one.case.key, []).append(change)
    return cases


def _error(measured: SampleSummary) -> float:
    return measured.error if 0 <= measured.error < 1 else 1.0


def _apart(growth: float, then: SampleSummary, now: SampleSummary) -> bool:
    return abs(growth) > _error(then) + _error(now)


def _apart_in_cycles(growth: float, then: Cycles | None, now: Cycles | None) -> bool:
    """Whether cycles moved the same way; where the clock is not known in both runs, time alone counts."""
    if then is None or now is None:
        return True
    moved = math.log(now.median / then.median)
    return moved * growth > 0 and abs(moved) > max(LEAST_SCATTER, then.error + now.error)


def _scatter(cases: Mapping[str, Sequence[_Change]], drift: float | None) -> Scatter:
    """Estimated for warm and cold caches apart, since a change of one of them is no scatter of the other's."""
    groups = [
        (state, [change.growth for change in changes if change.state == state])
        for changes in cases.values()
        for state in STATES
    ]
    middles = {state: [float(np.median(found)) for at, found in groups if at == state and found] for state in STATES}
    apart = [growth - float(np.median(found)) for _, found in groups if len(found) > 2 for growth in found]
    between = [middle - float(np.median(known)) for known in middles.values() if known for middle in known]
    timings = max(LEAST_SCATTER, _scale(apart))
    return Scatter(
        drift=drift, timings=timings, cases=max(LEAST_SCATTER, _scale(between)) if len(cases) >= FEW_CASES else timings
    )


def _middle(changes: Sequence[_Change]) -> float:
    return float(np.median([change.growth for change in changes]))


def _scale(values: Sequence[float]) -> float:
    return _MAD * float(np.median(np.abs(np.asarray(values) - np.median(values)))) if values else 0.0


@dataclass(frozen=True)
class _Part:
    """Some timings of a case that may have moved together: all, those of a state, or those of an M.

    Attributes:
        where: which; empty for all.
        changes: theirs.
        growth: the median of theirs.
        error: of it.
        needed: growth that is more than chance.
        alike: how many moved the same way, each beyond its medians' intervals.
        least: the smallest change among these, since of a few timings one may be far off.
    """

    where: str
    changes: Sequence[_Change]
    growth: float
    error: float
    needed: float
    alike: int
    least: float

    @property
    def moved(self) -> bool:
        """Most of all timings beyond chance; of a part, every one."""
        if not self.where:
            return abs(self.growth) > self.needed and 2 * self.alike > len(self.changes)
        farther = ONE_M if self.is_one_m else 1.0
        return len(self.changes) > 1 and self.suspicious and self.least > farther * self.needed

    @property
    def suspicious(self) -> bool:
        """Whether every timing, or of several all but one, moved alike, farther than chance would have most."""
        lagging = len(self.changes) - self.alike
        return self.least > self.needed and lagging <= (len(self.changes) >= SEVERAL)

    @property
    def is_one_m(self) -> bool:
        """Whether these are the timings of one M."""
        return self.where.startswith("M=")


def _part(where: str, changes: Sequence[_Change], scatter: Scatter) -> _Part:
    growth = _middle(changes)
    known = float(np.median([change.known for change in changes])) / 2
    alone = math.hypot(scatter.timings, known) * _MEDIAN_LOSS / math.sqrt(len(changes))
    error = SURE * math.hypot(scatter.cases, alone)
    alike = [abs(change.growth) for change in changes if change.beyond and change.growth * growth > 0]
    needed = max(LEAST, (scatter.drift or 0.0) + error)
    return _Part(where, changes, growth, error, needed, len(alike), min(alike, default=0.0))


def _parts(changes: Sequence[_Change], scatter: Scatter) -> Iterator[_Part]:
    """All timings first; then those of each state, and those of each M, where there are several."""
    yield _part("", changes, scatter)
    for state in STATES:
        if len(mine := [change for change in changes if change.state == state]) > 1:
            yield _part(state, mine, scatter)
    for m in sorted({change.m for change in changes}):
        mine = [change for change in changes if change.m == m]
        if len(mine) < len(changes):
            yield _part(f"M={m}", mine, scatter)


def _judge(key: str, changes: Sequence[_Change], scatter: Scatter) -> CaseChange:
    whole, *others = _parts(changes, scatter)
    moved = [part for part in (whole, *others) if part.moved]
    # What is true of all timings, or of all of a state, need not be said of each M.
    told = next((part for part in moved if not part.is_one_m), None)
    shown = told or max(moved, key=lambda part: abs(part.growth), default=whole)
    found = CaseChange(key=key, moved="same", share=math.expm1(shown.growth), error=shown.error)
    if moved:
        where = shown.where if told else ", ".join(part.where for part in moved)
        return found.model_copy(update={"moved": "slow" if shown.growth > 0 else "fast", "where": where})
    reason = _doubt(whole) or next((_doubt_about(part) for part in others if part.suspicious), "")
    return found.model_copy(update={"moved": "unsure", "reason": reason}) if reason else found


def _doubt_about(part: _Part) -> str:
    return f"{part.where} moved by {100 * part.growth:+.1f} %, and nothing else did"


def _doubt(part: _Part) -> str:
    """Why it cannot be said that a case stayed as it was; empty where it can."""
    growth, needed = abs(part.growth), part.needed
    if needed > TOO_ROUGH:
        return f"these runs' times differ by more than {100 * TOO_ROUGH:.0f} % for no reason of the kernels"
    if growth <= max(LEAST, needed / 2):
        return ""
    moved = f"it moved by {100 * part.growth:+.1f} %"
    if growth <= needed:
        return f"{moved}, and less than {100 * needed:.1f} % may be chance"
    return f"{moved}, but only {part.alike} of {len(part.changes)} timings beyond their medians' intervals"
