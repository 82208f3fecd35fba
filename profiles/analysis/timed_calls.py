"""The calls of a timed case, found among everything that ran in its ranges.

kernels_bench replays graphs there.  A warm one holds a call that is not read, so many calls back to back, and kernels
that spin: gauges of the clock and of the events.  A cold one holds, several times over, reads of other data and one
call.  Neither is announced by a range of its own, so they are told by their form: a warm sample is one sequence of
kernels repeated ``calls + 1`` times, and that sequence ends every round of a cold one.  Where a call cannot be
captured, the same stands between two spins on a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from profiles.trace.attribution import RangeInstances, works
from profiles.trace.intervals import coverage
from profiles.trace.model import Array, Trace

GAUGE = "spin_kernel"
"""torch's kernel that occupies a stream: a gauge, no part of what is timed."""

_MOST_ROUNDS = 6

Mask = npt.NDArray[np.bool_]

Sequence = tuple[int, ...]
"""Kernels, as places in the trace's."""


@dataclass(frozen=True, eq=False)
class ReplaySegment:
    """What ran in one replay, or between two spins on a stream, gauges left out.

    Attributes:
        places: of the work, by start, ``(n,)``.
        kernels: what each was.
        gauge_gap_ns: the gap between two gauges that follow it, which is what an event takes; 0 without.
    """

    places: Array
    kernels: Sequence
    gauge_gap_ns: float


@dataclass(frozen=True, eq=False)
class Sampled:
    """Calls of one kind; all arrays are ``(samples,)`` and in nanoseconds a call.

    Attributes:
        busy_ns: covered by kernels, copies or fills.
        span_ns: from the first start to the last end.
        wait_ns: before the first start, beyond what an event takes.
    """

    busy_ns: npt.NDArray[np.float64]
    span_ns: npt.NDArray[np.float64]
    wait_ns: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FoundCalls:
    """A timed case's calls.

    Attributes:
        kernels: of one call, in the order of their starts.
        warm: back to back.
        cold: each after reads of other data; empty where none was found.
    """

    kernels: Sequence
    warm: Sampled
    cold: Sampled


def find_calls(trace: Trace, found: RangeInstances, calls: int, eager: bool) -> FoundCalls | None:
    """The calls in the ranges of a timed case, None where they cannot be told.

    Args:
        trace: the report.
        found: the case's ranges.
        calls: calls of a warm sample.
        eager: whether they were launched on a stream, not replayed.
    """
    gauges = np.array([kernel.name == GAUGE for kernel in trace.kernels])
    stretches = [one for part in works(trace, found) for one in (_eager if eager else _replays)(trace, part, gauges)]
    warm = _warm_form(stretches, calls + 1)
    if warm is None:
        return None
    size = len(warm) // (calls + 1)
    call = warm[:size]
    of_warm = [(one, [(size, len(warm))]) for one in stretches if one.kernels == warm]
    # On a stream nothing is replayed first, so that the only round counts.
    of_cold = [(one, _rounds(one.kernels, call, 0 if eager else 1)) for one in stretches if one.kernels != warm]
    return FoundCalls(call, _sampled(trace, of_warm, calls), _sampled(trace, of_cold, 1))


def _replays(trace: Trace, part: slice, is_gauge: Mask) -> Iterator[ReplaySegment]:
    """Every graph's replay, by launch."""
    bounds = trace.launches.first
    first, last = np.searchsorted(bounds, [part.start, part.stop])
    for begin, end in zip(bounds[first:last], bounds[first + 1 : last + 1], strict=True):
        if trace.work.in_graph[begin]:
            places = np.arange(begin, end)
            gauges = is_gauge[trace.work.kernel[places]]
            if not gauges.all():
                yield _stretch(trace, places[~gauges], places[gauges])


def _eager(trace: Trace, part: slice, is_gauge: Mask) -> Iterator[ReplaySegment]:
    """What was launched on a stream between two gauges."""
    places = np.arange(part.start, part.stop)
    places = places[~trace.work.in_graph[places]]
    places = places[np.argsort(trace.work.start_ns[places], kind="stable")]
    spins = np.flatnonzero(is_gauge[trace.work.kernel[places]])
    for begin, end in pairwise(spins.tolist()):
        if end > begin + 1:
            yield _stretch(trace, places[begin + 1 : end], places[:0])


def _stretch(trace: Trace, places: Array, gauges: Array) -> ReplaySegment:
    gaps = trace.work.start_ns[gauges[1:]] - trace.work.end_ns[gauges[:-1]]
    kernels = tuple(trace.work.kernel[places].tolist())
    return ReplaySegment(places, kernels, float(np.median(gaps)) if len(gaps) else 0.0)


def _warm_form(stretches: list[ReplaySegment], times: int) -> Sequence | None:
    """The form of a warm sample: of those that are one sequence so many times over, the shortest.

    A cold one may be that too, but holds the reads of other data besides the calls.
    """
    forms = {one.kernels for one in stretches if _repeats(one.kernels, times)}
    return min(forms, key=lambda form: (len(form), form), default=None)


def _repeats(kernels: Sequence, times: int) -> bool:
    size, rest = divmod(len(kernels), times)
    return size > 0 and rest == 0 and kernels == kernels[:size] * times


def _rounds(kernels: Sequence, call: Sequence, unread: int) -> list[tuple[int, int]]:
    """Where the calls of a cold sample lie: at the end of every round, the first of which may not be read."""
    for times in range(_MOST_ROUNDS, unread, -1):
        size = len(kernels) // times
        if size > len(call) and _repeats(kernels, times) and kernels[size - len(call) : size] == call:
            return [((one + 1) * size - len(call), (one + 1) * size) for one in range(unread, times)]
    return []


def _sampled(trace: Trace, found: list[tuple[ReplaySegment, list[tuple[int, int]]]], calls: int) -> Sampled:
    """Samples that lie at some places of some stretches."""
    work = trace.work
    samples = [(one, begin, end) for one, places in found for begin, end in places]
    places = np.concatenate([one.places[begin:end] for one, begin, end in samples]) if samples else _NONE
    bounds = np.concatenate([[0], np.cumsum([end - begin for _, begin, end in samples], dtype=np.int64)])
    covered = coverage(work.start_ns[places], work.end_ns[places], bounds)
    waits = [
        max(0.0, float(work.start_ns[one.places[begin]] - work.end_ns[one.places[begin - 1]]) - one.gauge_gap_ns)
        if one.gauge_gap_ns
        else 0.0
        for one, begin, _ in samples
    ]
    wait_ns = np.array(waits, dtype=np.float64)
    return Sampled(covered.busy_ns / calls, covered.span_ns / calls, wait_ns / calls)


_NONE: Array = np.zeros(0, dtype=np.int64)
