"""Reports for the tests of profiles: a cut of a real one from an H100, and small ones made to measure."""

from __future__ import annotations

import atexit
import functools
import json
import lzma
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import DATA
from support.processes import completed, environment

H100 = DATA / "h100"
CAPTURED, UNCAPTURED = H100 / "captured", H100 / "uncaptured"

GLOBAL_PID = 0x0001000000000000


@functools.cache
def real_report(folder: str) -> Path:
    """A cut report of an H100 from a folder of `DATA`, unpacked once a session."""
    scratch = Path(tempfile.mkdtemp(prefix="samebits-test-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    path = scratch / "report.sqlite"
    path.write_bytes(lzma.decompress((DATA / folder / "report.sqlite.xz").read_bytes()))
    return path


def h100_report() -> Path:
    """The one that most is tested on: of Nsight Systems 2025.3, with what nsys itself says of it beside it."""
    return real_report("h100")


def profiles(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ended:
    """Run ``python -m profiles`` as users do."""
    done = completed("profiles", *arguments, env=environment(COLUMNS=200, **(env or {})), cwd=cwd)
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The only line on standard error, without its prefix."""
        (line,) = self.stderr.splitlines()
        return line.removeprefix("profiles: ")


@dataclass(frozen=True)
class Span:
    """A range on a thread."""

    text: str
    start: int
    end: int | None
    domain: int = 1
    pid: int = 7
    tid: int = 7
    type: int = 59


@dataclass(frozen=True)
class Launch:
    """A call and the kernels it launched, as (name, start, end) or (name, start, end, grid x)."""

    start: int
    end: int
    kernels: Sequence[tuple[str, int, int]]
    pid: int = 7
    tid: int = 7
    graph: bool = False


def global_tid(pid: int, tid: int) -> int:
    return GLOBAL_PID | pid << 24 | tid


TABLES: Mapping[str, tuple[str, ...]] = {
    "NVTX_EVENTS": ("start", "end", "eventType", "text", "globalTid", "textId", "domainId"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "globalTid", "correlationId"),
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        "start", "end", "correlationId", "globalPid", "demangledName", "shortName", "registersPerThread",
        "gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ", "graphNodeId",
    ),
    "StringIds": ("id", "value"),
}  # fmt: skip


def write_report(
    path: Path,
    spans: Iterable[Span],
    launches: Iterable[Launch],
    domains: Mapping[int, str] | None = None,
    without: Iterable[str] = (),
) -> Path:
    """An export with the tables that a schema has; ``without`` names tables, or ``table.column``, that it lacks."""
    left_out = set(without)
    names: dict[str, int] = {}
    rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
    pids = set()
    for span in spans:
        thread = global_tid(span.pid, span.tid)
        text = names.setdefault(span.text, len(names) + 1)
        rows["NVTX_EVENTS"].append((span.start, span.end, span.type, None, thread, text, span.domain))
        pids.add(span.pid)
    for number, name in (domains or {1: "kernels_bench"}).items():
        rows["NVTX_EVENTS"] += [(0, None, 75, name, global_tid(pid, pid), None, number) for pid in pids]
    for number, launch in enumerate(launches, start=1):
        thread = global_tid(launch.pid, launch.tid)
        rows["CUPTI_ACTIVITY_KIND_RUNTIME"].append((launch.start, launch.end, thread, number))
        for name, start, end in launch.kernels:
            text = names.setdefault(name, len(names) + 1)
            node = 5 if launch.graph else None
            form = (text, text, 32, 4, 1, 1, 128, 1, 1, node)
            rows["CUPTI_ACTIVITY_KIND_KERNEL"].append((start, end, number, thread >> 24 << 24, *form))
    rows["StringIds"] = [(number, name) for name, number in names.items()]
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database:
        for table, columns in TABLES.items():
            kept = [i for i, column in enumerate(columns) if f"{table}.{column}" not in left_out]
            if table in left_out or not rows[table]:
                continue
            declared = ", ".join(f'"{columns[i]}"' for i in kept)
            database.execute(f"CREATE TABLE {table} ({declared})")
            marks = ", ".join("?" * len(kept))
            database.executemany(
                f"INSERT INTO {table} VALUES ({marks})", [[row[i] for i in kept] for row in rows[table]]
            )
        database.commit()
    return path


def timing(m: int, calls: int, method: str = "graph", warm_us: float = 1.0, cold_us: float = 2.0) -> dict[str, Any]:
    case = {
        "arm": "torch",
        "operator": "mm",
        "shape": {"label": "x", "n": 8, "k": 4},
        "precision": {"input": "bf16", "output": "bf16"},
    }
    samples = {"us": [warm_us], "calls": calls, "method": method}
    summary = {"p10_us": 0, "p90_us": 0, "error": 0, "samples": 1}
    return {
        "kind": "timing", "case": case, "m": m, "status": "measured", "warm_samples": samples, "cold_samples": samples,
        "warm": {"median_us": warm_us, **summary}, "cold": {"median_us": cold_us, **summary},
    }  # fmt: skip


def write_run(path: Path, *records: dict[str, Any], pid: int = 7) -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"schema_version": 2, "selection": {}}))
    start = {"kind": "arm", "arm": "torch", "pid": pid}
    (path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (start, *records)))
    return path


MESSAGE = "torch/mm/8x4,bf16/16"
