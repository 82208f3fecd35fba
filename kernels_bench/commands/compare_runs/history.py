"""``history``: many runs in the order of time, and what changed from each to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kernels_bench.commands.compare_runs.comparison import RunComparison, RunRead, compare, read_run
from kernels_bench.commands.report import summary_of
from kernels_bench.console.errors import UsageError
from kernels_bench.console.printing import NOTHING
from kernels_bench.records.latest_records import LatestRecords, median_us
from kernels_bench.records.manifest import read_manifest
from kernels_bench.report.columns import not_offered
from kernels_bench.report.sentences import ratio_text
from kernels_bench.report.summary.schema import ArmSummary, Verdict
from profiles.run_files.record import Record


class ArmThen(Record):
    """An arm in one run.

    Attributes:
        kept: in how many cases it kept its bits.
        examined: of how many.
        speed: geometric mean of the default arm's time over its own; None where it was not timed, or is that arm.
    """

    kept: int
    examined: int
    speed: float | None


class CaseThen(Record):
    """One case of one arm in one run.

    Attributes:
        verdict: None where it was not verified.
        warm_us: median microseconds of a call with a warm L2, by load such as ``16`` (M) or ``4x129``.
    """

    verdict: Verdict | None
    warm_us: dict[str, float]


class Entry(Record):
    """One run among others.

    Attributes:
        directory: of the run.
        created: when it was begun.
        device: its name.
        arms: by name.
        cases: by key, such as ``torch/mm/4096x4096/bf16``.
        since: what changed since the run before; None of the first one.
    """

    directory: str
    created: str
    device: str
    arms: dict[str, ArmThen]
    cases: dict[str, CaseThen]
    since: RunComparison | None


def history(directories: Sequence[Path]) -> tuple[Entry, ...]:
    """Runs in the order in which they were begun.

    Raises:
        UsageError: one run is named twice.
        ResultsError: one of the directories is no run, or is damaged.
    """
    places = [directory.resolve() for directory in directories]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UsageError(f"{twice} is named twice")
    ordered = sorted(directories, key=lambda directory: (read_manifest(directory).created, str(directory)))
    return tuple(_entries(ordered))


def _entries(ordered: Sequence[Path]) -> Iterator[Entry]:
    """No more than two runs are held at a time."""
    before: RunRead | None = None
    for directory in ordered:
        summary, run = summary_of(directory), read_run(directory)
        yield Entry(
            directory=str(directory),
            created=run.manifest.created,
            device=run.manifest.device.name,
            arms={arm.arm: _then(arm, summary.default_arm) for arm in summary.arms if not not_offered(arm)},
            cases=_cases(run.timed.records),
            since=None if before is None else compare(before, run),
        )
        before = run


def _then(arm: ArmSummary, default: str) -> ArmThen:
    speed = None if arm.warm is None or arm.arm == default else arm.warm.ratio
    return ArmThen(kept=arm.verdicts.get("sampled", 0), examined=arm.examined, speed=speed)


def _cases(found: LatestRecords) -> dict[str, CaseThen]:
    """Each case's verdict and warm medians, by its key."""
    medians: dict[str, dict[str, float]] = {}
    for timing in found.timings.values():
        us = median_us(timing, "warm")
        of_case = medians.setdefault(timing.case.key, {})
        if us is not None:
            of_case[timing.load.token] = us
    verdicts = {key: one.verdict for key, one in found.verifications.items()}
    return {
        key: CaseThen(verdict=verdicts.get(key), warm_us=medians.get(key, {})) for key in sorted(verdicts | medians)
    }


def in_words(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """A table, a line a run, and below it what changed from each run to the next; arms beside each other as fit."""
    names = [*dict.fromkeys(name for entry in entries for name in entry.arms)]
    runs = ["run", *(entry.created for entry in entries)]
    arms = [[name, *(cell_text(entry.arms.get(name)) for entry in entries)] for name in names]
    for columns in _beside_each_other(runs, arms, width):
        widths = [max(map(len, column)) for column in columns]
        for row in zip(*columns, strict=True):
            yield "  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip()
    yield "cases in which an arm kept its bits, of all; speed against the default arm, geometric mean"
    for entry in entries:
        yield ""
        yield f"{entry.created}  {entry.directory}: {entry.device}"
        yield from (f"  {line}" for line in changes(entry.since))


def _beside_each_other(first: list[str], others: Sequence[list[str]], width: int) -> Iterator[list[list[str]]]:
    """The first column and as many others as fit, at least one, until all were beside it."""
    columns = [first]
    for column in others:
        if len(columns) > 1 and sum(2 + max(map(len, one)) for one in (*columns, column)) - 2 > width:
            yield columns
            columns = [first]
        columns.append(column)
    yield columns


def cell_text(arm: ArmThen | None) -> str:
    """In how many cases an arm kept its bits, and its speed."""
    if arm is None:
        return NOTHING
    return f"{arm.kept}/{arm.examined}" + ("" if arm.speed is None else f" {ratio_text(arm.speed)}")


def changes(found: RunComparison | None) -> Iterator[str]:
    """What changed since the run before, a line each."""
    if found is None:
        return
    yield from found.environment
    yield from found.selection
    yield from (f"{one.key}: {one.first}, then {one.second}" for one in found.verdicts)
    yield from (f"{name}: other bits" for name in found.other_bits)
    yield from (f"{one.key}: {one.moved} {one.share:+.1%}" for one in found.speeds if one.moved in ("slow", "fast"))
    if unsure := sum(one.moved == "unsure" for one in found.speeds):
        yield f"speed: unsure in {unsure} of {len(found.speeds)} cases"
    if found.apart:
        yield f"speed: not judged: {'; '.join(found.apart)}"
    if found.missing:
        yield f"missing: {len(found.missing)}, such as {found.missing[0]}"
