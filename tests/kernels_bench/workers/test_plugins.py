"""Plugins that cannot be used: the message names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels_bench.workers.ask_catalogue import read_catalogue
from kernels_bench.workers.process import WorkerError
from support import PLUGINS
from support.processes import kernels_bench


@pytest.mark.parametrize("plugins", [[str(PLUGINS / "no_arm.py")], ["/nowhere/plugin.py"]])
def test_a_plugin_that_cannot_be_used_is_the_users_to_mend(tmp_path: Path, plugins: list[str]) -> None:
    with pytest.raises(WorkerError) as caught:
        read_catalogue(plugins, tmp_path / "log")
    assert caught.value.status == 2
    assert plugins[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os._exit(3)", "does not import: the worker of catalogue ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "does not import: the worker of catalogue was killed by SIGKILL"),
        ("import sys; sys.exit(3)", "does not import: SystemExit: 3"),
        ("from kernels_bench.arms import *; ARM = Arm(7, dict)", "the arm's name 7 must be one word"),
        (
            "from kernels_bench.arms import *; ARM = Arm('x', dict, unavailable=lambda device: 1 / 0)",
            "unavailable raises ZeroDivisionError: division by zero",
        ),
        ("from kernels_bench.arms import *; ARM = Arm('x', dict, caveat=lambda device: 7)", "caveat gives 7 instead"),
    ],
)
def test_whatever_a_plugin_does_the_message_names_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(WorkerError, match=said) as caught:
        read_catalogue([str(tmp_path / "mine.py")], tmp_path / "log")
    assert caught.value.status == (3 if "SIGKILL" in said else 2)  # whoever sent that
    assert str(caught.value).startswith(f"plugin {tmp_path / 'mine.py'}")
    assert "\n" not in str(caught.value)


def test_a_plugin_that_hangs_is_not_waited_for_as_long_as_torch(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time; time.sleep(10**6)")
    with pytest.raises(WorkerError) as caught:
        read_catalogue([str(tmp_path / "mine.py")], tmp_path / "log", timeout_s=1)
    said = "does not import: no answer within 1 s; raise --timeout if it needs longer"
    assert str(caught.value) == f"plugin {tmp_path / 'mine.py'} {said}"


@pytest.mark.parametrize("words", [("--out", "run"), ("order",)], ids=["run", "order"])
def test_kernels_of_no_operator_are_one_line_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = PLUGINS / "unknown_operator.py"
    done = kernels_bench(*words, "--op", "rms_norm", "--arm", plugin.stem, "--plugin", plugin, "--shapes", "64")
    *progress, last = done.err.splitlines()
    assert (done.status, done.out) == (2, "")
    said = "kernels() names 'rms_norn', which is no operator; did you mean rms_norm?"
    assert last == f"kernels_bench: plugin {plugin}: {said}"
    assert len(progress) <= 2
    assert not [*tmp_path.iterdir()]
