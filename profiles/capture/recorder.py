"""Record a command with Nsight Systems, or through torch's own profiler, and keep what is needed to read it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from profiles.capture.nsys import (
    export,
    find_nsys,
    has_kernels,
    has_ranges,
    nsys_version,
    nvtx_incompatibility,
    profile_command,
    what_is_missing,
    why_no_report,
)
from profiles.capture.torch_program import recorded_command, recording_environment
from profiles.errors import ExitStatus, ReportError
from profiles.instruments.environment import read_environment
from profiles.instruments.range_names import KERNELS, REPLAY
from profiles.run_files import run_directory
from profiles.run_files.record import Record
from profiles.trace.torch_json import together

RECORD, STEM = "capture.json", "report"

Collector = Literal["nsys", "torch"]
Warn = Callable[[str], None]


class Capture(Record):
    """What was recorded, and how; it names no environment variable.

    Attributes:
        created: UTC, ISO 8601.
        command: as typed, to record the same again.
        collector: ``nsys`` or ``torch``.
        tool: name and version of the collector.
        tool_command: what was started.
        range: the NVTX range that was recorded; None for everything.
        versions: of the libraries installed here that results depend on.
        seconds: wall time of the command under the collector.
        exit_status: the command's own.
        reports: files that were left, those to analyse first.
    """

    created: str
    command: str
    collector: Collector
    tool: str
    tool_command: str
    range: str | None
    versions: dict[str, str]
    seconds: float
    exit_status: int
    reports: tuple[str, ...]


def default_directory() -> Path:
    """A new name under ``samebits-profiles``."""
    return run_directory.default_directory("samebits-profiles")


def prepare(out: Path) -> None:
    """Make the directory of a capture.

    Raises:
        ReportError: there is something in it, or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = any(out.iterdir())
    except OSError as error:
        raise ReportError(f"cannot write to {out}: {error.strerror}") from error
    if taken:
        raise ReportError(f"{out} is not empty: --out takes a new name")


def after_the_run(command: Sequence[str]) -> tuple[list[str], str] | None:
    """How a run of kernels_bench is recorded without a cost to its medians: once it is over, by what it then replays.

    Args:
        command: to record.

    Returns:
        What to start instead, and ``NAME@DOMAIN`` of the range to record; None where the command is no such run.
    """
    words = list(command)
    module = [place + 2 for place in range(len(words)) if words[place : place + 2] == ["-m", "kernels_bench"]]
    script = [1] if words and Path(words[0]).name == "kernels-bench" else []
    options = next((words[place:] for place in module or script), None)
    # A subcommand stands first: it measures nothing, or something else.
    if options is None or "--list" in options or (options and not options[0].startswith("-")):
        return None
    again = [] if "--replay" in options else ["--replay"]
    return [*words, *again], f"{REPLAY}@{KERNELS}"


def capture_with_nsys(
    command: Sequence[str], out: Path, chosen: str | None, warn: Warn, options: Sequence[str] = ()
) -> Capture:
    """Record a command with nsys; leaves its report, the SQLite export and `RECORD`.

    Args:
        command: to record.
        out: a new directory.
        chosen: ``NAME@DOMAIN`` of the only range to record.
        warn: takes a line that the user must know.
        options: further ones for ``nsys profile``.

    Raises:
        ReportError: there is no nsys, or it left no report that can be read though the command succeeded.
    """
    nsys = find_nsys()
    version = nsys_version(nsys)
    deaf = nvtx_incompatibility(version)
    if deaf:
        warn(deaf)
    prepare(out)
    stem = out / STEM
    ended = _run(profile_command(nsys, stem, chosen, command, options))
    report, exported = stem.with_suffix(".nsys-rep"), stem.with_suffix(".sqlite")
    if report.is_file():
        export(nsys, report, exported)
        complaint = what_is_missing(exported)
    else:
        complaint = why_no_report(stem, chosen, ended.status, ended.started)
    if not complaint and not has_kernels(exported):
        warn(
            "the report holds no kernel: nothing ran on a GPU, processes were killed before nsys had saved any, "
            f"or nsys {version} is older than the driver's CUDA"
        )
    if not complaint and not has_ranges(exported):
        warn(deaf or "the report holds no NVTX range: its kernels belong to none")
    reports = tuple(one.name for one in (exported, report) if one.is_file())
    capture = _record(command, ended, "nsys", f"Nsight Systems {version}", reports, chosen)
    return _kept(out, capture, complaint, warn)


def capture_with_torch(command: Sequence[str], out: Path, warn: Warn) -> Capture:
    """Record a command's Python processes with torch's profiler; leaves one trace of all, and `RECORD`.

    Programs of samebits record their ranges; any other Python program is recorded as a whole, but for its children.

    Args:
        command: to record.
        out: a new directory.
        warn: takes a line that the user must know.

    Raises:
        ReportError: the command cannot be started or recorded, or it succeeded and nothing was recorded.
    """
    line = recorded_command(command)
    prepare(out)
    parts, report = out / "parts", out / f"{STEM}.json.gz"
    parts.mkdir()
    ended = _run(line, recording_environment(parts))
    traces = sorted(parts.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if traces:
        together(traces, report)
    shutil.rmtree(parts)
    capture = _record(command, ended, "torch", "torch.profiler", (report.name,) if traces else ())
    return _kept(out, capture, "" if traces else _NOTHING, warn)


_NOTHING = "nothing was recorded: --collector torch sees Python programs that use torch; use nsys for others"


@dataclass(frozen=True)
class _Ended:
    """What was run, when it started (seconds since the epoch), how long it took, and its exit status."""

    line: Sequence[str]
    started: float
    seconds: float
    status: int


def _run(line: Sequence[str], environment: Mapping[str, str] | None = None) -> _Ended:
    started = time.time()
    try:
        status = subprocess.run(line, env=environment, check=False).returncode
    except OSError as error:
        raise ReportError(f"cannot start {line[0]}: {error.strerror}") from error
    return _Ended(line, started, time.time() - started, status)


def _record(
    command: Sequence[str],
    ended: _Ended,
    collector: Collector,
    tool: str,
    reports: tuple[str, ...],
    chosen: str | None = None,
) -> Capture:
    return Capture(
        created=datetime.fromtimestamp(ended.started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=shlex.join(command),
        collector=collector,
        tool=tool,
        tool_command=shlex.join(ended.line),
        range=chosen,
        versions=dict(read_environment().versions),
        seconds=ended.seconds,
        exit_status=ended.status,
        reports=reports,
    )


def _kept(out: Path, capture: Capture, complaint: str, warn: Warn) -> Capture:
    """Write `RECORD`; a complaint is an error only if the command did not fail by itself.

    Raises:
        ReportError: the complaint.
    """
    (out / RECORD).write_text(capture.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if complaint and capture.exit_status == 0:
        raise ReportError(complaint, status=ExitStatus.INCOMPLETE)
    if complaint:
        warn(complaint)
    return capture
