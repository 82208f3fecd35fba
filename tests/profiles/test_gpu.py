"""Recording with a real nsys on a GPU: its traps, agreement with its own tables, medians and kernel time."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from profiles.analysis.analyse import analyse
from profiles.analysis.cross_check import agreement
from profiles.analysis.kernels.families import OTHER
from profiles.analysis.range_summaries import kernel_uses, summarise
from profiles.capture.nsys import find_nsys
from profiles.errors import ReportError
from profiles.trace.attribution import instances
from profiles.trace.nsight_sqlite import read_sqlite
from support.profiler_reports import profiles


def _nsys() -> str:
    try:
        return str(find_nsys())
    except ReportError:
        return ""


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    pytest.mark.skipif(not _nsys(), reason="needs nsys"),
]

CASES = "--op mm,rms_norm --arm torch,samebits --shapes 4096x4096,4096 --dtype bf16 --batch 1,16,256,2048"
QUIET = "--relation batch_size --partial"


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run, and the same without a profiler."""
    folder = tmp_path_factory.mktemp("captured")
    run = [sys.executable, "-m", "kernels_bench", *CASES.split(), *QUIET.split()]
    ended = profiles("capture", "--out", folder / "profile", "--", *run, "--out", folder / "run")
    assert ended.status == 0, ended.stderr
    subprocess.run([*run, "--out", str(folder / "plain")], check=True, capture_output=True)
    return folder


def nsys_rows(captured: Path, report: str) -> list[dict[str, str]]:
    line = [
        _nsys(),
        "stats",
        "--format=csv",
        f"--report={report}",
        "--quiet",
        str(captured / "profile" / "report.sqlite"),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    lines = [one for one in done.stdout.splitlines() if "," in one and not one.startswith("Processing")]
    return list(csv.DictReader(lines))


def test_ranges_agree_exactly_with_nsys(captured: Path) -> None:
    found = {one.text: one for one in summarise(read_sqlite(captured / "profile" / "report.sqlite")) if one.message}
    rows = nsys_rows(captured, "nvtx_gpu_proj_sum")
    assert {row["Range"] for row in rows} == set(found)
    for row in rows:
        one = found[row["Range"]]
        assert one.span.total_ns == int(row["Total Proj Time (ns)"])
        assert one.launches == int(row["Total GPU Ops"])


def test_kernels_agree_exactly_with_nsys(captured: Path) -> None:
    trace = read_sqlite(captured / "profile" / "report.sqlite")
    names: dict[str, int] = {}
    group = np.array([names.setdefault(kernel.kind + kernel.name, len(names)) for kernel in trace.kernels])
    found = {
        (one.label.text, use.pid, use.tid, use.kernel.name): (use.ranges, use.time.count, use.time.total_ns)
        for one in instances(trace)
        if one.label
        for use in kernel_uses(trace, one, group)
        if use.kernel.kind == "kernel"
    }
    rows = [row for row in nsys_rows(captured, "nvtx_kern_sum:base") if row["NVTX Range"]]
    assert {
        (row["NVTX Range"], int(row["PID"]), int(row["TID"]), row["Kernel Name"]): (
            int(row["NVTX Inst"]), int(row["Kern Inst"]), int(row["Total Time (ns)"])
        )
        for row in rows
    } == found  # fmt: skip


def test_medians_agree_with_kernel_time(captured: Path) -> None:
    found = analyse(captured / "profile" / "report.sqlite", captured / "run", captured / "plain")
    warm = [row for row in found.cross_check if row.cache == "warm"]
    assert len(warm) == 16
    for told in (agreement(warm), agreement(warm, uncaptured=True)):
        assert told.long_share <= 0.02
        assert told.short_us <= 0.3


def test_recording_costs_the_medians_next_to_nothing(captured: Path) -> None:
    found = analyse(captured / "profile" / "report.sqlite", captured / "run", captured / "plain")
    assert not any(row.captured for row in found.cross_check)
    assert len(found.capture_costs) == 2
    assert all(one.cases == 16 and abs(one.share) <= 0.05 for one in found.capture_costs)


def test_the_report_holds_what_was_replayed(captured: Path) -> None:
    found = analyse(captured / "profile" / "report.sqlite", captured / "run")
    assert not found.untold
    assert not any(one.message.startswith(("verify/", "order/")) for one in found.ranges)
    assert [one.case for one in found.explanations if one.found == "changed"] == ["torch/mm/4096x4096/bf16"]


def test_only_the_chosen_range_is_recorded(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "kernels_bench", *CASES.split(), *QUIET.split(), "--out", tmp_path / "run"]
    chosen = "verify/torch/mm/4096x4096/bf16"
    ended = profiles("capture", "--out", tmp_path / "a", "--range", f"{chosen}@kernels_bench", "--", *run)
    assert ended.status == 0, ended.stderr
    texts = {one.message for one in analyse(tmp_path / "a" / "report.sqlite").ranges}
    assert chosen in texts
    assert not any(text.startswith("torch/mm") for text in texts)
    ended = profiles("capture", "--out", tmp_path / "b", "--range", "nothing@here", "--", sys.executable, "-c", "pass")
    assert ended.status == 3
    assert "no range matched nothing@here" in ended.stderr


def test_torch_records_kernels_on_a_gpu(tmp_path: Path) -> None:
    program = (
        "import torch; from profiles.instruments.ranges import Ranges; x = torch.ones(512, 512, device='cuda')\n"
        "with Ranges('mine').range('r'): (x @ x).sum(); torch.cuda.synchronize()"
    )
    line = ("capture", "--collector", "torch", "--out", tmp_path / "out", "--", sys.executable, "-c", program)
    assert profiles(*line).status == 0
    (one,) = [one for one in analyse(tmp_path / "out" / "report.json.gz").ranges if one.text == "mine:r"]
    assert one.kernels >= 2
    assert all(use.kernel.grid != (0, 0, 0) for use in one.uses if use.kernel.kind == "kernel")


def test_an_engines_kernels_have_families(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    sizes = "--batch-size 8 --num-trials 2 --min-prompt 64 --max-prompt 256 --max-tokens 16 --eager"
    words = f"--model synthetic:qwen3-8b@4 {sizes}"
    run = [sys.executable, "-m", "e2e", *words.split(), "--out", str(tmp_path / "run")]
    ended = profiles("capture", "--out", tmp_path / "a", "--", *run)
    assert ended.status in (0, 1), ended.stderr
    arms = analyse(tmp_path / "a" / "report.sqlite").families
    assert {arm.arm for arm in arms} == {"baseline", "batch-invariant"}, ended.stderr
    for arm in arms:
        shares = {one.family: one.share for one in arm.families}
        assert shares.get(OTHER, 0) < 0.05, arm.other
        assert shares["GEMM"] > 0.1
        assert not any(re.search("nvjet|gemm", name) for name in arm.other)
