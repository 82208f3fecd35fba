"""Time covered by intervals that may overlap, and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profiles.trace.model import Array


@dataclass(frozen=True, eq=False)
class Coverage:
    """Of several groups of intervals, one value each; all but ``gaps_ns`` are ``(groups,)``.

    Attributes:
        busy_ns: covered by at least one interval.
        span_ns: from the first start to the last end.
        gaps_ns: every gap between covered stretches, over all groups, in order.
    """

    busy_ns: Array
    span_ns: Array
    gaps_ns: Array


def coverage(start_ns: Array, end_ns: Array, first: Array) -> Coverage:
    """Merge the intervals of each group.

    Args:
        start_ns: starts, ``(n,)``.
        end_ns: ends, none before its start, ``(n,)``.
        first: where each group begins in them, ``(groups + 1,)``; no group is empty.
    """
    sizes = np.diff(first)
    if not len(sizes):
        nothing = np.zeros(0, dtype=np.int64)
        return Coverage(nothing, nothing, nothing)
    begins = np.minimum.reduceat(start_ns, first[:-1])
    spans = np.maximum.reduceat(end_ns, first[:-1]) - begins
    # Each group is moved behind the one before, so that a running maximum never reaches into another group.
    moved = np.repeat(np.cumsum(spans) - spans - begins, sizes)
    group = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((start_ns, group))
    starts, ends = (start_ns + moved)[order], (end_ns + moved)[order]
    covered = np.maximum.accumulate(ends)
    gaps = starts[1:] - covered[:-1]
    # A group's first interval starts where the group before it ends: that is never a gap.
    between = np.flatnonzero((gaps > 0) & (group[order][1:] == group[order][:-1]))
    idle = np.bincount(group[order][1:][between], weights=gaps[between], minlength=len(sizes)).astype(np.int64)
    return Coverage(spans - idle, spans, gaps[between])
