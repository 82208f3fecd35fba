"""Busy time, spans and gaps against a count of covered nanoseconds."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiles.trace.intervals import Coverage, coverage

Group = list[tuple[int, int]]

intervals = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
groups = st.lists(st.lists(intervals, min_size=1, max_size=8), max_size=6)


def measured(found: list[Group], shift: int = 0) -> Coverage:
    flat = [(start + shift, end + shift) for group in found for start, end in group]
    starts, ends = (np.array([one[side] for one in flat], dtype=np.int64) for side in (0, 1))
    return coverage(starts, ends, np.cumsum([0, *map(len, found)]))


def covered(group: Group) -> list[bool]:
    """Whether each nanosecond from the first start to the last end is covered."""
    first, last = min(start for start, _ in group), max(end for _, end in group)
    return [any(start <= ns < end for start, end in group) for ns in range(first, last)]


@given(groups)
def test_every_covered_nanosecond_counts_once(found: list[Group]) -> None:
    result = measured(found)
    assert result.busy_ns.tolist() == [sum(covered(group)) for group in found]
    assert result.span_ns.tolist() == [len(covered(group)) for group in found]


@given(st.lists(intervals.filter(lambda one: one[1] > one[0]), min_size=1, max_size=8))
def test_gaps_are_the_stretches_that_nothing_covers(group: Group) -> None:
    expected = [len(list(same)) for busy, same in groupby(covered(group)) if not busy]
    assert measured([group]).gaps_ns.tolist() == expected


@given(groups, st.integers(0, 2**60))
def test_where_the_clock_began_does_not_matter(found: list[Group], shift: int) -> None:
    here, there = measured(found), measured(found, shift)
    assert here.busy_ns.tolist() == there.busy_ns.tolist()
    assert here.gaps_ns.tolist() == there.gaps_ns.tolist()


@given(groups.flatmap(lambda found: st.tuples(st.just(found), st.tuples(*map(st.permutations, found)))))
def test_the_order_within_a_group_does_not_matter(both: tuple[list[Group], tuple[Group, ...]]) -> None:
    here, there = measured(both[0]), measured(list(both[1]))
    assert here.busy_ns.tolist() == there.busy_ns.tolist()
    assert here.gaps_ns.tolist() == there.gaps_ns.tolist()


@given(groups)
def test_groups_do_not_touch_each_other(found: list[Group]) -> None:
    together = measured(found)
    alone = [measured([group]) for group in found]
    assert together.busy_ns.tolist() == [int(one.busy_ns[0]) for one in alone]
    assert together.gaps_ns.tolist() == [gap for one in alone for gap in one.gaps_ns.tolist()]
