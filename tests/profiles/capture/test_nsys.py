"""Recording with a real Nsight Systems on a machine without a GPU: ranges, statuses, and the traps that need no kernel.

`tests/fetch_nsys.sh` gets one; kernels are recorded by `profiles/test_gpu.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from profiles.analysis.analyse import analyse
from profiles.capture.nsys import find_nsys, nsys_version, nvtx_incompatibility
from profiles.trace.nsight_sqlite import read_sqlite
from support import ROOT
from support.profiler_reports import Ended, profiles

pytestmark = [
    pytest.mark.skipif(shutil.which("nsys") is None, reason="needs nsys in PATH: tests/fetch_nsys.sh DIR"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU: see profiles/test_gpu.py"),
    pytest.mark.timeout(300),
]

RANGES = """
from profiles.instruments.ranges import Ranges
ranges = Ranges("mine")
assert ranges.recorded
for m in (1, 16):
    with ranges.range(f"r/{m}", category="mm", payload=m):
        pass
"""


def deaf() -> str:
    return nvtx_incompatibility(nsys_version(find_nsys()))


@pytest.fixture
def fitting_nvtx(request: pytest.FixtureRequest) -> dict[str, str]:
    """What puts an nvtx first that this nsys listens to: the installed one, or one of before 0.2.12."""
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    if deaf():
        path.insert(0, str(request.getfixturevalue("earlier_nvtx")))
    return {"PYTHONPATH": os.pathsep.join(path)}


def capture(folder: Path, *words: object, **env: str) -> Ended:
    """A capture, begun anew up to twice where nsys itself did not start.

    About one start in a hundred of nsys 2022.4 does not reach its own agent, and ends before the command begins with an
    exception of its own (QuadDProtobufComm, boost) or "Connection reset by peer": seen with nsys alone.
    """
    for _ in range(3):
        shutil.rmtree(folder / "out", ignore_errors=True)
        ended = profiles("capture", "--out", folder / "out", *words, env=env, cwd=folder)
        if not re.search("QuadD|boost|Connection reset by peer", ended.stderr):
            break
    return ended


def test_ranges_come_through_with_their_payloads(tmp_path: Path, fitting_nvtx: dict[str, str]) -> None:
    ended = capture(tmp_path, "--", sys.executable, "-c", RANGES, **fitting_nvtx)
    assert ended.status == 0, ended.stderr
    assert "the report holds no kernel: nothing ran on a GPU" in ended.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"report.nsys-rep", "report.sqlite", "capture.json"}
    trace = read_sqlite(tmp_path / "out" / "report.sqlite")
    assert trace.source.startswith(f"Nsight Systems {nsys_version(find_nsys())}")
    assert [label.text for label in trace.labels] == ["mine:r/1", "mine:r/16"]
    with closing(sqlite3.connect(tmp_path / "out" / "report.sqlite")) as database:
        rows = database.execute("SELECT int64Value FROM NVTX_EVENTS WHERE eventType = 59 ORDER BY start").fetchall()
    assert rows == [(1,), (16,)]


def test_only_the_range_that_was_chosen_is_recorded(tmp_path: Path, fitting_nvtx: dict[str, str]) -> None:
    ended = capture(tmp_path, "--range", "r/16@mine", "--", sys.executable, "-c", RANGES, **fitting_nvtx)
    assert ended.status == 0, ended.stderr
    assert [label.text for label in read_sqlite(tmp_path / "out" / "report.sqlite").labels] == ["mine:r/16"]


def test_a_range_that_matches_nothing(tmp_path: Path, fitting_nvtx: dict[str, str]) -> None:
    ended = capture(tmp_path, "--range", "nothing@here", "--", sys.executable, "-c", RANGES, **fitting_nvtx)
    assert ended.status == 3
    assert "no range matched nothing@here" in ended.stderr


def test_the_exit_status_is_the_commands_own(tmp_path: Path) -> None:
    ended = capture(tmp_path, "--", sys.executable, "-c", "raise SystemExit(7)")
    assert ended.status == 7
    assert (tmp_path / "out" / "report.sqlite").is_file()


def test_an_nvtx_that_would_record_nothing_is_named_before_and_by_the_command(tmp_path: Path) -> None:
    if not deaf():
        pytest.skip("this nsys listens to every nvtx")
    ended = capture(tmp_path, "--", sys.executable, "-c", RANGES)
    assert ended.status == 1
    assert "records nothing under nsys" in ended.stderr
    assert "RangesNotRecorded: nsys would see no range" in ended.stderr


def test_a_run_of_kernels_bench_is_recorded_once_it_is_over(tmp_path: Path, fitting_nvtx: dict[str, str]) -> None:
    cases = "--op mm --arm torch --shapes 64,512 --dtype fp32 --batch 1,16 --relation batch_size --quick"
    run = [sys.executable, "-m", "kernels_bench", *cases.split(), "--out", "run"]
    ended = capture(tmp_path, "--", *run, **fitting_nvtx)
    assert ended.status == 0, ended.stderr
    texts = {label.text for label in read_sqlite(tmp_path / "out" / "report.sqlite").labels}
    assert {f"kernels_bench:torch/mm/64x512,fp32/{m}" for m in (1, 16)} <= texts
    assert not any("verify/" in text for text in texts)
    found = analyse(tmp_path / "out" / "report.sqlite", tmp_path / "run")
    assert all(one.found == "untold" for one in found.explanations)
