"""A small database, made to the schema that msprof-analyze reads: none of a real NPU is here."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from profiles.analysis.analyse import analyse, read_report
from profiles.errors import ReportError
from profiles.trace.model import pid_and_tid

PID, TID = 4321, 4400
SCHEMA = """
CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, deviceId INTEGER, connectionId INTEGER, globalTaskId INTEGER,
    globalPid INTEGER, taskType INTEGER, contextId INTEGER, streamId INTEGER, taskId INTEGER, modelId INTEGER);
CREATE TABLE COMPUTE_TASK_INFO (name INTEGER, globalTaskId INTEGER PRIMARY KEY, blockDim INTEGER, taskType INTEGER);
CREATE TABLE MSTX_EVENTS (startNs INTEGER, endNs INTEGER, eventType INTEGER, rangeId INTEGER, category INTEGER,
    message INTEGER, globalTid INTEGER, endGlobalTid INTEGER, domainId INTEGER, connectionId INTEGER);
"""
STRINGS = {1: "kernels_bench", 2: "torch/mm/4096x12288,bf16/16", 3: "outer", 4: "MatMulV3", 5: "Add", 6: "default"}
# (start, end, connection, task, stream), in nanoseconds; the first three are ranges on the device.
TASKS = (
    (100, 500, 1, 1, 7),
    (150, 300, 2, 2, 7),
    (350, 450, 3, 3, 7),
    (200, 250, 11, 11, 7),
    (400, 420, 12, 12, 7),
    (210, 230, 13, 13, 8),  # beside them, on another stream
)
KERNELS = {11: 4, 12: 5, 13: 5}
# (start, end, type, message, domain, connection): on the host they end before the device has begun.
EVENTS = (
    (10, 40, 2, 3, 6, 1),
    (12, 20, 2, 2, 1, 2),
    (22, 30, 2, 2, 1, 3),
    (31, 31, 3, 3, 6, 2),  # a mark
    (50, 60, 2, 3, 6, 99),  # begun on no stream
)


def made(path: Path, without: str = "") -> Path:
    """The database, without one of its tables."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(SCHEMA)
        database.executemany("INSERT INTO STRING_IDS VALUES (?, ?)", STRINGS.items())
        for start, end, connection, task, stream in TASKS:
            row = (start, end, 0, connection, task, PID, 0, 0, stream, task, 0)
            database.execute(f"INSERT INTO TASK VALUES ({', '.join('?' * len(row))})", row)
        for task, name in KERNELS.items():
            database.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (?, ?, 20, 0)", (name, task))
        caller = PID << 32 | TID
        for start, end, kind, message, domain, connection in EVENTS:
            event = (start, end, kind, 0, 0, message, caller, caller, domain, connection)
            database.execute(f"INSERT INTO MSTX_EVENTS VALUES ({', '.join('?' * len(event))})", event)
        if without:
            database.execute(f"DROP TABLE {without}")
    return path


def test_kernels_belong_to_the_ranges_within_whose_tasks_they_ran(tmp_path: Path) -> None:
    found = analyse(made(tmp_path / "ascend_pytorch_profiler_0.db"))
    told = {
        (one.domain, one.message): (one.ranges, {use.kernel.name: use.time.count for use in one.uses})
        for one in found.ranges
    }
    assert told["", "outer"] == (1, {"MatMulV3": 1, "Add": 1})
    assert told["kernels_bench", STRINGS[2]] == (2, {"MatMulV3": 1, "Add": 1})
    assert told["", ""] == (0, {"Add": 1})  # on the other stream, in no range
    assert found.notes == ("1 ranges were not begun on a stream, so that no kernel can be given to them",)


def test_times_are_the_devices_and_the_process_is_that_of_the_ranges(tmp_path: Path) -> None:
    trace = read_report(made(tmp_path / "of.db"))
    assert sorted(zip(trace.ranges.start_ns.tolist(), trace.ranges.end_ns.tolist(), strict=True)) == [
        (100, 500),
        (150, 300),
        (350, 450),
    ]
    assert {pid_and_tid(thread) for thread in trace.ranges.thread.tolist()} == {(PID, 7)}
    assert [trace.kernels[which].name for which in trace.work.kernel] == ["MatMulV3", "Add", "Add"]


@pytest.mark.parametrize(
    ("without", "note"), [("MSTX_EVENTS", "no range"), ("COMPUTE_TASK_INFO", "no kernel"), ("TASK", "")]
)
def test_what_a_database_lacks_is_said(without: str, note: str, tmp_path: Path) -> None:
    path = made(tmp_path / "of.db", without)
    if not note:
        with pytest.raises(ReportError, match="it has no table TASK"):
            read_report(path)
        return
    assert any(note in said for said in read_report(path).notes)


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "of.db").write_text("nothing of the kind" * 100)
    with pytest.raises(ReportError, match="no database of torch_npu's profiler"):
        read_report(tmp_path / "of.db")
