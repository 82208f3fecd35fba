"""A run's medians beside the kernel time that the report holds of the same calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiles.analysis.schema import Cache, CaptureCost, CrossCheck, UnmatchedCase
from profiles.analysis.timed_calls import FoundCalls, Sampled, find_calls
from profiles.instruments.range_names import KERNELS, REPLAY, TimedRange
from profiles.run_files.kernels_bench_run import Run, Timed
from profiles.trace.attribution import RangeInstances, instances
from profiles.trace.model import Trace, pid_and_tid

NO_RANGE = "the report has no range of this case"
"""Why the kernels of a case cannot be told where it was not recorded at all."""

LONG_US = 10.0
"""Above this kernel time differences are told as shares of it, below in microseconds."""


@dataclass(frozen=True, eq=False)
class TimedCalls:
    """A run's timed cases and their calls in the report.

    Attributes:
        told: those whose calls were found.
        untold: why others were not.
        recorded: whether the run is the one that was recorded.
        captured: whether its medians were, and not only what it did once more after them.
    """

    told: tuple[tuple[Timed, FoundCalls], ...] = ()
    untold: tuple[UnmatchedCase, ...] = ()
    recorded: bool = False
    captured: bool = False


def timed_calls(trace: Trace, run: Run) -> TimedCalls:
    """Find the calls of every timed case of a run."""
    ranges = {found.label.message: found for found in instances(trace) if found.label and found.label.domain == KERNELS}
    entered = {label.message for label in trace.labels if label.domain == KERNELS}
    told, untold = [], []
    for timed in run.timed:
        found = _found(trace, timed, ranges.get(timed.message))
        if found is not None:
            told.append((timed, found))
        else:
            untold.append(UnmatchedCase(case=timed.key, reason=_reason(timed, timed.message in ranges, entered)))
    recorded = _recorded(run, ranges)
    return TimedCalls(tuple(told), tuple(untold), recorded, captured=recorded and not _replayed(trace, ranges))


def _found(trace: Trace, timed: Timed, ranges: RangeInstances | None) -> FoundCalls | None:
    if ranges is None or timed.calls == 0 or timed.method == "host":
        return None
    return find_calls(trace, ranges, timed.calls, timed.method == "stream")


def _reason(timed: Timed, launched: bool, entered: set[str]) -> str:
    if timed.message not in entered:
        return NO_RANGE
    if not launched:
        return "its ranges hold no kernel: none was launched there, or the process ended before they were saved"
    if timed.method == "host":
        return "it was timed by the CPU's clock"
    if timed.calls == 0:
        return "the run does not hold the samples' number of calls"
    return f"no kernels of its ranges repeat {timed.calls + 1} times in a row"


def _recorded(run: Run, ranges: Mapping[str, RangeInstances]) -> bool:
    """Whether every arm's ranges come from processes that the run says were that arm's workers."""
    seen: dict[str, set[int]] = {}
    for message, found in ranges.items():
        told = TimedRange.read(message)
        # A candidate, ``ARM[LABEL]``, runs in its arm's process.
        arm = "" if told is None else told.arm.partition("[")[0]
        if arm in run.workers:
            seen.setdefault(arm, set()).update(pid_and_tid(int(thread))[0] for thread in np.unique(found.thread))
    return bool(seen) and all(pids <= run.workers[arm] for arm, pids in seen.items())


def _replayed(trace: Trace, ranges: Mapping[str, RangeInstances]) -> bool:
    """Whether the timed cases in the report are those that were done again after the run, none of them before."""
    of_it = [number for number, label in enumerate(trace.labels) if (label.domain, label.message) == (KERNELS, REPLAY)]
    begins = trace.ranges.start_ns[np.isin(trace.ranges.label, of_it)]
    launched = [int(trace.launches.start_ns[found.first].min()) for found in ranges.values()]
    return bool(len(begins)) and min(launched, default=0) >= int(begins.min())


def cross_check(calls: TimedCalls, uncaptured: Run | None = None) -> tuple[CrossCheck, ...]:
    """Every case's medians beside its kernel times.

    Args:
        calls: of the run.
        uncaptured: a run of the same cases that was not recorded; tells what the recording cost.
    """
    others = {timed.key: timed for timed in uncaptured.timed} if uncaptured else {}
    rows = []
    for timed, found in calls.told:
        other = others.get(timed.key)
        rows.append(_row(timed, found, "warm", calls.captured, other.warm_us if other else None))
        if len(found.cold.busy_ns):
            rows.append(_row(timed, found, "cold", calls.captured, other.cold_us if other else None))
    return tuple(rows)


def _row(timed: Timed, found: FoundCalls, cache: Cache, captured: bool, uncaptured_us: float | None) -> CrossCheck:
    samples: Sampled = found.warm if cache == "warm" else found.cold
    run_us = timed.warm_us if cache == "warm" else timed.cold_us
    kernel_us, span_us, wait_us = (
        1e-3 * float(np.median(values)) for values in (samples.busy_ns, samples.span_ns, samples.wait_ns)
    )
    return CrossCheck(
        case=timed.key,
        arm=timed.case.arm,
        operator=timed.case.operator,
        cache=cache,
        captured=captured,
        calls=timed.calls if cache == "warm" else 1,
        samples=len(samples.busy_ns),
        kernels=len(found.kernels),
        run_us=run_us,
        kernel_us=kernel_us,
        span_us=span_us,
        wait_us=wait_us,
        difference_us=run_us - kernel_us - (wait_us if captured else 0.0),
        uncaptured_us=uncaptured_us,
    )


@dataclass(frozen=True)
class TimeAgreement:
    """How far medians are from kernel times.

    Attributes:
        long: cases above `LONG_US`.
        long_share: their median difference without its sign, as a share of the kernel time; NaN without such cases.
        short: the other cases.
        short_us: their median difference without its sign, in microseconds; NaN without such cases.
    """

    long: int
    long_share: float
    short: int
    short_us: float


def agreement(rows: Sequence[CrossCheck], uncaptured: bool = False) -> TimeAgreement:
    """How well kernel times agree with the run's medians, or with those of a run that was not recorded."""
    pairs = [
        (row.kernel_us, row.uncaptured_difference_us if uncaptured else row.difference_us)
        for row in rows
        if not uncaptured or row.uncaptured_us is not None
    ]
    long = [abs(off or 0.0) / kernel for kernel, off in pairs if kernel > LONG_US]
    short = [abs(off or 0.0) for kernel, off in pairs if kernel <= LONG_US]
    return TimeAgreement(len(long), _median(long), len(short), _median(short))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def capture_costs(run: Run, uncaptured: Run) -> tuple[CaptureCost, ...]:
    """By how much recording raised a run's medians, over all cases of both runs, warm and cold."""
    others = {timed.key: timed for timed in uncaptured.timed}
    pairs = [(timed, others[timed.key]) for timed in run.timed if timed.key in others]
    if not pairs:
        return ()
    warm = [here.warm_us / there.warm_us - 1 for here, there in pairs]
    cold = [here.cold_us / there.cold_us - 1 for here, there in pairs]
    return (
        CaptureCost(cache="warm", cases=len(pairs), share=_median(warm)),
        CaptureCost(cache="cold", cases=len(pairs), share=_median(cold)),
    )
