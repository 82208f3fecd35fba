"""Many runs over time: their order, their numbers, and what changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernels_bench.commands.compare_runs.history import history, in_words
from kernels_bench.console.errors import UsageError
from support import BASELINES
from support.processes import kernels_bench

KEPT = BASELINES / "h100-80gb-hbm3-attention"


def later(to: Path, created: str) -> Path:
    """The kept run as if it had been begun at another time, on a card of another name."""
    shutil.copytree(KEPT, to)
    manifest = json.loads((to / "run.json").read_text())
    manifest["created"], manifest["device"]["name"] = created, "NVIDIA H200"
    (to / "run.json").write_text(json.dumps(manifest))
    return to


def test_runs_stand_in_the_order_of_time_with_what_changed_since_the_one_before(tmp_path: Path) -> None:
    new = later(tmp_path / "new", "2099-01-01T00:00:00Z")
    first, second = history([new, KEPT])
    assert (first.directory, second.directory) == (str(KEPT), str(new))
    assert first.since is None
    assert second.since is not None
    assert second.since.other_bits == ()
    assert first.arms == second.arms
    assert first.arms["samebits"].kept == first.arms["samebits"].examined > 10
    lines = list(in_words([first, second], 1000))
    assert lines[0].split() == ["run", *first.arms]
    assert lines[2].startswith("2099-01-01T00:00:00Z")
    assert "  speed: not judged: NVIDIA H100 80GB HBM3, then NVIDIA H200" in lines
    narrow = list(in_words([first, second], 60))
    heads = [line.split()[1:] for line in narrow if line.startswith("run ")]
    assert [name for names in heads for name in names] == [*first.arms]
    assert len(heads) > 1
    assert all(len(line) <= 60 for line in narrow[: 3 * len(heads)])


def test_a_run_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is named twice"):
        history([KEPT, KEPT / "."])


def test_the_command_prints_it_and_writes_json(tmp_path: Path) -> None:
    done = kernels_bench("history", KEPT, "--json", tmp_path / "history.json")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("run ")
    (entry,) = json.loads((tmp_path / "history.json").read_text())
    assert entry["since"] is None
    assert kernels_bench("history", "/nowhere").status == 2
