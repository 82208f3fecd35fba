"""What a kernel started ends with the command, however that ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest

from support import PLUGINS
from support.processes import finish, start, wait_until, workers_of
from support.worker_processes import living, printed_by

DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")
def test_what_a_kernel_started_ends_with_the_command_however_it_ends(tmp_path: Path) -> None:
    words = (*("--op", "rms_norm", "--arm", "failing", "--plugin", PLUGINS / "failing.py"), "--batch", "1")
    what = (
        *words,
        "--dtype",
        "fp32",
        "--relation",
        "repeat",
        "--shapes",
        "1x80,1x75",
        "--quick",
    )  # leaves a child, then hangs
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by what is started too
    commands = {number: start(*what, "--out", tmp_path / number.name) for number in DEADLY}
    signal.signal(signal.SIGHUP, hangup)

    def children(command: subprocess.Popen[str]) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):  # loading an arm has children too, which come and go
            every = [child for worker in workers_of(command.pid) for child in worker.children()]
            return [child for child in every if child.name() == "sleep"]
        return []

    def has_children(command: subprocess.Popen[str]) -> bool:
        return bool(children(command))

    def gone(processes: list[psutil.Process]) -> bool:
        return not any(living(process.pid) for process in processes)

    for number, command in commands.items():
        assert wait_until(partial(has_children, command))
        started = children(command)
        command.send_signal(number)
        assert finish(command).status == -number
        assert wait_until(partial(gone, started))


ONE_WORKER = """
import sys
from pathlib import Path
from kernels_bench.workers import orphan_guard
from kernels_bench.workers.orphan_guard import the_guard
orphan_guard.ENDING_S = 10**6  # who is not at once told to end is waited for in vain
from kernels_bench.workers.process import WorkerProcess
worker = WorkerProcess("any", {}, Path(sys.argv[1]))
worker.kill()
print(the_guard()._process.pid, flush=True)
import atexit
atexit._run_exitfuncs()
print("ended")
"""


def test_the_guard_ends_at_once_with_a_command_that_ends_by_itself(tmp_path: Path) -> None:
    guard, ended = printed_by(ONE_WORKER, tmp_path / "log")
    assert not psutil.pid_exists(int(guard))
    assert ended == "ended"
