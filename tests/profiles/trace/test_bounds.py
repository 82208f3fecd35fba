"""Reports that are meant to be read for ever, or to fill the memory, end soon with one line."""

from __future__ import annotations

import gzip
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from profiles.errors import ReportError
from profiles.trace.database import LONGEST_VALUE
from profiles.trace.nsight_sqlite import read_sqlite
from profiles.trace.torch_json import MOST_TRACE, read_torch_trace
from support.profiler_reports import Launch, Span, write_report

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path / "report.sqlite", [Span("step", 0, 90)], [Launch(10, 20, [("gemm", 30, 60)])])


@pytest.mark.parametrize("table", ["CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS", "StringIds", "META_DATA_EXPORT"])
def test_a_view_without_end_is_no_table(report: Path, table: str) -> None:
    with closing(sqlite3.connect(report)) as database:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")] or ["name", "value"]
        database.execute(f"DROP TABLE IF EXISTS {table}")
        database.execute(f"CREATE VIEW {table} AS {ENDLESS.format(', '.join(f'i AS {name}' for name in columns))}")
        database.commit()
    assert len(read_sqlite(report).work) in (0, 1)  # who reads to the end never comes back


def test_a_huge_value_is_one_line(report: Path) -> None:
    with closing(sqlite3.connect(report)) as database:
        database.execute("UPDATE StringIds SET value = zeroblob(?)", (LONGEST_VALUE + 1,))
        database.commit()
    with pytest.raises(ReportError, match="too big"):
        read_sqlite(report)


def test_a_pipe_in_the_place_of_a_report_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.sqlite")
    os.mkfifo(tmp_path / "trace.json")
    with pytest.raises(ReportError, match="no regular file"):
        read_sqlite(tmp_path / "report.sqlite")
    with pytest.raises(ReportError, match="no regular file"):
        read_torch_trace(tmp_path / "trace.json")


EVENT = '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "x", "tid": 1, "dur": 1, "pid": %s, "ts": %s}]}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"traceEvents": [7]}', "an event is no object"),
        (EVENT % ("1", "Infinity"), "is damaged"),
        (EVENT % ("1", "1e300"), "is damaged"),
        (EVENT % ("1e30", "1"), "is damaged"),
        (f'{{"traceEvents": [{"9" * 5000}]}}', "is damaged"),
    ],
)
def test_what_no_trace_holds_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trace.json").write_text(text)
    with pytest.raises(ReportError, match=said) as caught:
        read_torch_trace(tmp_path / "trace.json")
    assert "\n" not in str(caught.value)


MOST_MEMORY = 1 << 30


@pytest.mark.parametrize("name", ["trace.json.gz", "records.jsonl.gz"])
def test_a_few_bytes_that_unpack_to_gigabytes_are_one_line_within_a_gigabyte(tmp_path: Path, name: str) -> None:
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as packed:
        for _ in range((MOST_TRACE >> 24) + 2):
            packed.write(bytes(1 << 24))
    if name.startswith("trace"):
        words = ["profiles", "analyze", tmp_path / name]
    else:
        (tmp_path / "run.json").write_text('{"schema_version": 2, "selection": {}}')
        report = write_report(tmp_path / "r.sqlite", [Span("step", 0, 90)], [])
        words = ["profiles", "analyze", report, "--run", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY)),
    )
    assert done.returncode == 2, done
    assert "larger than" in done.stderr or "longer than" in done.stderr
    assert done.stderr.count("\n") == 1
