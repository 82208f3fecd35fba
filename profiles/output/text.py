"""An analysis in words, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from profiles.analysis.cross_check import LONG_US, agreement
from profiles.analysis.schema import (
    Analysis,
    ArmFamilies,
    CrossCheck,
    Explanation,
    FamilyDifference,
    KernelMap,
    RangeSummary,
    RankWaits,
)

_MOST_RANGES, _MOST_ROWS, _MOST_WAITING = 12, 10, 8


def in_words(analysis: Analysis) -> Iterator[str]:
    """Lines to print."""
    yield f"{analysis.report}: {analysis.source}"
    yield from (f"- {note}" for note in analysis.notes)
    yield from _ranges(analysis.ranges)
    if analysis.cross_check or analysis.untold:
        yield from ["", "medians of the run, and kernel time of the same calls in the report"]
        yield from _agreement(analysis.cross_check)
        yield from (
            f"{one.cache}: recording raised the medians of {one.cases} cases by {one.share:.1%} (median)"
            for one in analysis.capture_costs
        )
        yield from _untold(analysis)
    yield from _edges(analysis.kernel_maps)
    yield from _explained(analysis.explanations)
    yield from _arms(analysis.families)
    yield from _apart(analysis.differences)
    yield from waits_in_words(analysis.waits)


def _ranges(ranges: Sequence[RangeSummary]) -> Iterator[str]:
    if not ranges:
        yield "nothing ran in it"
        return
    yield from ["", f"{'busy ms':>10} {'span ms':>10} {'launches':>9} {'kernels':>9}  range"]
    for one in ranges[:_MOST_RANGES]:
        busy, span = one.busy_ns / 1e6, one.span.total_ns / 1e6
        yield f"{busy:>10.3f} {span:>10.3f} {one.launches:>9} {one.kernels:>9}  {one.text or '(outside of all ranges)'}"
    if len(ranges) > _MOST_RANGES:
        yield f"{'':>42}and {len(ranges) - _MOST_RANGES} more: --csv, --json"


def _agreement(rows: Sequence[CrossCheck]) -> Iterator[str]:
    for cache in ("warm", "cold"):
        of_it = [row for row in rows if row.cache == cache]
        if not of_it:
            continue
        about = "captured run" if of_it[0].captured else "run"
        yield f"{cache}, {about}: {agreement_in_words(of_it)}"
        if any(row.uncaptured_us is not None for row in of_it):
            yield f"{cache}, without the profiler: {agreement_in_words(of_it, uncaptured=True)}"


def agreement_in_words(rows: Sequence[CrossCheck], uncaptured: bool = False) -> str:
    """How well rows agree, in a line."""
    found = agreement(rows, uncaptured)
    parts = []
    if not math.isnan(found.long_share):
        parts.append(f"{found.long_share:.2%} off (median of {found.long} above {LONG_US:g} µs)")
    if not math.isnan(found.short_us):
        parts.append(f"{found.short_us:.3f} µs off (median of {found.short} up to {LONG_US:g} µs)")
    return ", ".join(parts) or "no case in common"


def _untold(analysis: Analysis) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for one in analysis.untold:
        reasons.setdefault(one.reason, []).append(one.case)
    for reason, cases in reasons.items():
        yield f"not told, {len(cases)} cases: {reason} (such as {cases[0]})"


def _edges(maps: Sequence[KernelMap]) -> Iterator[str]:
    if maps:
        yield from ["", "kernels by M"]
    for one in maps:
        for number, edge in enumerate(one.edges):
            yield f"{one.case + ':' if number == 0 else '':<30} {edge}"
    same = [one.case for one in maps if not one.edges]
    if same:
        yield f"the same kernels at every M timed: {', '.join(same)}"


def _explained(explanations: Sequence[Explanation]) -> Iterator[str]:
    if explanations:
        yield from ["", "why bits changed"]
    for one in explanations:
        sides = f"M={one.reference.size} ({one.reference.company}) against M={one.company.size} ({one.company.company})"
        yield f"{one.case}, {one.relation}: {sides}: {one.found}"
        yield from (f"    {change}" for change in one.changes)
        yield f"    ({one.basis})"


def _arms(arms: Sequence[ArmFamilies]) -> Iterator[str]:
    for arm in arms:
        how = "" if arm.joined == "launch" else "; by time, since other processes launched it"
        yield ""
        yield f"{arm.arm}, {arm.phase}: {arm.total_ns / 1e6:.3f} ms on the GPU in {arm.ranges} ranges{how}"
        for one in arm.families:
            yield f"{one.time_ns / 1e6:>12.3f} ms {one.share:>6.1%} {one.kernels:>9}  {one.family}"
        if arm.other:
            yield f"    other: {', '.join(arm.other[:_MOST_ROWS])}"


def _apart(differences: Sequence[FamilyDifference]) -> Iterator[str]:
    if differences:
        yield from ["", "a range's GPU time against the baseline, largest difference first"]
    for one in differences[:_MOST_ROWS]:
        phase = "" if one.phase == "trial" else f" ({one.phase})"
        yield f"{one.difference_ns / 1e6:>+12.3f} ms  {one.family}: {one.arm} against {one.baseline}{phase}"


def waits_in_words(waits: Sequence[RankWaits]) -> Iterator[str]:
    """Which rank waited for which, those that were waited for longest first."""
    if waits:
        yield from ["", "which rank waited for which"]
    for one in waits:
        yield f"{one.what}: {one.calls} calls, {one.call_ns / 1e3:.1f} \N{MICRO SIGN}s each (median)"
        for number, rank in sorted(enumerate(one.ranks), key=lambda each: -each[1].waited_for_ns):
            waited = [(other.waited_for[number], other.name) for other in one.ranks if other.waited_for[number]]
            told = ", ".join(f"{name} {ns / 1e6:.3f} ms" for ns, name in sorted(waited, reverse=True)[:_MOST_WAITING])
            yield f"    {rank.name} came last {rank.last} times" + (f"; for it waited {told}" if told else "")
