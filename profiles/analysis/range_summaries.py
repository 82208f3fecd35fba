"""What ran in the ranges of each label: launches, kernels by form, busy time, span and gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from profiles.analysis.schema import KernelUse, RangeSummary, Spread
from profiles.trace.attribution import RangeInstances, gathered, instances, outside
from profiles.trace.intervals import coverage
from profiles.trace.model import Array, Label, Trace, pid_and_tid

NO_RANGE = Label("", "")


def summarise(trace: Trace) -> tuple[RangeSummary, ...]:
    """Every label, those with the most busy time first; what no range encloses comes last."""
    within = [_summary(trace, [found]) for found in instances(trace)]
    rest = outside(trace)
    return (*sorted(within, key=lambda one: -one.busy_ns), *([_summary(trace, rest)] if rest else []))


def spread(values: Array) -> Spread:
    """Of at least one duration."""
    return Spread(
        count=len(values),
        total_ns=int(values.sum()),
        average_ns=float(values.mean()),
        median_ns=float(np.median(values)),
        min_ns=int(values.min()),
        max_ns=int(values.max()),
        deviation_ns=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    )


def _summary(trace: Trace, parts: Sequence[RangeInstances]) -> RangeSummary:
    """Of one label, or of what is outside of all, a part for each thread."""
    label = parts[0].label or NO_RANGE
    places, bounds = _concatenated([gathered(trace, part) for part in parts])
    work, kinds = trace.work, np.array([kernel.kind for kernel in trace.kernels])
    covered = coverage(work.start_ns[places], work.end_ns[places], bounds)
    kind = kinds[work.kernel[places]]
    uses = [use for part in parts for use in kernel_uses(trace, part, np.arange(len(trace.kernels)))]
    return RangeSummary(
        domain=label.domain,
        message=label.message,
        style=label.style if parts[0].label else "",
        ranges=sum(len(part) for part in parts) if parts[0].label else 0,
        range_ns=sum(int(part.range_ns.sum()) for part in parts),
        launches=sum(int((part.last - part.first).sum()) for part in parts),
        kernels=int(np.count_nonzero((kind == "kernel") | (kind == "operator"))),
        copies=int(np.count_nonzero(kind == "copy")),
        fills=int(np.count_nonzero(kind == "fill")),
        busy_ns=int(covered.busy_ns.sum()),
        span=spread(covered.span_ns),
        gaps=len(covered.gaps_ns),
        gap_ns=int(covered.gaps_ns.sum()),
        longest_gap_ns=int(covered.gaps_ns.max(initial=0)),
        uses=tuple(sorted(uses, key=lambda use: -use.time.total_ns)),
    )


def _concatenated(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Several threads' places and bounds as one."""
    places = np.concatenate([part for part, _ in parts])
    sizes = np.concatenate([np.diff(bounds) for _, bounds in parts])
    return places, np.concatenate([[0], np.cumsum(sizes)])


def kernel_uses(trace: Trace, found: RangeInstances, group: Array) -> Iterator[KernelUse]:
    """Each thread's kernels.

    Args:
        trace: the report.
        found: ranges of one label.
        group: for each of the trace's kernels, the number of those that it is counted with, ``(kernels,)``.
    """
    places, bounds = gathered(trace, found)
    kernel = trace.work.kernel[places]
    instance = np.repeat(np.arange(len(found)), np.diff(bounds))
    duration = trace.work.end_ns[places] - trace.work.start_ns[places]
    threads, thread = np.unique(found.thread, return_inverse=True)
    key = thread[instance] * len(group) + group[kernel]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order], prepend=-1))
    for chosen in np.split(order, edges[1:]) if len(order) else ():
        pid, tid = pid_and_tid(int(threads[thread[instance[chosen[0]]]]))
        yield KernelUse(
            kernel=trace.kernels[kernel[chosen[0]]],
            pid=pid,
            tid=tid,
            ranges=len(np.unique(instance[chosen])) if found.label else 0,
            time=spread(duration[chosen]),
        )
