"""Which work belongs to which range: that whose launch lies inside the range, on the range's thread.

Nested ranges each count it, as `nvtx_kern_sum` and `nvtx_gpu_proj_sum` of nsys do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from profiles.trace.model import Array, Label, Trace


@dataclass(frozen=True, eq=False)
class RangeInstances:
    """The ranges of one label that launched something, by start; all arrays are ``(n,)``.

    Attributes:
        label: what they are called; None stands for what no range encloses, of one thread.
        range_ns: from entering to leaving.
        thread: `profiles.trace.model.thread_id`.
        first: place of their first launch.
        last: place after their last launch.
    """

    label: Label | None
    range_ns: Array
    thread: Array
    first: Array
    last: Array

    def __len__(self) -> int:
        return len(self.first)


@lru_cache(1)
def instances(trace: Trace) -> tuple[RangeInstances, ...]:
    """For each label, its ranges that launched something, in the order of the trace's labels.

    Each part of an analysis asks for them, so those of the last report are kept.
    """
    first, last = launches_within(trace)
    used = np.flatnonzero(last > first)
    by_label = used[np.argsort(trace.ranges.label[used], kind="stable")]
    bounds = np.searchsorted(trace.ranges.label[by_label], np.arange(len(trace.labels) + 1))
    found = []
    for number, label in enumerate(trace.labels):
        chosen = by_label[bounds[number] : bounds[number + 1]]
        lengths = trace.ranges.end_ns[chosen] - trace.ranges.start_ns[chosen]
        if len(chosen):
            found.append(RangeInstances(label, lengths, trace.ranges.thread[chosen], first[chosen], last[chosen]))
    return tuple(found)


def outside(trace: Trace) -> list[RangeInstances]:
    """What no range encloses, for each thread: every launch is an instance of its own."""
    first, last = launches_within(trace)
    steps = np.zeros(len(trace.launches) + 1, dtype=np.int64)
    np.add.at(steps, first, 1)
    np.add.at(steps, last, -1)
    alone = np.flatnonzero(np.cumsum(steps)[:-1] == 0)
    threads = trace.launches.thread[alone]
    return [
        RangeInstances(None, np.zeros(len(places), dtype=np.int64), trace.launches.thread[places], places, places + 1)
        for thread in np.unique(threads)
        for places in [alone[threads == thread]]
    ]


def launches_within(trace: Trace) -> tuple[Array, Array]:
    """For each range, the place of its first launch and the one after its last, ``(ranges,)`` each."""
    ranges, launches = trace.ranges, trace.launches
    first, last = np.zeros(len(ranges), dtype=np.int64), np.zeros(len(ranges), dtype=np.int64)
    for thread in np.unique(ranges.thread):
        begin, end = np.searchsorted(launches.thread, [thread, thread + 1])
        of_it = np.flatnonzero(ranges.thread == thread)
        # Calls of a thread nest, so that ends hardly ever fall; a range is never left inside of a call.
        ends = np.maximum.accumulate(launches.end_ns[begin:end])
        first[of_it] = begin + np.searchsorted(launches.start_ns[begin:end], ranges.start_ns[of_it], "left")
        last[of_it] = begin + np.searchsorted(ends, ranges.end_ns[of_it], "right")
    return first, np.maximum(first, last)


def works(trace: Trace, found: RangeInstances) -> Iterator[slice]:
    """The work of each instance, as places in the trace's."""
    bounds = trace.launches.first
    for first, last in zip(bounds[found.first], bounds[found.last], strict=True):
        yield slice(int(first), int(last))


def gathered(trace: Trace, found: RangeInstances) -> tuple[Array, Array]:
    """Places of all work, instance after instance, ``(n,)``, and where each instance begins, ``(instances + 1,)``."""
    begins, ends = trace.launches.first[found.first], trace.launches.first[found.last]
    bounds = np.concatenate([[0], np.cumsum(ends - begins)])
    places = np.arange(bounds[-1]) + np.repeat(begins - bounds[:-1], ends - begins)
    return places, bounds
