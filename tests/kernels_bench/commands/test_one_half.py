"""``--verify-only`` and ``--time-only``: one half of a run without the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Ceiling, Timing, Verification
from support.processes import Ended, kernels_bench

CASE = ("--op", "rms_norm", "--shapes", "64", "--dtype", "fp32", "--arm", "torch,samebits", "--quick")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Ended, Path]]:
    at = tmp_path_factory.mktemp("halves")
    options = {"verify": ("--verify-only",), "time": ("--time-only",), "partial": ("--time-only", "--partial")}
    with ThreadPoolExecutor(2) as pool:
        ended = {name: pool.submit(kernels_bench, *CASE, *more, "--out", at / name) for name, more in options.items()}
    return {name: (future.result(), at / name) for name, future in ended.items()}


def test_what_is_verified_only_has_its_verdict_and_no_time(runs: dict[str, tuple[Ended, Path]]) -> None:
    ended, run = runs["verify"]
    assert ended.status == 0, ended.err
    records = list(read_records(run))
    assert [record.verdict for record in records if isinstance(record, Verification)] == ["sampled", "sampled"]
    assert not any(isinstance(record, Timing | Ceiling) for record in records)


@pytest.mark.parametrize(("name", "status"), [("time", 3), ("partial", 0)])
def test_what_is_timed_only_has_times_and_vouches_for_nothing(
    runs: dict[str, tuple[Ended, Path]], name: str, status: int
) -> None:
    ended, run = runs[name]
    assert ended.status == status, ended.err
    records = list(read_records(run))
    assert not any(isinstance(record, Verification) for record in records)
    timed = [record for record in records if isinstance(record, Timing)]
    assert {record.case.arm for record in timed} == {"torch", "samebits"}
    assert {record.status for record in timed} == {"measured"}
    assert "left out: every relation" in ended.out
    assert "kept" not in ended.out


def test_both_at_once_is_neither(tmp_path: Path) -> None:
    ended = kernels_bench(*CASE, "--verify-only", "--time-only", "--out", tmp_path / "run")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
