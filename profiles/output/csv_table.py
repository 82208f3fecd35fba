"""A report's ranges as CSV: one line for each kernel form of each label."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from profiles.analysis.schema import KernelUse, RangeSummary
from profiles.text import inert_cell


def _size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))


COLUMNS: Mapping[str, tuple[str, Callable[[RangeSummary, KernelUse], object]]] = {
    "range": ("domain:message of the ranges; empty outside of all", lambda r, _: r.text),
    "style": ("PushPop or StartEnd", lambda r, _: r.style),
    "ranges": ("ranges of that label that launched something", lambda r, _: r.ranges),
    "range_ns": ("host's time within them", lambda r, _: r.range_ns),
    "launches": ("calls that launched something; a graph's replay is one", lambda r, _: r.launches),
    "busy_ns": ("GPU time in them covered by kernels, copies or fills, overlaps merged", lambda r, _: r.busy_ns),
    "span_ns": (
        "from the first start to the last end on the GPU, summed over the ranges",
        lambda r, _: r.span.total_ns,
    ),
    "gap_ns": ("span_ns less busy_ns", lambda r, _: r.gap_ns),
    "pid": ("process that launched this kernel", lambda _, u: u.pid),
    "tid": ("thread that launched it", lambda _, u: u.tid),
    "kind": ("kernel, copy or fill", lambda _, u: u.kernel.kind),
    "kernel": ("its name", lambda _, u: u.kernel.name),
    "full_name": ("its name with template arguments", lambda _, u: u.kernel.full_name),
    "grid": ("blocks along x, y and z", lambda _, u: _size(u.kernel.grid)),
    "block": ("threads of a block along x, y and z", lambda _, u: _size(u.kernel.block)),
    "registers": ("of a thread", lambda _, u: u.kernel.registers),
    "in_ranges": ("in how many of the ranges it ran", lambda _, u: u.ranges),
    "instances": ("how often it ran", lambda _, u: u.time.count),
    "total_ns": ("its durations together", lambda _, u: u.time.total_ns),
    "average_ns": ("mean duration", lambda _, u: round(u.time.average_ns, 1)),
    "median_ns": ("median duration", lambda _, u: u.time.median_ns),
    "min_ns": ("shortest duration", lambda _, u: u.time.min_ns),
    "max_ns": ("longest duration", lambda _, u: u.time.max_ns),
    "deviation_ns": ("standard deviation of the durations", lambda _, u: round(u.time.deviation_ns, 1)),
}
"""Each column's meaning, and its value."""


def write_csv(ranges: Iterable[RangeSummary], file: TextIO) -> None:
    """Write `COLUMNS` and a line for each kernel form; the columns up to ``gap_ns`` repeat those of the label."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in ranges:
        for use in one.uses:
            writer.writerow([inert_cell(value(one, use)) for _, value in COLUMNS.values()])
