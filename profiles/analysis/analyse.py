"""A report, and the run beside it, made into an `Analysis`."""

from __future__ import annotations

from pathlib import Path

from profiles.analysis.batch_calls import company_calls
from profiles.analysis.cross_check import NO_RANGE, TimedCalls, capture_costs, cross_check, timed_calls
from profiles.analysis.kernels.explanations import explanations
from profiles.analysis.kernels.families import arm_families, differences
from profiles.analysis.kernels.maps import kernel_maps
from profiles.analysis.origin import origin
from profiles.analysis.range_summaries import summarise
from profiles.analysis.schema import Analysis
from profiles.analysis.waits import rank_waits
from profiles.capture.nsys import exported
from profiles.errors import ReportError
from profiles.instruments.range_names import KERNELS
from profiles.run_files.kernels_bench_run import Run, read_run
from profiles.trace.ascend_sqlite import is_ascend_database, read_ascend
from profiles.trace.model import Trace
from profiles.trace.nsight_sqlite import read_sqlite
from profiles.trace.torch_json import is_torch_trace, read_torch_trace


def read_report(path: Path) -> Trace:
    """A report of any kind that is known.

    Raises:
        ReportError: it cannot be read; the message says why.
    """
    if not path.is_file():
        raise ReportError(f"{path}: no such file")
    if path.suffix == ".qdstrm":
        raise ReportError(f"{path} was never imported: have nsys' QdstrmImporter make a .nsys-rep of it (needs libdw1)")
    if is_torch_trace(path):
        return read_torch_trace(path)
    if is_ascend_database(path):
        return read_ascend(path)
    return read_sqlite(exported(path) if path.suffix == ".nsys-rep" else path)


def analyse(report: Path, run: Path | None = None, uncaptured: Path | None = None) -> Analysis:
    """Everything that is found out.

    Args:
        report: ``.nsys-rep``, its SQLite export, a trace of torch's profiler, or a database of torch_npu's.
        run: the kernels_bench run that was recorded.
        uncaptured: a run of the same cases that was not recorded.

    Raises:
        ReportError: one of them cannot be read.
    """
    beside = read_run(run) if run else None
    other = read_run(uncaptured) if uncaptured else None
    trace = read_report(report)
    calls = timed_calls(trace, beside) if beside else TimedCalls()
    maps = kernel_maps(trace, calls)
    families = arm_families(trace)
    whence, damaged = origin(report, run)
    return Analysis(
        source=trace.source,
        report=report.name,
        origin=whence,
        notes=(*trace.notes, *damaged, *(_notes(beside, calls) if beside else ())),
        ranges=summarise(trace),
        cross_check=cross_check(calls, other),
        untold=calls.untold,
        capture_costs=capture_costs(beside, other) if beside and other and calls.recorded else (),
        kernel_maps=maps,
        explanations=explanations(beside, maps, company_calls(trace)) if beside else (),
        families=families,
        differences=differences(families),
        waits=rank_waits(trace),
    )


def _notes(run: Run, calls: TimedCalls) -> list[str]:
    """What the run's reader must know."""
    if not calls.told and all(one.reason == NO_RANGE for one in calls.untold):
        return [f"{run.path} and the report have no timed case in common (ranges of domain {KERNELS})"]
    if calls.recorded or not calls.told:
        return []
    return [
        f"{run.path} is not the run that was recorded: its workers had other process ids; cases are told only where "
        "both took as many calls a sample"
    ]
