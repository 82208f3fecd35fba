"""What may be said when a run is gone on with, and which runs are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernels_bench.records.results import SCHEMA_VERSION
from profiles.run_files.numbered_lines import FIELDS
from support.processes import Ended, kernels_bench

NARROWED = (
    *("--op", "rms_norm", "--arm", "samebits", "--dtype", "fp32", "--shapes", "64", "--batch", "1"),
    *("--relation", "repeat", "--quick"),
)


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("narrowed") / "run"
    done = kernels_bench(*NARROWED, "--out", place)
    assert done.status == 3, done  # relations that it claims were left out, and nobody said that this is meant
    return place


def statuses(run: Path, *words: str) -> tuple[Ended, int]:
    """How it ends when it is gone on with, and how its report does afterwards."""
    return kernels_bench("--resume", run, *words), kernels_bench("report", run).status


def test_that_relations_are_left_out_on_purpose_may_be_said_later(narrowed: Path, tmp_path: Path) -> None:
    run = shutil.copytree(narrowed, tmp_path / "run")
    resumed, reported = statuses(run)
    assert (resumed.status, reported) == (3, 3)
    resumed, reported = statuses(run, "--partial")
    assert (resumed.status, reported) == (0, 0)
    before, now = (json.loads((one / "run.json").read_text()) for one in (narrowed, run))
    before["selection"]["partial"] = True
    assert now == before


def test_a_run_of_an_earlier_schema_is_refused_and_left_as_it_is(narrowed: Path, tmp_path: Path) -> None:
    run = shutil.copytree(narrowed, tmp_path / "run")
    manifest = json.loads((run / "run.json").read_text())
    manifest["schema_version"] = 3
    (run / "run.json").write_text(json.dumps(manifest))
    # Of that schema lines have no number and no digest.
    lines = [json.loads(line) for line in (run / "records.jsonl").read_bytes().splitlines()]
    plain = [json.dumps({name: value for name, value in line.items() if name not in FIELDS}) for line in lines]
    (run / "records.jsonl").write_text("".join(line + "\n" for line in plain) + "half a li")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    resumed, reported = statuses(run, "--partial")
    said = f"it has schema 3, and this samebits writes {SCHEMA_VERSION}; start a new run"
    assert (resumed.status, resumed.out) == (2, "")
    assert resumed.err == f"kernels_bench: cannot resume {run}: {said}\n"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert reported == 3
