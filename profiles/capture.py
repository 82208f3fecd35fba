"""Record a command with Nsight Systems, or through torch's own profiler, and keep what is needed to read it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from profiles.environment import read_environment
from profiles.findings import Record
from profiles.nsys import (
    export,
    find_nsys,
    nsys_version,
    nvtx_is_deaf,
    profile_command,
    what_is_missing,
    why_no_report,
)
from profiles.torch_run import recorded_command, recording_environment
from profiles.torch_trace import together
from profiles.trace import ReportError

RECORD, STEM = "capture.json", "report"

Collector = Literal["nsys", "torch"]


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
    return Path("samebits-profiles") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")


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


def capture_with_nsys(command: Sequence[str], out: Path, chosen: str | None, warn: Callable[[str], None]) -> Capture:
    """Record a command with nsys; leaves its report, the SQLite export and `RECORD`.

    Args:
        command: to record.
        out: a new directory.
        chosen: ``NAME@DOMAIN`` of the only range to record.
        warn: takes a line that the user must know.

    Raises:
        ReportError: there is no nsys, or it left no report that can be read though the command succeeded.
    """
    nsys = find_nsys()
    version = nsys_version(nsys)
    if deaf := nvtx_is_deaf(version):
        warn(deaf)
    prepare(out)
    stem = out / STEM
    started = time.time()
    line = profile_command(nsys, stem, chosen, command)
    try:
        status = subprocess.run(line, check=False).returncode
    except OSError as error:
        raise ReportError(f"{nsys} does not start: {error}") from error
    seconds = time.time() - started
    report, exported = stem.with_suffix(".nsys-rep"), stem.with_suffix(".sqlite")
    complaint = "" if report.is_file() else why_no_report(stem, chosen, status, started)
    if not complaint:
        export(nsys, report, exported)
        complaint = what_is_missing(exported, ranges=True)
    reports = tuple(one.name for one in (exported, report) if one.is_file())
    capture = Capture(
        created=_timestamp(started),
        command=shlex.join(command),
        collector="nsys",
        tool=f"Nsight Systems {version}",
        tool_command=shlex.join(line),
        range=chosen,
        versions=dict(read_environment().versions),
        seconds=seconds,
        exit_status=status,
        reports=reports,
    )
    keep(out, capture)
    if complaint and status == 0:
        raise ReportError(complaint, status=3)
    if complaint:
        warn(complaint)
    return capture


def capture_with_torch(command: Sequence[str], out: Path, warn: Callable[[str], None]) -> Capture:
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
    parts = out / "parts"
    parts.mkdir()
    started = time.time()
    try:
        status = subprocess.run(line, env=recording_environment(parts), check=False).returncode
    except OSError as error:
        raise ReportError(f"cannot start {command[0]}: {error.strerror}") from error
    seconds = time.time() - started
    traces = sorted(parts.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    events = together(traces, out / f"{STEM}.json.gz") if traces else 0
    shutil.rmtree(parts)
    capture = Capture(
        created=_timestamp(started),
        command=shlex.join(command),
        collector="torch",
        tool="torch.profiler",
        tool_command=shlex.join(line),
        range=None,
        versions=dict(read_environment().versions),
        seconds=seconds,
        exit_status=status,
        reports=(f"{STEM}.json.gz",) if traces else (),
    )
    keep(out, capture)
    if not events:
        complaint = "nothing was recorded: --collector torch sees Python programs that use torch; use nsys for others"
        if status == 0:
            raise ReportError(complaint, status=3)
        warn(complaint)
    return capture


def keep(out: Path, capture: Capture) -> None:
    """Write `RECORD`."""
    (out / RECORD).write_text(capture.model_dump_json(indent=2) + "\n")


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
