"""A report with a million kernels: analysed within 20 s of a processor, which others may use too, and 1 GB."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support import ROOT
from support.profiler_reports import h100_report

KERNELS, SECONDS, BYTES = 1_000_000, 20, 10**9

_GROWN = {
    "NVTX_EVENTS": ("start", "end"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_KERNEL": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("start", "end", "correlationId"),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("start", "end", "correlationId"),
}


def multiplied(path: Path) -> int:
    """The real report many times over, each time later and with launches of its own; the number of its kernels."""
    path.write_bytes(h100_report().read_bytes())
    with closing(sqlite3.connect(path)) as database:
        (once,) = database.execute("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
        (later,) = database.execute("SELECT max(end) FROM NVTX_EVENTS").fetchone()
        (launches,) = database.execute("SELECT max(correlationId) FROM CUPTI_ACTIVITY_KIND_RUNTIME").fetchone()
        times = -(-KERNELS // once)
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


def seconds_of_children() -> float:
    """What processes that have ended took of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_million_kernels(tmp_path: Path) -> None:
    report = tmp_path / "large.sqlite"
    assert multiplied(report) >= KERNELS
    before = seconds_of_children()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, report, tmp_path / "a.csv"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = seconds_of_children() - before
    assert done.returncode == 0, done.stderr
    kernels, peak_kib = map(int, done.stdout.split())
    assert kernels >= KERNELS
    print(f"{seconds:.1f} s, {peak_kib / 1024:.0f} MiB")
    assert seconds < SECONDS
    assert 1024 * peak_kib < BYTES


PROGRAM = """
import re, sys
from pathlib import Path
from profiles.analysis.analyse import analyse
from profiles.output.csv_table import write_csv

found = analyse(Path(sys.argv[1]))
with open(sys.argv[2], "w") as file:
    write_csv(found.ranges, file)
# What no range encloses was cut away, and nested ranges count their kernels again.
kernels = sum(one.kernels for one in found.ranges if one.domain == "kernels_bench")
# Not ru_maxrss, which begins with what the process that forked this one used.
print(kernels, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
