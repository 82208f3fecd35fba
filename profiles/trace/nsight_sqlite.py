"""Read what Nsight Systems exported to SQLite.

Tables exist only where they have rows, and older schemas lack columns: what is there is read, and what is missing is
said.  Values come in blocks, since a report may hold millions of rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from profiles.errors import ReportError
from profiles.trace.database import opened, tables_of
from profiles.trace.model import (
    Array,
    Kernel,
    Kind,
    Label,
    RawLaunches,
    RawWork,
    Spans,
    Style,
    Trace,
    Work,
    cut_short,
    joined,
    possible,
    process_id,
    with_notes,
)

_BLOCK = 1 << 16
_PUSH_POP, _START_END, _DOMAIN = 59, 60, 75
_KERNEL, _RUNTIME, _NVTX = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
_GRAPH = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
_MEMORY: tuple[tuple[str, Kind], ...] = (
    ("CUPTI_ACTIVITY_KIND_MEMCPY", "copy"),
    ("CUPTI_ACTIVITY_KIND_MEMSET", "fill"),
)
_STYLES: Mapping[int, Style] = {_PUSH_POP: "PushPop", _START_END: "StartEnd"}
_FORM = ("shortName", "demangledName", "gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ", "registersPerThread")
_NOTHING: Array = np.zeros(0, dtype=np.int64)

EXPORT_FACTS = ("META_DATA_EXPORT", "EXPORT_META_DATA")
"""The table in which an export says of what version it is; the latter in Nsight Systems 2022.4."""


def read_sqlite(path: Path) -> Trace:
    """A report that ``nsys export --type sqlite`` wrote.

    Raises:
        ReportError: this is no such file, or it is damaged.
    """
    try:
        with opened(path) as database:
            return possible(_Reader(database, tables_of(database)).trace())
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        raise ReportError(f"{path} is damaged, or no SQLite export of Nsight Systems: {error}") from error


@dataclass(frozen=True, eq=False)
class _Reader:
    """One open report."""

    database: sqlite3.Connection
    tables: frozenset[str]
    notes: list[str] = field(default_factory=list)

    def trace(self) -> Trace:
        """All that is read of it.

        Raises:
            ValueError: the database has none of a report's tables.
        """
        if not self.tables & {_KERNEL, _RUNTIME, _NVTX, "StringIds", *EXPORT_FACTS}:
            raise ValueError("it has none of its tables")
        strings = self._strings()
        kernels: list[Kernel] = []
        raw = _together([self._kernels(strings, kernels), *(self._memory(*one, kernels) for one in _MEMORY)])
        work, launches, lost = joined(raw, self._calls(raw.correlation))
        ranges, labels = self._ranges(strings)
        self._note_missing(lost)
        trace = Trace(self._source(), tuple(kernels), work, launches, ranges, labels, tuple(self.notes))
        return with_notes(trace, list(cut_short(trace)))

    def _note_missing(self, lost: int) -> None:
        wanted = {
            _NVTX: "no range",
            _KERNEL: "no kernel",
            _RUNTIME: "no launch, so that no kernel can be given to a range",
            "StringIds": "no name",
        }
        self.notes.extend(
            f"the report has {what} (no table {name})" for name, what in wanted.items() if name not in self.tables
        )
        if lost:
            self.notes.append(f"{lost} kernels, copies and fills have no launch in the report and are left out")
        if _GRAPH in self.tables:
            self.notes.append(
                "graph replays were recorded as a whole: their kernels are not in the report; "
                "capture with --cuda-graph-trace=node"
            )

    def _columns(self, table: str) -> set[str]:
        if table not in self.tables:
            return set()
        return {str(row[1]) for row in self.database.execute(f"PRAGMA table_info({table})")}

    def _select(self, table: str, columns: Iterable[str], where: str = "") -> Iterator[Array]:
        """Blocks of integers, ``(rows, columns)``; what is NULL, or a column the table lacks, is 0."""
        there, wanted = self._columns(table), list(columns)
        if not there:
            return
        missing = [name for name in wanted if name not in there]
        if missing and missing != ["graphNodeId"]:
            self.notes.append(f"table {table} has no column {', '.join(missing)}: taken as 0")
        chosen = ", ".join(f"coalesce({name}, 0)" if name in there else "0" for name in wanted)
        rows = self.database.execute(f"SELECT {chosen} FROM {table} {where}")
        while block := rows.fetchmany(_BLOCK):
            yield np.array(block, dtype=np.int64)

    def _table(self, table: str, columns: Iterable[str]) -> Array:
        """All rows, ``(rows, columns)``."""
        wanted = list(columns)
        blocks = list(self._select(table, wanted))
        return np.concatenate(blocks) if blocks else np.zeros((0, len(wanted)), dtype=np.int64)

    def _strings(self) -> dict[int, str]:
        if not self._columns("StringIds"):
            return {}
        return {int(key): str(value) for key, value in self.database.execute("SELECT id, value FROM StringIds")}

    def _kernels(self, strings: Mapping[int, str], kernels: list[Kernel]) -> RawWork:
        """Kernels; their distinct forms are appended to ``kernels``."""
        rows = self._table(_KERNEL, ("start", "end", "correlationId", "globalPid", "graphNodeId", *_FORM))
        forms, which = np.unique(rows[:, 5:], axis=0, return_inverse=True)
        place = len(kernels)
        kernels += [_kernel(strings, [int(value) for value in form]) for form in forms]
        return _raw(rows, place + which.reshape(-1))

    def _memory(self, table: str, kind: Kind, kernels: list[Kernel]) -> RawWork:
        rows = self._table(table, ("start", "end", "correlationId", "globalPid", "graphNodeId"))
        kernels.append(Kernel(kind, kind, kind))
        return _raw(rows, np.full(len(rows), len(kernels) - 1))

    def _calls(self, correlations: Array) -> RawLaunches:
        """Calls that may have launched something: most did not, and are not kept."""
        wanted = np.unique(correlations)
        kept = [np.zeros((0, 4), dtype=np.int64)]
        for block in self._select(_RUNTIME, ("start", "end", "globalTid", "correlationId")):
            place = np.minimum(np.searchsorted(wanted, block[:, 3]), max(0, len(wanted) - 1))
            kept.append(block[wanted[place] == block[:, 3]] if len(wanted) else block[:0])
        return RawLaunches(*np.ascontiguousarray(np.concatenate(kept).T))

    def _ranges(self, strings: Mapping[int, str]) -> tuple[Spans, tuple[Label, ...]]:
        there = self._columns(_NVTX)
        if not there:
            return Spans(_NOTHING, _NOTHING, _NOTHING, _NOTHING), ()
        names = ("start", "end", "eventType", "globalTid", "domainId", "text", "textId")
        chosen = ", ".join(name if name in there else "NULL" for name in names)
        rows = self.database.execute(
            f"SELECT {chosen} FROM {_NVTX} WHERE eventType IN ({_PUSH_POP}, {_START_END}, {_DOMAIN}) ORDER BY start"
        ).fetchall()
        texts = [str(row[5]) if row[5] is not None else strings.get(row[6] or 0, "") for row in rows]
        process = process_id(np.array([row[3] or 0 for row in rows], dtype=np.int64))
        domains = {(int(process[i]), row[4]): texts[i] for i, row in enumerate(rows) if row[2] == _DOMAIN}
        entered = [i for i, row in enumerate(rows) if row[2] in _STYLES]
        labels: dict[Label, int] = {}
        which = [
            labels.setdefault(
                Label(domains.get((int(process[i]), rows[i][4]), ""), texts[i], _STYLES[rows[i][2]]), len(labels)
            )
            for i in entered
        ]
        return self._spans([rows[i] for i in entered], which), tuple(labels)

    def _spans(self, rows: list[tuple[int, int | None, int, int | None]], labels: list[int]) -> Spans:
        last_ns = max((row[1] or row[0] for row in rows), default=0)
        open_ = sum(row[1] is None for row in rows)
        if open_:
            self.notes.append(f"{open_} ranges were never left: taken to end with the last of the others")
        return Spans(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([last_ns if row[1] is None else row[1] for row in rows], dtype=np.int64),
            np.array([row[3] or 0 for row in rows], dtype=np.int64),
            np.array(labels, dtype=np.int64),
        )

    def _source(self) -> str:
        facts = {
            str(name): str(value)
            for table in EXPORT_FACTS
            if self._columns(table)
            for name, value in self.database.execute(f"SELECT name, value FROM {table}")
        }
        if not facts:
            return "Nsight Systems, version unknown"
        product = facts.get("EXPORT_PRODUCT_VERSION", "version unknown")
        return f"Nsight Systems {product}, schema {facts.get('EXPORT_SCHEMA_VERSION', 'unknown')}"


def _kernel(strings: Mapping[int, str], form: list[int]) -> Kernel:
    short, full, gx, gy, gz, bx, by, bz, registers = form
    name = strings.get(short) or strings.get(full) or "kernel without a name"
    return Kernel(name, strings.get(full) or name, "kernel", (gx, gy, gz), (bx, by, bz), registers)


def _raw(rows: Array, kernel: Array) -> RawWork:
    """From columns start, end, correlation, process and graph node."""
    work = Work(rows[:, 0].copy(), rows[:, 1].copy(), kernel, rows[:, 4] != 0)
    return RawWork(process_id(rows[:, 3]), rows[:, 2].copy(), work)


def _together(parts: list[RawWork]) -> RawWork:
    works = [part.work for part in parts]
    work = Work(
        np.concatenate([one.start_ns for one in works]),
        np.concatenate([one.end_ns for one in works]),
        np.concatenate([one.kernel for one in works]),
        np.concatenate([one.in_graph for one in works]),
    )
    return RawWork(
        np.concatenate([part.process for part in parts]), np.concatenate([part.correlation for part in parts]), work
    )
