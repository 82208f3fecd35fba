"""What a profiler is to see of a run when it is over, and how `profiles capture` asks for nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kernels_bench.commands.run.replay import REPLAYED_TURNS
from kernels_bench.records.manifest import RECORDS, read_records
from kernels_bench.records.results import Timing, Verification
from profiles.analysis.analyse import analyse
from profiles.capture.recorder import after_the_run
from profiles.instruments.range_names import REPLAY
from support import PLUGINS
from support.processes import kernels_bench
from support.profiler_reports import MESSAGE, Launch, Span, profiles, timing, write_report, write_run

VARIES = ("--arm", "varies,samebits", "--plugin", PLUGINS / "varies.py")
ARGUMENTS = ("--op", "mm", *VARIES, "--shapes", "64,96", "--dtype", "fp32", "--batch", "1,16", "--quick")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is over, with one counterexample."""
    path = tmp_path_factory.mktemp("replay") / "run"
    assert kernels_bench(*ARGUMENTS, "--relation", "repeat,batch_size", "--partial", "--out", path).status == 0
    return path


def test_a_run_that_is_over_is_replayed_and_nothing_else(run: Path, tmp_path: Path) -> None:
    before = list(read_records(run))
    broken = [
        (record.case.key, result.counterexample)
        for record in before
        if isinstance(record, Verification)
        for result in record.relations
        if result.counterexample is not None
    ]
    timed = {f"{one.case.arm}/mm/64x96,fp32/{one.m}" for one in before if isinstance(one, Timing)}
    assert len(broken) == 1
    assert len(timed) == 4
    line = (sys.executable, "-m", "kernels_bench", "--resume", run, "--replay")
    ended = profiles("capture", "--collector", "torch", "--out", tmp_path / "out", "--", *line)
    assert ended.status == 0, ended.stderr
    assert "replay: 5 to do" in ended.stderr
    after = list(read_records(run))
    assert [one for one in after if isinstance(one, Timing | Verification)] == [
        one for one in before if isinstance(one, Timing | Verification)
    ]

    found = {one.message: one.ranges for one in analyse(tmp_path / "out" / "report.json.gz").ranges}
    assert {message: count for message, count in found.items() if message in timed} == dict.fromkeys(
        timed, REPLAYED_TURNS
    )
    companies = {message for message in found if message.startswith("company/")}
    ((key, counterexample),) = broken
    assert companies == {
        f"company/{key}/{counterexample.reference.spec}/eager",
        f"company/{key}/{counterexample.company.spec}/{counterexample.company.launch}",
    }
    assert not any(message.startswith(("verify/", "order/")) for message in found)


def test_a_run_replays_only_when_asked(run: Path) -> None:
    ended = kernels_bench("--resume", run)
    assert ended.status == 0
    assert "replay:" not in ended.err


@pytest.mark.parametrize(
    ("typed", "started"),
    [
        ("python -m kernels_bench", "python -m kernels_bench --replay"),
        ("python3 -m kernels_bench --op mm --quick", "python3 -m kernels_bench --op mm --quick --replay"),
        ("python -X dev -m kernels_bench --resume run", "python -X dev -m kernels_bench --resume run --replay"),
        ("/venv/bin/kernels-bench --quick", "/venv/bin/kernels-bench --quick --replay"),
        ("python -m kernels_bench --replay --quick", "python -m kernels_bench --replay --quick"),
    ],
)
def test_a_run_is_recorded_when_it_is_over(typed: str, started: str) -> None:
    assert after_the_run(typed.split()) == (started.split(), "replay@kernels_bench")


@pytest.mark.parametrize(
    "typed",
    [
        "python -m kernels_bench order --op mm",
        "python -m kernels_bench --list",
        "python -m kernels_bench_of_mine --quick",
        "python -m e2e --model smollm2",
        "python -c pass",
        "kernels-bench faults",
    ],
)
def test_other_commands_are_recorded_as_they_run(typed: str) -> None:
    assert after_the_run(typed.split()) is None


def test_medians_of_a_run_that_was_replayed_hold_no_waiting(tmp_path: Path) -> None:
    kernels = [("a", 1000, 2000), ("a", 7100, 8100), ("a", 8200, 9200), ("spin_kernel", 9300, 9400)]
    spins = [("spin_kernel", 9500, 9600), ("spin_kernel", 9700, 9800), ("spin_kernel", 9900, 9999)]
    launch = Launch(950, 960, [*kernels, *spins], graph=True)
    # Entered by the parent, a process of its own; if the case was recorded before, its median was too.
    for name, begins, captured in (("after", 900, False), ("within", 955, True)):
        spans = [Span(MESSAGE, 940, 10**9), Span(REPLAY, begins, 10**9, pid=6, tid=6)]
        report = write_report(tmp_path / f"{name}.sqlite", spans, [launch])
        found = analyse(report, write_run(tmp_path / name, timing(16, 2, warm_us=4.0), pid=7))
        (row,) = found.cross_check
        assert row.captured is captured
        assert row.wait_us > 2
        assert row.difference_us == pytest.approx(4.0 - 1.0 - (row.wait_us if captured else 0.0))
        assert not any("is not the run that was recorded" in note for note in found.notes)


def test_the_records_say_nothing_of_a_replay(run: Path) -> None:
    assert REPLAY not in (run / RECORDS).read_text()
