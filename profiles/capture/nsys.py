"""Nsight Systems: where it is, how it is called, and what its silences mean."""

from __future__ import annotations

import ctypes
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

from profiles.errors import ExitStatus, ReportError
from profiles.installing import pip_install

NSYS_LOCATIONS = (
    "opt/nvidia/nsight-systems*/*/bin/nsys",
    "opt/nvidia/nsight-systems*/*/target-linux-*/nsys",
    "opt/nvidia/nsight-compute*/*/host/target-linux-*/nsys",
    "usr/local/cuda*/bin/nsys",
    "usr/local/cuda*/nsight-systems*/bin/nsys",
    "usr/local/cuda*/nsight-compute*/host/target-linux-*/nsys",
)
"""Where installers put nsys, seen from the root; Nsight Compute brings one of its own."""

_ABSENT = (
    "nsys was not found: not in PATH, under /opt/nvidia/nsight-systems, inside Nsight Compute "
    "(/opt/nvidia/nsight-compute/*/host) or under /usr/local/cuda; install NVIDIA's package nsight-systems-cli and "
    "put its folder into PATH, or use --collector torch"
)
_TRACE = (
    "--trace=cuda,nvtx",
    "--sample=none",
    "--cpuctxsw=none",
    "--cuda-graph-trace=node",  # otherwise a graph's replay is one event without kernels
    "--trace-fork-before-exec=true",  # vLLM's engine is a forked child
    "--cuda-flush-interval=1000",  # ms; a worker that is killed loses what was not saved by then
)
_NUMBERS = re.compile(r"\d+")
_VERSION = re.compile(r"(\d{4}\.\d+(?:\.\d+)*)")
# nvtx from 0.2.12 on asks for what these versions of nsys do not have, and then records nothing.
_DEAF_FROM, _DEAF_TO, _NVTX_FROM = (2022, 4), (2024, 2), (0, 2, 12)
_KERNELS, _RANGES, _SAID = "CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS", "DIAGNOSTIC_EVENT"
_NO_PERMISSION = re.compile(r"ERR_NVGPUCTRPERM|insufficient[ _]privilege|permission", re.IGNORECASE)


def find_nsys(root: Path = Path("/")) -> Path:
    """The nsys in PATH, or else the newest of those that installers hide.

    Args:
        root: of the file system that is searched.

    Raises:
        ReportError: there is none; the message says how to get one.
    """
    in_path = shutil.which("nsys")
    if in_path is not None:
        return Path(in_path)
    hidden = [path for pattern in NSYS_LOCATIONS for path in root.glob(pattern) if path.is_file()]
    if not hidden:
        raise ReportError(_ABSENT)
    return max(hidden, key=lambda path: (_numbers(str(path.parent)), str(path)))


def _numbers(text: str) -> tuple[int, ...]:
    """The version in a path or a text, as numbers that compare."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, _NUMBERS.findall(found[0]))) if found else ()


def nsys_version(nsys: Path) -> str:
    """Such as ``2025.3.1``.

    Raises:
        ReportError: nsys does not start.
    """
    try:
        done = subprocess.run(
            [nsys, "--version"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ReportError(f"{nsys} does not start: {error}") from error
    found = _VERSION.search(done.stdout)
    if done.returncode or not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ReportError(f"{nsys} --version failed: {said[-1] if said else f'status {done.returncode}'}")
    return found[1]


def nvtx_incompatibility(version: str) -> str:
    """A warning if the nvtx installed here would record nothing under this nsys; else empty."""
    try:
        nvtx = metadata.version("nvtx")
    except metadata.PackageNotFoundError:
        return f"without the package nvtx nothing here announces ranges to nsys: {pip_install('nvtx')}"
    if _DEAF_FROM <= _numbers(version)[:2] <= _DEAF_TO and _numbers(nvtx) >= _NVTX_FROM:
        earlier = pip_install("nvtx<0.2.12")
        return f"nvtx {nvtx} records nothing under nsys {version}: use nsys 2025 or newer, or {earlier}"
    return ""


def profile_command(
    nsys: Path, stem: Path, chosen: str | None, command: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """How a command is recorded.

    Args:
        nsys: the program.
        stem: of the report, without ``.nsys-rep``.
        chosen: ``NAME@DOMAIN`` of the NVTX range that is recorded; None for everything.
        command: to record.
        options: further ones for nsys, which take precedence over ours.
    """
    within = ["--capture-range=nvtx", f"--nvtx-capture={chosen}", "--capture-range-end=stop"] if chosen else []
    return [str(nsys), "profile", *_TRACE, *within, *options, f"--output={stem}", *command]


def why_no_report(stem: Path, chosen: str | None, status: int, since: float) -> str:
    """What it means that nsys left no report.

    Args:
        stem: of the report.
        chosen: the range that was asked for.
        status: nsys's exit status.
        since: time of its start, in seconds since the epoch.
    """
    folders = (stem.parent, Path(tempfile.gettempdir()))
    left = [one for folder in folders for one in folder.glob("*.qdstrm") if one.stat().st_mtime >= since]
    if left:
        return (
            f"nsys recorded {left[0]} but its importer could not run: {_importer_needs()}; nothing has to be recorded "
            f"again: QdstrmImporter -i {left[0]} makes the report, here or wherever Nsight Systems is installed"
        )
    if status == 0 and chosen:
        return (
            f"no range matched {chosen}, so nsys left no report: see its spelling, NAME@DOMAIN; ranges whose names are "
            "not registered (torch.cuda.nvtx) count only with NSYS_NVTX_PROFILER_REGISTER_ONLY=0"
        )
    return (
        f"nsys ended with status {status} and left no {stem.name}.nsys-rep: its own messages above say why; where they "
        "speak of a connection or an endpoint, it did not reach its own agent: run it again"
    )


def _importer_needs() -> str:
    try:
        ctypes.CDLL("libdw.so.1")
    except OSError:
        return "install libdw.so.1 (apt-get install libdw1)"
    return "see nsys's messages above"


def export(nsys: Path, report: Path, to: Path) -> None:
    """Export a report to SQLite.

    Raises:
        ReportError: nsys cannot.
    """
    command = [str(nsys), "export", "--type=sqlite", "--force-overwrite=true", f"--output={to}", str(report)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise ReportError(f"{nsys} does not start: {error}") from error
    if done.returncode or not to.is_file():
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ReportError(f"nsys cannot export {report}: {said[-1] if said else f'status {done.returncode}'}")


def exported(report: Path) -> Path:
    """The SQLite export of a report, made beside it unless there is a newer one.

    Raises:
        ReportError: there is none, and nsys cannot make it.
    """
    to = report.with_suffix(".sqlite")
    if not to.is_file() or to.stat().st_mtime < report.stat().st_mtime:
        export(find_nsys(), report, to)
    return to


def what_is_missing(exported_: Path) -> str:
    """Why an export holds no kernel, where nsys itself says so; else empty."""
    tables, said = _tables(exported_)
    if _KERNELS not in tables and any(map(_NO_PERMISSION.search, said)):
        return (
            "the driver gives no permission for the GPU's counters (ERR_NVGPUCTRPERM), so that no kernel was "
            "recorded: run as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
        )
    return ""


def has_kernels(exported_: Path) -> bool:
    """Whether an export holds any kernel."""
    return _KERNELS in _tables(exported_)[0]


def has_ranges(exported_: Path) -> bool:
    """Whether an export holds anything of NVTX."""
    return _RANGES in _tables(exported_)[0]


def _tables(exported_: Path) -> tuple[set[str], list[str]]:
    """An export's tables, and what nsys has to say of the recording.

    Raises:
        ReportError: it is damaged.
    """
    try:
        with closing(sqlite3.connect(f"{exported_.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = {str(name) for (name,) in database.execute("SELECT name FROM sqlite_master")}
            there = _SAID in tables
            said = [str(text) for (text,) in database.execute(f"SELECT text FROM {_SAID}")] if there else []
    except sqlite3.Error as error:
        raise ReportError(f"{exported_} is damaged: {error}", status=ExitStatus.INCOMPLETE) from error
    return tables, said
