"""Which kernels an arm runs at which M, and where they change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from profiles.analysis.cross_check import TimedCalls
from profiles.analysis.schema import KernelMap, MapEntry
from profiles.run_files.kernels_bench_run import CaseName
from profiles.trace.kernel_names import call_in_words, changes, identity
from profiles.trace.model import Trace


def kernel_maps(trace: Trace, calls: TimedCalls) -> tuple[KernelMap, ...]:
    """For every case of which some call was found, in the order of the run."""
    entries: dict[CaseName, list[MapEntry]] = {}
    for timed, found in calls.told:
        kernels = tuple(trace.kernels[kernel] for kernel in found.kernels)
        entry = MapEntry(load=timed.load, m=timed.m, length=timed.length, kernels=kernels)
        entries.setdefault(timed.case, []).append(entry)
    return tuple(_map(case, sorted(found, key=lambda e: (e.length or 0, e.m))) for case, found in entries.items())


def _map(case: CaseName, entries: Sequence[MapEntry]) -> KernelMap:
    return KernelMap(
        case=case.key,
        arm=case.arm,
        operator=case.operator,
        shape=f"{case.shape} {case.precision}",
        entries=tuple(entries),
        edges=tuple(_edges(entries)),
    )


def _edges(entries: Sequence[MapEntry]) -> Iterator[str]:
    """Between neighbouring M of one length; that only the grid grows is no edge."""
    for before, after in pairwise(entries):
        if before.length == after.length and identity(before.kernels) != identity(after.kernels):
            where = f"M={before.m}→{after.m}" + (f", length {before.length}" if before.length else "")
            names = [call_in_words(entry.kernels) for entry in (before, after)]
            if names[0] != names[1]:
                yield f"{where}: {names[0]} → {names[1]}"
            else:
                yield f"{where}: {'; '.join(changes(before.kernels, after.kernels))}"
