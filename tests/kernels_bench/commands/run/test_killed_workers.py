"""A worker is killed from outside while it works: the run says so, and a resumed one goes on with that very case."""

from __future__ import annotations

import signal
from pathlib import Path

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Timing, Verification
from support import PLUGINS
from support.processes import finish, start, wait_until, workers_of

GATED = (
    *("--op", "rms_norm", "--arm", "gated", "--dtype", "fp32", "--relation", "repeat", "--partial", "--quick"),
    *("--shapes", "1x64,1x65,1x66", "--batch", "1,4", "--plugin", PLUGINS / "gated.py"),
)


def test_the_case_at_hand_is_tried_again_with_its_timings_and_no_other(tmp_path: Path) -> None:
    gate, run = tmp_path / "gate", tmp_path / "run"
    process = start(*GATED, "--out", run, SAMEBITS_TEST_GATE=gate)
    assert wait_until(gate.with_suffix(".waiting").exists), process.communicate()
    for worker in workers_of(process.pid):
        worker.send_signal(signal.SIGKILL)
    gate.touch()
    cut = finish(process)
    assert cut.status == 3
    assert f"--resume {run} tries it again" in cut.out
    before = list(read_records(run))
    lost = [record for record in before if isinstance(record, Verification | Timing) and record.cause == "killed"]
    assert [(record.kind, record.status) for record in lost] == [
        ("verification", "failed"),
        ("timing", "skipped"),
        ("timing", "skipped"),
    ]
    resumed = finish(start("--resume", run, SAMEBITS_TEST_GATE=gate))
    assert resumed.status == 0, resumed
    new = [record for record in list(read_records(run))[len(before) :] if isinstance(record, Verification | Timing)]
    assert {(record.kind, record.key, record.status) for record in new} == {
        (record.kind, record.key, "measured") for record in lost
    }
    assert "failed" not in resumed.out
