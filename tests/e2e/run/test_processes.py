"""Engines' processes end with the command, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.run import processes
from e2e.run.processes import engine_process
from kernels_bench.device.detect import find_device
from kernels_bench.workers.process import WorkerProcess
from support.e2e_runs import CPU, runs, words_of
from support.processes import LIMIT_S, environment, wait_until

ENGINE_WITH_A_PROCESS = """
import subprocess, time

subprocess.Popen(["sleep", "600"])
time.sleep(600)
"""


WHERE = {"offline": "vllm/__init__.py", "online": "vllm/entrypoints/openai/api_server.py"}


@pytest.mark.parametrize("mode", WHERE)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_outlives_a_command_that_is_ended(tmp_path: Path, number: int, status: int, mode: str) -> None:
    """Neither what engines have started, in their own way, nor, where it can be removed, their directory."""
    engine = tmp_path / WHERE[mode]
    engine.parent.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    engine.write_text(ENGINE_WITH_A_PROCESS)
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    what = ["--model", str(tmp_path), "--mode", mode, "--arms", "serial", "--out", str(tmp_path / "run")]
    words = [sys.executable, "-m", "e2e", *what]
    with (
        tempfile.TemporaryDirectory() as short,
        subprocess.Popen(
            words, env=environment(PYTHONPATH=path, TMPDIR=short), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as command,
    ):
        started: list[psutil.Process] = []

        def importing() -> bool:
            started[:] = psutil.Process(command.pid).children(recursive=True)
            return any("sleep" in words_of(one) for one in started)

        assert wait_until(importing)
        assert list(Path(short).glob("samebits-*"))
        command.send_signal(number)
        said = command.communicate(timeout=LIMIT_S)[1]
        assert wait_until(lambda: not any(map(runs, started)))
        assert number == signal.SIGKILL or not list(Path(short).iterdir())
    assert (command.returncode, b"Traceback" in said) == (status, False)
    assert (f"go on with python -m e2e --resume {tmp_path / 'run'}".encode() in said) == (number == signal.SIGTERM)


@pytest.mark.parametrize(("driver", "asked"), [(True, 1), (False, 0)])
def test_a_process_is_asked_for_the_device_where_there_is_a_driver_alone(
    driver: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def begin(name: str, *more: Any) -> AbstractContextManager[WorkerProcess]:
        begun.append(name)
        return engine_process(name, *more)

    monkeypatch.setattr(processes, "no_driver_here", lambda: not driver)
    monkeypatch.setattr(processes, "processor", lambda: CPU)
    monkeypatch.setattr(processes, "engine_process", begin)
    assert processes.describe_device() == (find_device() if driver else CPU)
    assert begun == ["device"] * asked
