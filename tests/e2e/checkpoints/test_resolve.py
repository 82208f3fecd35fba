"""Where weights come from: presets, and names that are vLLM's."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from e2e.checkpoints.resolve import ModelError, checkpoint
from e2e.workload.options import OptionsError
from support.e2e_runs import runs, words_of
from support.processes import environment, wait_until


def test_a_cache_that_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^--model synthetic:tiny: .* Not a directory; XDG_CACHE_HOME names .*$"):
        checkpoint("synthetic:tiny", Path("/dev/null/samebits"), print)


def ends_with_its_parent(code: str, child: str, *words: object, **variables: object) -> bool:
    """Whether the only process that a command starts ends with it where it is killed."""
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=environment(**variables)) as command:
        parent = psutil.Process(command.pid)
        assert wait_until(lambda: any(child in words_of(one) for one in parent.children()))
        (found,) = parent.children()
        command.kill()
    return wait_until(lambda: not runs(found))


def test_what_writes_a_checkpoint_ends_with_the_command(tmp_path: Path) -> None:
    """It waits for its turn here, as behind another command that writes the same one."""
    load = "import sys, pathlib, e2e.checkpoints.resolve as m"
    code = f"{load}; m.checkpoint('synthetic:tiny', pathlib.Path(sys.argv[1]), print)"
    (tmp_path / "models").mkdir()
    with (tmp_path / "models" / "synthetic-tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ends_with_its_parent(code, "e2e.checkpoints.make", tmp_path)


def test_what_looks_for_the_usual_model_ends_with_the_command(tmp_path: Path) -> None:
    """Its library waits for a network here."""
    (tmp_path / "huggingface_hub.py").write_text("import time; time.sleep(600)")
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    assert ends_with_its_parent(
        "import e2e.checkpoints.resolve as m; m.default_model()", "huggingface_hub", PYTHONPATH=path
    )


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"unknown preset; known are .*qwen3-8b"):
        checkpoint("synthetic:gpt-9", tmp_path, print)


def test_other_names_are_vllms_where_there_is_such_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = tmp_path / "hub" / "models--some--model"
    (cached / "snapshots" / "1").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    (cached / "snapshots" / "1" / "config.json").write_text("{}")
    assert checkpoint("some/model", tmp_path, print) == "some/model"
    assert checkpoint(str(cached), tmp_path, print) == str(cached)
    assert checkpoint("s3://bucket/model", tmp_path, print) == "s3://bucket/model"
    for name in ("no/such-model", "/no/such/directory"):
        with pytest.raises(
            ModelError, match=rf"^--model {name}: is no directory here, .* neither cached nor reachable$"
        ):
            checkpoint(name, tmp_path, print)
