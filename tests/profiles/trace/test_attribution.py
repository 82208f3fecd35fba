"""Which work belongs to which range, against the sentence that defines it, over made-up threads."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiles.analysis.range_summaries import summarise
from profiles.trace.attribution import gathered, instances, outside, works
from profiles.trace.model import Kernel, Label, RawLaunches, RawWork, Spans, Trace, Work, joined, thread_id

THREADS = (thread_id(1, 1), thread_id(1, 2), thread_id(2, 1))
KERNELS = (Kernel("a", "a"), Kernel("b", "b"), Kernel("copy", "copy", "copy"))

moments = st.integers(0, 40)
stretches = st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))
ranges_ = st.lists(st.tuples(st.sampled_from(THREADS), stretches, st.integers(0, 2)), max_size=8)
# A thread makes one call after the other: call number n takes place at 2 n.
calls_ = st.lists(st.tuples(st.sampled_from(THREADS), st.integers(0, 20)), unique=True, max_size=12)
work_ = st.lists(st.tuples(st.integers(0, 15), stretches, st.integers(0, 2)), max_size=20)

Range = tuple[int, tuple[int, int], int]
Call = tuple[int, int]
Done = tuple[int, tuple[int, int], int]


def trace_of(ranges: list[Range], calls: list[Call], work: list[Done]) -> Trace:
    """Work whose number of a call is not among the calls has no launch."""

    def column(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, dtype=np.int64)

    ranges = sorted(ranges, key=lambda one: one[1][0])
    processes = [calls[call][0] >> 24 << 24 if call < len(calls) else 0 for call, _, _ in work]
    raw = RawWork(
        column(processes),
        column([call for call, _, _ in work]),
        Work(
            column([start for _, (start, _), _ in work]),
            column([end for _, (_, end), _ in work]),
            column([kernel for _, _, kernel in work]),
            np.zeros(len(work), dtype=bool),
        ),
    )
    made = RawLaunches(
        column([2 * at for _, at in calls]),
        column([2 * at + 1 for _, at in calls]),
        column([thread for thread, _ in calls]),
        column(list(range(len(calls)))),
    )
    done, launches, lost = joined(raw, made)
    assert lost == sum(call >= len(calls) for call, _, _ in work)
    spans = Spans(
        column([start for _, (start, _), _ in ranges]),
        column([end for _, (_, end), _ in ranges]),
        column([thread for thread, _, _ in ranges]),
        column([label for _, _, label in ranges]),
    )
    return Trace("made", KERNELS, done, launches, spans, tuple(Label("", f"range {n}") for n in range(3)))


def within(one: Range, call: Call) -> bool:
    thread, (start, end), _ = one
    return call[0] == thread and start <= 2 * call[1] and 2 * call[1] + 1 <= end


def forms(trace: Trace, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Counter[tuple[int, int, int]]:
    work = trace.work
    chosen = zip(work.start_ns[places], work.end_ns[places], work.kernel[places], strict=True)
    return Counter((int(start), int(end), int(kernel)) for start, end, kernel in chosen)


@given(ranges_, calls_, work_)
def test_a_launch_belongs_to_every_range_around_it(ranges: list[Range], calls: list[Call], work: list[Done]) -> None:
    trace = trace_of(ranges, calls, work)
    found = {one.label.message: forms(trace, gathered(trace, one)[0]) for one in instances(trace) if one.label}
    expected = {
        f"range {label}": Counter(
            (*stretch, kernel)
            for one in ranges
            if one[2] == label
            for call, stretch, kernel in work
            if call < len(calls) and within(one, calls[call])
        )
        for label in range(3)
    }
    assert found == {name: counted for name, counted in expected.items() if counted}


@given(ranges_, calls_, work_)
def test_what_no_range_encloses_is_outside(ranges: list[Range], calls: list[Call], work: list[Done]) -> None:
    trace = trace_of(ranges, calls, work)
    found: Counter[tuple[int, int, int]] = Counter()
    for one in outside(trace):
        found += forms(trace, gathered(trace, one)[0])
    assert found == Counter(
        (*stretch, kernel)
        for call, stretch, kernel in work
        if call < len(calls) and not any(within(one, calls[call]) for one in ranges)
    )


@given(ranges_, calls_, work_)
def test_works_and_gathered_are_the_same_places(ranges: list[Range], calls: list[Call], work: list[Done]) -> None:
    trace = trace_of(ranges, calls, work)
    for one in instances(trace):
        places, bounds = gathered(trace, one)
        slices = [(part.start, part.stop) for part in works(trace, one)]
        assert [places[a:b].tolist() for a, b in pairwise(bounds)] == [list(range(*part)) for part in slices]


@given(ranges_, calls_, work_)
def test_summaries_count_all_of_it(ranges: list[Range], calls: list[Call], work: list[Done]) -> None:
    trace = trace_of(ranges, calls, work)
    for one in summarise(trace):
        assert one.kernels + one.copies == sum(use.time.count for use in one.uses)
        assert one.busy_ns + one.gap_ns == one.span.total_ns
