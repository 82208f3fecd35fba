"""A report with a million kernels: analysed within 1 GB, and in ten times the time that a tenth of it takes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support import ROOT
from support.profiler_reports import h100_report

KERNELS, BYTES = 1_000_000, 10**9
GROWTH = 20
"""Ten are expected, and twice as many are allowed for a machine that others use too; what grew by the square: 100."""

_GROWN = {
    "NVTX_EVENTS": ("start", "end"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_KERNEL": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("start", "end", "correlationId"),
}


def multiplied(path: Path, least: int) -> int:
    """The real report many times over, each time later and with launches of its own; the number of its kernels."""
    path.write_bytes(h100_report().read_bytes())
    with closing(sqlite3.connect(path)) as database:
        (once,) = database.execute("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
        (later,) = database.execute("SELECT max(end) FROM NVTX_EVENTS").fetchone()
        (launches,) = database.execute("SELECT max(correlationId) FROM CUPTI_ACTIVITY_KIND_RUNTIME").fetchone()
        times = -(-least // once)
        database.execute(
            "CREATE TEMP TABLE copies AS WITH RECURSIVE c(n) AS "
            f"(SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {times - 1}) SELECT n FROM c"
        )
        for table, grown in _GROWN.items():
            columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
            step = {"start": later, "end": later, "correlationId": launches}
            chosen = ", ".join(f"{name} + n * {step[name]}" if name in grown else name for name in columns)
            where = "WHERE eventType <> 75" if table == "NVTX_EVENTS" else ""
            rows = f"SELECT {chosen} FROM {table}, copies {where}"
            database.execute(f"CREATE TEMP TABLE more AS {rows}")
            database.execute(f"INSERT INTO {table} SELECT * FROM more")
            database.execute("DROP TABLE more")
        database.commit()
        (count,) = database.execute("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
    return int(count)


@pytest.mark.long  # what a report may take at most is seen in test_bounds.py
def test_a_million_kernels(tmp_path: Path) -> None:
    tenth, whole = tmp_path / "tenth.sqlite", tmp_path / "whole.sqlite"
    assert multiplied(tenth, KERNELS // 10) < KERNELS // 5
    assert multiplied(whole, KERNELS) >= KERNELS
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tenth, whole, tmp_path / "a.csv"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels, peak_kib, first, second = map(float, done.stdout.split())
    assert kernels >= KERNELS
    print(f"{first:.1f} s and {second:.1f} s, {peak_kib / 1024:.0f} MiB")
    assert second < GROWTH * first
    assert 1024 * peak_kib < BYTES


PROGRAM = """
import re, sys, time
from pathlib import Path
from profiles.analysis.analyse import analyse
from profiles.output.csv_table import write_csv

def analysed(report):
    # What is found, and the seconds of a processor that it took.
    began = time.process_time()
    found = analyse(Path(report))
    with open(sys.argv[3], "w") as file:
        write_csv(found.ranges, file)
    return found, time.process_time() - began

_, first = analysed(sys.argv[1])
found, second = analysed(sys.argv[2])
# What no range encloses was cut away, and nested ranges count their kernels again.
kernels = sum(one.kernels for one in found.ranges if one.domain == "kernels_bench")
# Not ru_maxrss, which begins with what the process that forked this one used.
print(kernels, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], first, second)
"""
