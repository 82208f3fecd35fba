"""Whole runs on a GPU: kernels that lose it, counterexamples made again, ranges that Nsight Systems sees."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Verification
from support.processes import Faulty, environment, kernels_bench, run_beside

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

# What K stands for is in plugins/failing_gpu.py; the even ones are right.
REASONS = {
    65: r".*illegal memory access.*",
    67: r".*device-side assert.*",
    69: r"out of memory: .*",
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    chosen = ("--batch", "16", "--relation", "repeat")
    return run_beside("torch", tmp_path_factory.mktemp("failing"), "failing_gpu", range(64, 71), *chosen)


@pytest.mark.parametrize("k", REASONS)
def test_a_kernel_that_loses_the_gpu_costs_its_case_for_one_clear_reason(failing: Faulty, k: int) -> None:
    found = failing.verification("failing_gpu", k)
    assert found.status == "failed"
    assert "\n" not in found.reason
    assert re.fullmatch(REASONS[k], found.reason)
    assert failing.timing("failing_gpu", k).status == "skipped"


@pytest.mark.parametrize("k", [64, 66, 68, 70])
def test_the_next_case_has_a_gpu_again(failing: Faulty, k: int) -> None:
    assert failing.verification("failing_gpu", k).verdict == "sampled"
    assert failing.timing("failing_gpu", k).status == "measured"


def test_the_other_arm_notices_nothing(failing: Faulty) -> None:
    for k in failing.lengths:
        assert failing.verification("torch", k).status == "measured"
        assert failing.timing("torch", k).status == "measured"
    assert failing.ended.status == 3
    assert failing.left == []


def test_a_full_gpu_costs_the_cases_and_one_clear_reason(tmp_path: Path) -> None:
    # Less than a process needs for itself: it dies before torch's allocator is asked.
    room = torch.cuda.mem_get_info()[0] - (200 << 20)
    held = torch.empty(room, dtype=torch.uint8, device="cuda")
    chosen = ("--op", "rms_norm", "--arm", "torch,samebits", "--shapes", "1x64,1x66", "--dtype", "bf16,fp32")
    ended = kernels_bench(*chosen, "--batch", "1", "--relation", "repeat", "--out", tmp_path / "run")
    del held
    torch.cuda.empty_cache()
    found = [r for r in read_records(tmp_path / "run") if isinstance(r, Verification)]
    assert ended.status == 3
    assert {one.status for one in found} == {"failed"}
    assert all("out of memory" in one.reason for one in found)


def test_a_counterexample_is_made_again_by_its_command(tmp_path: Path) -> None:
    # cuBLAS splits K for few rows.
    chosen = ("--op", "mm", "--arm", "torch", "--shapes", "512x8192", "--dtype", "bf16", "--batch", "1,16,64,1024")
    assert kernels_bench(*chosen, "--relation", "batch_size", "--partial", "--out", tmp_path / "run").status == 0
    (found,) = [r for r in read_records(tmp_path / "run") if isinstance(r, Verification)]
    shown = found.counterexample
    assert found.verdict == "variant"
    assert shown is not None
    done = subprocess.run(
        [sys.executable, *shlex.split(shown.command)[1:]],
        env=environment(COLUMNS=400),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"{shown.rows} of {shown.rows_compared} rows differ, in {shown.elements} elements" in done.stdout
    assert f"{shown.expected!r} ({shown.expected_bits}) became {shown.got!r} ({shown.got_bits})" in done.stdout


@pytest.mark.skipif(shutil.which("nsys") is None, reason="needs nsys")
def test_nsight_systems_sees_the_ranges_of_what_is_timed(tmp_path: Path) -> None:
    chosen = ("--op", "rms_norm", "--arm", "torch,samebits", "--shapes", "4096x4096", "--dtype", "bf16")
    few = ("--batch", "16", "--relation", "repeat", "--partial", "--out", str(tmp_path / "run"))
    program = [sys.executable, "-m", "kernels_bench", *chosen, *few]
    nsys = ["nsys", "profile", "-t", "cuda,nvtx", "-s", "none", "--cpuctxsw=none", "--cuda-graph-trace=node"]
    done = subprocess.run(
        [*nsys, "-o", str(tmp_path / "report"), "--export=sqlite", *program],
        env={**environment(), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with sqlite3.connect(tmp_path / "report.sqlite") as report:
        rows = report.execute(
            "SELECT coalesce(e.text, s.value), d.text, e.int64Value, count(*) FROM NVTX_EVENTS e "
            "LEFT JOIN StringIds s ON s.id = e.textId "
            "JOIN NVTX_EVENTS d ON d.eventType = 75 AND d.domainId = e.domainId "
            "AND d.globalTid >> 24 = e.globalTid >> 24 "
            "WHERE e.eventType = 59 GROUP BY 1, 2, 3"
        ).fetchall()
    turns = {name: (domain, payload, count) for name, domain, payload, count in rows if not name.startswith("warm-up")}
    for arm in ("torch", "samebits"):
        domain, payload, count = turns[f"{arm}/rms_norm/4096,bf16/16"]
        assert (domain, payload) == ("kernels_bench", 16)
        assert count >= 4  # a range a turn
