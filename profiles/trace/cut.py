"""Cut a report down to some ranges and to what is read of it, so that it can be kept or given away.

A whole report holds the environment of every process, its paths, and the names of the machine and its user.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from profiles.errors import ReportError
from profiles.trace.model import Trace
from profiles.trace.nsight_sqlite import EXPORT_FACTS, read_sqlite

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "NVTX_EVENTS": ("start", "end", "eventType", "category", "text", "globalTid", "textId", "domainId", "int64Value"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "globalTid", "correlationId"),
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        "start", "end", "deviceId", "streamId", "correlationId", "globalPid", "demangledName", "shortName",
        "registersPerThread", "gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ", "graphNodeId",
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("start", "end", "correlationId", "globalPid", "bytes", "graphNodeId"),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("start", "end", "correlationId", "globalPid", "bytes", "graphNodeId"),
}  # fmt: skip
"""What a cut report keeps, beside the names that these refer to and the versions of nsys and its schema."""

_RANGES, _CALLS = "NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME"
_NAMES = (("NVTX_EVENTS", "textId"), ("CUPTI_ACTIVITY_KIND_KERNEL", "demangledName"),
          ("CUPTI_ACTIVITY_KIND_KERNEL", "shortName"))  # fmt: skip
_FACTS = ("EXPORT_PRODUCT_NAME", "EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION")
_RANGE_TYPES = "59, 60"


def cut(report: Path, to: Path, pattern: str) -> int:
    """Write a new export that holds only the ranges whose ``domain:message`` a pattern finds, and what they launched.

    Ranges nested in these are kept too.

    Args:
        report: an SQLite export.
        to: the new one.
        pattern: regular expression.

    Returns:
        How many kernels, copies and fills are left.

    Raises:
        ReportError: the report cannot be read, nothing matched, or the new one exists or cannot be written.
    """
    if to.exists():
        raise ReportError(f"{to} exists: name a new file")
    windows = _windows(read_sqlite(report), _compiled(pattern))
    if not windows:
        raise ReportError(f"no range of {report} matches {pattern}")
    try:
        with closing(sqlite3.connect(to)) as new:
            new.execute("ATTACH DATABASE ? AS old", (str(report),))
            left = _copy(new, windows)
            new.execute("DETACH DATABASE old")
            new.execute("VACUUM")
    except sqlite3.Error as error:
        to.unlink(missing_ok=True)
        raise ReportError(f"cannot cut {report} to {to}: {error}") from error
    return left


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ReportError(f"--range {pattern}: {error}") from error


def _windows(trace: Trace, pattern: re.Pattern[str]) -> list[tuple[int, int, int]]:
    """Thread, start and end of the ranges that match."""
    chosen = [bool(pattern.search(label.text)) for label in trace.labels]
    ranges = trace.ranges
    return [
        (int(thread), int(start), int(end))
        for thread, start, end, label in zip(ranges.thread, ranges.start_ns, ranges.end_ns, ranges.label, strict=True)
        if chosen[label]
    ]


def _copy(new: sqlite3.Connection, windows: list[tuple[int, int, int]]) -> int:
    """Fill the new report; tell how much work it holds."""
    new.execute("CREATE TEMP TABLE kept (thread INTEGER, start INTEGER, end INTEGER)")
    new.executemany("INSERT INTO kept VALUES (?, ?, ?)", windows)
    new.execute("CREATE INDEX temp.by_thread ON kept (thread, start)")
    there = {str(name) for (name,) in new.execute("SELECT name FROM old.sqlite_master WHERE type = 'table'")}
    inside = "EXISTS (SELECT 1 FROM kept WHERE thread = globalTid AND kept.start <= o.start AND o.end <= kept.end)"
    _take(new, _RANGES, f"(eventType IN ({_RANGE_TYPES}) AND {inside}) OR eventType = 75")
    # Without its launch no kernel can be given to a range.
    left = _take_work(new, there.intersection(COLUMNS) - {_RANGES, _CALLS}, inside) if _CALLS in there else 0
    _take_names(new, there)
    new.commit()
    return left


def _take_work(new: sqlite3.Connection, tables: set[str], inside: str) -> int:
    """Copy the calls within the ranges, and what they launched; tell how much that is."""
    _take(new, _CALLS, inside)
    new.execute(
        f"CREATE TEMP TABLE calls AS SELECT correlationId AS number, globalTid >> 24 << 24 AS process FROM {_CALLS}"
    )
    new.execute("CREATE UNIQUE INDEX temp.by_number ON calls (number, process)")
    launched = "EXISTS (SELECT 1 FROM calls WHERE number = correlationId AND process = globalPid >> 24 << 24)"
    left = sum(_take(new, table, launched) for table in sorted(tables))
    _drop_idle_calls(new, tables)
    return left


def _take(new: sqlite3.Connection, table: str, where: str) -> int:
    """Copy the columns that are read of some rows; tell how many rows."""
    there = {str(row[1]) for row in new.execute(f"PRAGMA old.table_info({table})")}
    columns = ", ".join(name for name in COLUMNS[table] if name in there)
    new.execute(f"CREATE TABLE {table} AS SELECT {columns} FROM old.{table} AS o WHERE {where} ORDER BY start")
    (count,) = new.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def _drop_idle_calls(new: sqlite3.Connection, work: set[str]) -> None:
    """Leave out calls that launched nothing."""
    launched = [f"SELECT correlationId, globalPid >> 24 << 24 FROM {table}" for table in work]
    busy = f"(correlationId, globalTid >> 24 << 24) IN ({' UNION '.join(launched)})" if launched else "false"
    new.execute(f"DELETE FROM {_CALLS} WHERE NOT {busy}")


def _take_names(new: sqlite3.Connection, there: set[str]) -> None:
    taken = {str(name) for (name,) in new.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")}
    used = " UNION ".join(f"SELECT {column} FROM main.{table}" for table, column in _NAMES if table in taken)
    if "StringIds" in there:
        new.execute(f"CREATE TABLE StringIds AS SELECT id, value FROM old.StringIds WHERE id IN ({used})")
    marks = ", ".join("?" * len(_FACTS))
    for table in there.intersection(EXPORT_FACTS):
        new.execute(f"CREATE TABLE {table} (name TEXT, value TEXT)")
        new.execute(f"INSERT INTO {table} SELECT name, value FROM old.{table} WHERE name IN ({marks})", _FACTS)
