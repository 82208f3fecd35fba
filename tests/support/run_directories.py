"""Records of every kind, and processes that use a run directory."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernels_bench.records.manifest import MANIFEST, RECORDS, ResultsError, RunDirectory
from kernels_bench.records.results import (
    NUMBERED_FROM,
    AnyRecord,
    ArmStart,
    Ceiling,
    Finished,
    Timing,
    Verification,
)
from profiles.run_files.numbered_lines import record_in
from support import ROOT, TESTS
from support.stored_records import CASE, timing, verification

EVERY_KIND: tuple[AnyRecord, ...] = (
    ArmStart(arm="samebits", claims=True, provenance="torch 2.13.0+cpu, /a path/x.py", pid=10840, seconds=0.014),
    verification(),
    Verification(case=CASE, status="failed", reason="the worker of samebits was killed by SIGKILL"),
    Ceiling(bandwidth_gb_s=3350.0, tflop_s={"bf16": 989.4, "fp32": math.nan}),
    timing(),
    Timing(case=CASE, m=1, status="skipped", reason="the result is wrong, so its speed means nothing"),
    Finished(seconds=12.936636683999495),
)


def as_of_schema(path: Path, version: int) -> None:
    """Make a run what it would be of an earlier schema, whose lines had no number and no digest."""
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "schema_version": version}))
    if version < NUMBERED_FROM:
        lines = (path / RECORDS).read_bytes().splitlines()
        (path / RECORDS).write_bytes(b"".join(record_in(line, n) + b"\n" for n, line in enumerate(lines, start=1)))


def refusal(path: Path) -> ResultsError:
    with pytest.raises(ResultsError) as caught:
        list(RunDirectory.resume(path).records())
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value


def texts(records: list[AnyRecord]) -> list[str]:
    """As JSON, in which NaN equals NaN."""
    return [record.model_dump_json() for record in records]


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    paths = os.pathsep.join(p for p in (str(ROOT), str(TESTS), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
