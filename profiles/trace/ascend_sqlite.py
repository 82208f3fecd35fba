"""Read what torch_npu's profiler and msprof write on an Ascend NPU: ``ascend_pytorch_profiler*.db``, an SQLite file.

torch_npu launches kernels from a thread of its own, so that no launch lies inside the range of the thread that asked
for it.  But a range that was begun on a stream has a task there, by its ``connectionId``: a kernel is of the ranges
within whose tasks it ran on the same stream.  Each stream stands for a thread, and each kernel for its own launch.

Written to the schema that msprof-analyze 26.2 and torch_npu 2.14 use, for want of a database of a real profiler.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from profiles.errors import ReportError
from profiles.trace.database import opened, tables_of
from profiles.trace.model import Array, Kernel, Label, Launches, Spans, Trace, Work, possible, thread_id

_NEEDED = ("TASK", "STRING_IDS")
_MARK = 3
"""The type of an event that is a moment, not a range."""
_PROCESS_BITS = 32
_KERNELS = """
    SELECT TASK.startNs, TASK.endNs, TASK.streamId, STRING_IDS.value
    FROM COMPUTE_TASK_INFO
    JOIN TASK ON TASK.globalTaskId = COMPUTE_TASK_INFO.globalTaskId
    LEFT JOIN STRING_IDS ON STRING_IDS.id = COMPUTE_TASK_INFO.name
"""
_RANGES = """
    SELECT MSTX_EVENTS.globalTid, MESSAGES.value, DOMAINS.value, MARKED.startNs, MARKED.endNs, MARKED.streamId
    FROM MSTX_EVENTS
    LEFT JOIN STRING_IDS AS MESSAGES ON MESSAGES.id = MSTX_EVENTS.message
    LEFT JOIN STRING_IDS AS DOMAINS ON DOMAINS.id = MSTX_EVENTS.domainId
    LEFT JOIN (
        SELECT connectionId, streamId, min(startNs) AS startNs, max(endNs) AS endNs FROM TASK GROUP BY connectionId
    ) AS MARKED ON MARKED.connectionId = MSTX_EVENTS.connectionId
    WHERE MSTX_EVENTS.eventType <> ?
"""


class _Span(NamedTuple):
    """A kernel or a range on the device: when, on which stream's thread, and which of its kind."""

    start_ns: int
    end_ns: int
    thread: int
    which: int


def is_ascend_database(path: Path) -> bool:
    """Whether a file's name says that it is one."""
    return path.suffix == ".db"


def read_ascend(path: Path) -> Trace:
    """A database of torch_npu's profiler.

    Raises:
        ReportError: this is no such file, or it is damaged.
    """
    try:
        with opened(path) as database:
            return possible(_trace(database, tables_of(database)))
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        raise ReportError(f"{path} is damaged, or no database of torch_npu's profiler: {error}") from error


def _trace(database: sqlite3.Connection, tables: frozenset[str]) -> Trace:
    if missing := [table for table in _NEEDED if table not in tables]:
        raise ValueError(f"it has no table {', '.join(missing)}")
    notes: list[str] = []
    labels: dict[Label, int] = {}
    kernels: dict[Kernel, int] = {}
    process = 0
    ranges: list[_Span] = []
    if "MSTX_EVENTS" in tables:
        process, ranges = _ranges(database, labels, notes)
    else:
        notes.append("the report has no range (no table MSTX_EVENTS): profile with mstx on")
    if "COMPUTE_TASK_INFO" in tables:
        work = sorted(_kernels(database, kernels, process), key=lambda one: (one.thread, one.start_ns))
    else:
        work = []
        notes.append("the report has no kernel (no table COMPUTE_TASK_INFO)")
    spans = Spans(*_columns(sorted(ranges)))
    begun, ended, threads, which = _columns(work)
    launches = Launches(begun, begun, threads, np.arange(len(work) + 1))
    done = Work(begun, ended, which, np.zeros(len(work), dtype=bool))
    return Trace("torch_npu's profiler", tuple(kernels), done, launches, spans, tuple(labels), tuple(notes))


def _columns(spans: list[_Span]) -> tuple[Array, Array, Array, Array]:
    table = np.array(spans, dtype=np.int64).reshape(len(spans), 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _ranges(database: sqlite3.Connection, labels: dict[Label, int], notes: list[str]) -> tuple[int, list[_Span]]:
    """The process that entered ranges, and those that were begun on a stream."""
    found, process, on_host = [], 0, 0
    for caller, message, domain, start, end, stream in database.execute(_RANGES, (_MARK,)):
        process = int(caller or 0) >> _PROCESS_BITS or process
        if start is None:
            on_host += 1
            continue
        # torch_npu has one name for what nvtx calls no domain.
        label = Label("" if domain in (None, "default") else _text(domain), _text(message))
        place = labels.setdefault(label, len(labels))
        found.append(_Span(int(start), int(end), int(stream), place))
    if on_host:
        notes.append(f"{on_host} ranges were not begun on a stream, so that no kernel can be given to them")
    return process, [one._replace(thread=thread_id(process, one.thread)) for one in found]


def _kernels(database: sqlite3.Connection, kernels: dict[Kernel, int], process: int) -> Iterator[_Span]:
    for start, end, stream, name in database.execute(_KERNELS):
        said = _text(name)
        place = kernels.setdefault(Kernel(said, said), len(kernels))
        yield _Span(int(start), int(end), thread_id(process, int(stream)), place)


def _text(value: object) -> str:
    """A name that can be written; of a number that names no text there is none."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()
