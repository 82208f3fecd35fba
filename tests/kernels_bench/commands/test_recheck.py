"""Counterexamples of a run, made again by fresh workers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kernels_bench.commands.recheck import Rechecked, exit_status, in_words, recheck
from kernels_bench.console.errors import UsageError
from kernels_bench.console.progress import PlainDisplay
from kernels_bench.records.manifest import RECORDS
from profiles.run_files.numbered_lines import FIELDS, numbered
from profiles.run_files.run_directory import MANIFEST
from support import PLUGINS
from support.processes import kernels_bench

ARGUMENTS = (
    *("--op", "attention_decode,mean", "--arm", "varies,samebits", "--plugin", PLUGINS / "varies.py"),
    *("--shapes", "4x2x16x16x65,96", "--batch", "1,4,17", "--dtype", "bf16,fp32", "--quick"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recheck") / "run"
    kernels_bench(*ARGUMENTS, "--out", path)
    return path


@pytest.fixture(scope="module")
def rechecked(run: Path) -> list[Rechecked]:
    return recheck(run, None, 60.0, PlainDisplay(Console(quiet=True)))


def doctored(run: Path, target: Path, was: str, now: object) -> Path:
    """The run with one field of its counterexamples replaced."""
    shutil.copytree(run, target)
    lines = []
    for line in (run / RECORDS).read_text().splitlines():
        record = json.loads(line)
        for result in record.get("relations", ()):
            if result["counterexample"] is not None:
                result["counterexample"][was] = now
        lines.append(record)
    write_lines(target, lines)
    return target


def write_lines(run: Path, records: Sequence[dict[str, Any]]) -> None:
    """Records as a run has them, each with its number and digest."""
    texts = (json.dumps({name: value for name, value in one.items() if name not in FIELDS}) for one in records)
    (run / RECORDS).write_bytes(b"".join(numbered(n, text.encode()) + b"\n" for n, text in enumerate(texts, start=1)))


def test_every_counterexample_comes_out_the_same(run: Path, rechecked: list[Rechecked]) -> None:
    done, found = kernels_bench("recheck", run), rechecked
    assert {one.case.operator for one in found} == {"attention_decode", "mean"}
    assert all(one.same for one in found)
    assert done.status == 0
    assert done.out.strip() == f"{len(found)} of {len(found)} counterexamples came out the same, to the last bit"


def test_other_bits_than_the_runs_are_told(run: Path, tmp_path: Path) -> None:
    changed = doctored(run, tmp_path / "changed", "got_bits", "0x1234")
    done = kernels_bench("recheck", changed, "--arm", "varies")
    assert done.status == 1
    assert done.out.startswith("0 of ")
    assert "other bits" in done.out


def test_a_counterexample_that_no_longer_differs_is_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mended"
    shutil.copytree(run, path)
    lines = []
    for line in (run / RECORDS).read_text().splitlines():
        record = json.loads(line)
        if record.get("relations") and record["case"]["operator"] != "mean":
            continue  # a company is compared with itself for seconds
        for result in record.get("relations", ()):
            if result["counterexample"] is not None:
                # As if the arm had been mended since: the company is compared with itself.
                result["counterexample"]["reference"] = result["counterexample"]["company"]
        lines.append(record)
    write_lines(path, lines)
    found = recheck(path, ["varies"], 60.0, PlainDisplay(Console(quiet=True)))
    assert found
    assert not any(one.same for one in found)
    assert all("all bits agree now" in line for line in list(in_words(found))[1:])


def test_what_was_found_with_other_rows_is_not_said_to_be_mended(run: Path, tmp_path: Path) -> None:
    path = doctored(run, tmp_path / "other-rows", "got_bits", "0x1234")
    lines = [json.loads(line) for line in (path / RECORDS).read_text().splitlines()]
    kept = [line for line in lines if line["kind"] != "verification" or line["case"]["operator"] != "mean"]
    write_lines(path, [{**line, "data": "0" * 32} if line["kind"] == "verification" else line for line in kept])
    found = recheck(path, ["varies"], 60.0, PlainDisplay(Console(quiet=True)))
    assert found
    assert all("made other rows" in one.reason for one in found)
    assert exit_status(found) == 3


def test_a_run_of_another_device_is_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere"
    shutil.copytree(run, path)
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["device"]["name"] = "Another Card"
    (path / MANIFEST).write_text(json.dumps(manifest))
    done = kernels_bench("recheck", path)
    assert done.status == 2
    assert "was measured on Another Card, and this is" in done.err
    assert done.err.count("\n") == 1


def test_arms_without_counterexamples_have_nothing_to_recheck(run: Path) -> None:
    assert recheck(run, ["samebits"], 60.0, PlainDisplay(Console(quiet=True))) == []
    done = kernels_bench("recheck", run, "--arm", "samebits")
    assert (done.status, done.out.strip()) == (0, "0 of 0 counterexamples came out the same, to the last bit")


def test_an_arm_that_the_run_does_not_have_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match=r"^--arm smebits: the run has no such arm; did you mean samebits\?$"):
        recheck(run, ["varies", "smebits"], 60.0, PlainDisplay(Console(quiet=True)))


def test_what_cannot_be_tried_is_no_finding_that_came_out_otherwise(run: Path, tmp_path: Path) -> None:
    untried = doctored(
        run, tmp_path / "untried", "company", {"spec": "sideways:3", "size": 3, "launch": "eager", "position": 0}
    )
    found = recheck(untried, ["varies"], 60.0, PlainDisplay(Console(quiet=True)))
    assert found
    assert all("sideways:3" in one.reason for one in found)
    assert exit_status(found) == 3


def test_the_graver_of_two_ends_is_the_status(rechecked: list[Rechecked]) -> None:
    held, *_ = rechecked
    otherwise = held.model_copy(update={"now": None})
    untried = otherwise.model_copy(update={"reason": "its arm cannot run here"})
    assert exit_status([]) == exit_status([held]) == 0
    assert exit_status([held, untried]) == 3
    assert exit_status([otherwise, untried]) == exit_status([held, otherwise]) == 1


UNSTEADY = """
import torch
from kernels_bench.arms import Arm

calls = 0

def mean(x):
    global calls
    calls += 1
    result = x.mean(-1)
    if calls % 11 == 0:
        result[calls % len(result)] += 1
    return result

ARM = Arm("unsteady", lambda: {"mean": mean}, claims=False)
"""


def test_what_is_not_repeatable_differs_again_in_other_bits(tmp_path: Path) -> None:
    (tmp_path / "unsteady.py").write_text(UNSTEADY)
    plugin = ("--plugin", tmp_path / "unsteady.py")
    words = ("--op", "mean", "--arm", "unsteady", "--shapes", "64", "--batch", "1,8", "--dtype", "fp32", "--quick")
    kernels_bench(*words, "--relation", "repeat", *plugin, "--out", tmp_path / "run")
    (one,) = recheck(tmp_path / "run", None, 60.0, PlainDisplay(Console(quiet=True)))
    assert one.then.relation == "repeat"
    assert one.now is not None
    assert one.stands
    done = kernels_bench("recheck", tmp_path / "run")
    assert done.status == 0
    assert one.same or "not repeatable now either" in done.out
