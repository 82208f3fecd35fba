"""Whether a case became faster or slower from one run to another, or whether two runs cannot tell.

Medians of one run are known to a few thousandths; from run to run they differ by more, since processes, memory and
clocks are others.  How much more is estimated from the two runs themselves:

* the **drift** of the machine is what all cases moved by, as far as its ceilings, which each run measures with the same
  code, moved too;
* the **scatter** of timings is how far those of one case, warm and cold at every M, moved apart from each other;
* the **scatter** of cases is how far the cases of an arm moved apart from each other, and no less than on H100s.

A case moved where the median of its timings' changes, or of those with a warm or a cold cache, or at one M, lies
beyond the drift and `SURE` times the scatter, and most of these timings moved alike, in time and, where clocks are
known, in cycles, each beyond both medians' intervals.  Scales are medians of absolute deviations, so that the cases
that did change, as long as they are no half of all, do not hide themselves.  Where a kernel's data come to lie in
memory moves its timings at few rows by up to a tenth, and those at many rows not at all: no case moved of which a
quarter of all timings, or any of a state's alone, did by less than half of what is needed.  No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Literal

import numpy as np

from kernels_bench.records.cases import Load
from kernels_bench.records.latest_records import STATES, LatestRecords, State, latest_records, measured_in
from kernels_bench.records.results import AnyRecord, Ceiling, SampleSummary, Timing
from kernels_bench.timing.median import median_error
from profiles.run_files.record import Record

Moved = Literal["same", "fast", "slow", "unsure"]
MOVED: tuple[Moved, ...] = ("slow", "fast", "unsure", "same")

LEAST = 0.02
"""A change by a smaller share is none: between kept runs of the same kernels no case but one moved farther."""

SURE = 5.0
"""So many times its scale a change must be to be no chance: cases scatter with longer tails than the normal law's."""

INTERVAL = 2.5
"""So many times its scale is half of an interval that holds 95 of 100 changes."""

ONE_STATE = 1.2
"""Warm or cold timings alone must have moved so many times farther than all together."""

ONE_M = 0.2
"""One M alone must have moved by this share: where its data lie in the L2 alone moved one by 13 % on an H100."""

TAILS = 1.5
"""So many times wider than the normal law of their scale cases scatter where the least visible change is told."""

LEAST_SCATTER = 0.002
"""Medians scatter by no less from run to run, however few there are to tell."""

USUAL_SCATTER = 0.003
"""How far cases scatter on a GPU whose clocks are known: by pairs of six runs on H100s by 0.22 to 0.41 %."""

UNKNOWN_SCATTER = 0.03
"""How far they may elsewhere, where too few cases were timed to tell."""

FEW_CASES = 20
"""Of fewer cases nothing is known of how far cases scatter."""

FEW_OF_AN_ARM = 5
"""Of fewer cases it is not known how far an arm's moved together."""

NONE = 0.03
"""A case is the same where its change is known to be less than this share."""

SEVERAL = 4
"""Of so many timings one may be known too badly to have moved with the others."""

_MAD = 1.4826
"""Turns a median of absolute deviations into a standard deviation."""

_MEDIAN_LOSS = 1.2533
"""The standard error of a median over that of a mean."""

_CHANCES = tuple(NormalDist().inv_cdf((number + 0.5) / 100) for number in range(100))
"""A hundred draws of the normal law, each as likely as the others."""


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
        drift: of the machine, as far as its ceilings tell; all that cases moved alike where a run has no ceilings.
        timings: of the timings of one case.
        cases: of cases.
        shows: the least change of all of a case's times that is found in 95 of 100 cases; None without cases.
    """

    drift: float
    timings: float
    cases: float
    shows: float | None


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
            """All records, the cycles of each timing noted as it passes."""
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
        load: how many rows, and of which length.
        state: what the cache held.
        growth: in time.
        beyond: whether both medians' intervals lie apart, in time and in cycles as far as these are known.
        known: to what share both medians are known together.
    """

    load: Load
    state: State
    growth: float
    beyond: bool
    known: float


def case_changes(first: TimedRun, second: TimedRun) -> tuple[tuple[CaseChange, ...], Scatter]:
    """What became of each case that both runs timed, and how far the runs differ otherwise."""
    cases = _changes(first, second)
    common = _common(cases, clocked := bool(first.cycles and second.cycles))
    scatter = _scatter(cases, drift_of(first.records.ceiling, second.records.ceiling, common), common, clocked)
    shows = _shown([_part("", changes, scatter) for changes in cases.values()])
    scatter = scatter.model_copy(update={"shows": shows})
    return tuple(_judge(key, changes, scatter) for key, changes in sorted(cases.items())), scatter


def drift_of(first: Ceiling | None, second: Ceiling | None, common: float) -> float | None:
    """By what share a machine may have moved all times; None where its ceilings cannot be compared.

    As far as its bandwidth moved, which is measured to a few thousandths; and as far as its FLOP/s moved, which follow
    the card's power and differ by two per cent where no kernel does, no farther than all cases moved with them.

    Args:
        first: the ceilings of one run.
        second: those of the other.
        common: by what share every arm's cases moved the same way; negative if they became faster.
    """
    if first is None or second is None:
        return None
    memory = _slower(first.bandwidth_gb_s, second.bandwidth_gb_s)
    pairs = [(speed, second.tflop_s[name]) for name, speed in first.tflop_s.items() if name in second.tflop_s]
    compute = [abs(move) for pair in pairs if (move := _slower(*pair)) is not None and move * common > 0]
    if memory is None and not compute:
        return None
    return max(abs(memory or 0.0), min(abs(common), max(compute, default=0.0)))


def _slower(then: float, now: float) -> float | None:
    return math.log(then / now) if min(then, now) > 0 else None


def _changes(first: TimedRun, second: TimedRun) -> dict[str, list[_Change]]:
    """The changes of all timings that both runs have, by the case's key."""
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
            change = _Change(Load(m=one.m, length=one.length), state, growth, beyond, _error(then) + _error(now))
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


def _by_arm(cases: Mapping[str, Sequence[_Change]], clocked: bool) -> list[list[float]]:
    """Each case's change, those of an arm together, and those of arms with few cases together.

    Where clocks are known an arm's cases moved together by no more than a quarter of a per cent, on H100s.  Elsewhere
    an arm's whole process may be slower, so that all arms are one.
    """
    arms: dict[str, list[float]] = {}
    for key, changes in cases.items():
        arms.setdefault(key.partition("/")[0] if clocked else "", []).append(_middle(changes))
    few = [middle for found in arms.values() if len(found) < FEW_OF_AN_ARM for middle in found]
    return [*(found for found in arms.values() if len(found) >= FEW_OF_AN_ARM), *([few] if few else [])]


def _common(cases: Mapping[str, Sequence[_Change]], clocked: bool) -> float:
    """By how much the cases of every arm moved the same way; negative if they became faster."""
    middles = [median(found) for found in _by_arm(cases, clocked)]
    alike = bool(middles) and (min(middles) > 0 or max(middles) < 0)
    return min(middles, key=abs) if alike else 0.0


def _scatter(cases: Mapping[str, Sequence[_Change]], drift: float | None, common: float, clocked: bool) -> Scatter:
    """How far timings moved apart from the others of their case and state, and cases from the others of their arm."""
    groups = [
        [change.growth for change in changes if change.state == state] for changes in cases.values() for state in STATES
    ]
    apart = [growth - median(found) for found in groups if len(found) > 2 for growth in found]
    between = [middle - median(found) for found in _by_arm(cases, clocked) for middle in found]
    timings = max(LEAST_SCATTER, _scale(apart))
    # Of the cases that hardly any chance can have moved so far, some did change; they are no scatter.
    near = max(LEAST, SURE * _scale(between))
    scatter = max(USUAL_SCATTER, _scale([move for move in between if abs(move) <= near]))
    if len(cases) < FEW_CASES:
        scatter = max(scatter, timings, USUAL_SCATTER if clocked else UNKNOWN_SCATTER)
    drift = abs(common) if drift is None else drift
    return Scatter(drift=drift, timings=timings, cases=scatter, shows=None)


def _chance(drift: float, scale: float) -> float:
    """How far a case may move by chance."""
    return max(LEAST, drift + SURE * scale)


def _middle(changes: Sequence[_Change]) -> float:
    return median([change.growth for change in changes])


def _scale(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    middle = median(values)
    return _MAD * median([abs(value - middle) for value in values])


@dataclass(frozen=True)
class _Part:
    """Some timings of a case that may have moved together: all, those of a state, or those of an M.

    Attributes:
        where: which; empty for all.
        changes: theirs.
        growth: the median of theirs.
        scale: how far it may be off, as a standard error.
        chance: growth that may be chance.
        needed: growth that is told, which is more where all are of one load.
        alike: how many moved the same way, each beyond its medians' intervals.
        least: the smallest change among these, since of a few timings one may be far off.
        onwards: how far each moved in the direction of the growth, ascending.
    """

    where: str
    changes: Sequence[_Change]
    growth: float
    scale: float
    chance: float
    needed: float
    alike: int
    least: float
    onwards: Sequence[float]

    @property
    def error(self) -> float:
        """Half of the growth's 95 % interval."""
        return INTERVAL * self.scale

    @property
    def moved(self) -> bool:
        """Whether most of all timings lie beyond what is needed, and few stayed; of a part, `suspicious` ones."""
        if not self.where:
            stayed = self.onwards[len(self.onwards) // 4] <= self.needed / 2
            far = abs(self.growth) > self.needed and not stayed
            return far and 2 * self.alike > len(self.changes)
        all_moved = self.least > self.needed and self.onwards[0] > self.needed / 2
        return len(self.changes) > 1 and self.suspicious and all_moved

    @property
    def suspicious(self) -> bool:
        """Whether every timing, or of several all but one, moved alike, farther than chance would have most."""
        lagging = len(self.changes) - self.alike
        return self.least > self.chance and lagging <= (len(self.changes) >= SEVERAL)

    @property
    def is_one_m(self) -> bool:
        """Whether these are the timings of one M."""
        return self.where.startswith("M=")


def _part(where: str, changes: Sequence[_Change], scatter: Scatter) -> _Part:
    """How far some timings of a case have moved together, and whether that is more than chance."""
    growth = _middle(changes)
    known = median([change.known for change in changes]) / 2
    alone = math.hypot(scatter.timings, known) * _MEDIAN_LOSS / math.sqrt(len(changes))
    scale = max(scatter.cases, alone)
    alike = [abs(change.growth) for change in changes if change.beyond and change.growth * growth > 0]
    chance = _chance(scatter.drift, scale) * (ONE_STATE if where else 1.0)
    few = where.startswith("M=") or len({change.load for change in changes}) == 1
    needed = max(ONE_M, chance) if few else chance
    onwards = sorted(math.copysign(1, growth) * change.growth for change in changes)
    return _Part(where, changes, growth, scale, chance, needed, len(alike), min(alike, default=0.0), onwards)


def _shown(cases: Sequence[_Part]) -> float | None:
    """The least change that is found in 95 of 100 of these cases, were it in all their times; None for none."""
    if not cases:
        return None
    needed, scale = (np.asarray(values) for values in zip(*((case.needed, case.scale) for case in cases), strict=True))
    reach = np.sort(np.concatenate([needed + TAILS * scale * draw for draw in _CHANCES]))
    return math.expm1(float(reach[math.ceil(0.95 * len(reach)) - 1]))


def _parts(changes: Sequence[_Change], scatter: Scatter) -> Iterator[_Part]:
    """All timings first; then those of each state, and those of each M, where there are several."""
    yield _part("", changes, scatter)
    for state in STATES:
        if len(mine := [change for change in changes if change.state == state]) > 1:
            yield _part(state, mine, scatter)
    for m in sorted({change.load.m for change in changes}):
        mine = [change for change in changes if change.load.m == m]
        if len(mine) < len(changes):
            yield _part(f"M={m}", mine, scatter)


def _judge(key: str, changes: Sequence[_Change], scatter: Scatter) -> CaseChange:
    """What became of a case: moved as a whole, in parts, or not as far as can be told."""
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


def _percent(growth: float) -> float:
    return 100 * math.expm1(growth)


def _doubt_about(part: _Part) -> str:
    return f"{part.where} moved by {100 * part.growth:+.1f} %, and nothing else did"


def _doubt(part: _Part) -> str:
    """Why it cannot be said that a case stayed as it was; empty where it can."""
    growth = abs(part.growth)
    if part.error >= NONE:
        return f"these runs' times differ by {100 * NONE:.0f} % and more for no reason of the kernels"
    if growth <= part.needed and growth + part.error < NONE:
        return ""
    moved = f"it moved by {_percent(part.growth):+.1f} %"
    if growth <= part.needed:
        one = ", as timed at one M" if part.needed > part.chance else ""
        chance = abs(_percent(math.copysign(part.needed, part.growth)))
        return f"{moved}, and less than {chance:.1f} % may be chance{one}"
    return f"{moved}, but only {part.alike} of {len(part.changes)} timings beyond their medians' intervals"
