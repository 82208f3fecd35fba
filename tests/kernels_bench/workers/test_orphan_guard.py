"""What a kernel started ends with the command, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from support import PLUGINS, ROOT
from support.processes import environment, finish, start, wait_until, workers_of
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


SHARES_MEMORY = """
import mmap, os, subprocess, sys, time
def have(name):
    file = os.open("/dev/shm/" + name, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(file, 4096)
    return mmap.mmap(file, 4096)
if len(sys.argv) == 3 and sys.argv[1].isdecimal():  # as an engine that has processes of its own
    subprocess.Popen([sys.executable, __file__, os.environ["NEW"], os.environ["OLD"]], start_new_session=True)
else:
    held = [have(name) for name in sys.argv[1:]]
    print("there", flush=True)
time.sleep(600)
"""

HAS_A_WORKER = """
import os, signal, sys, time
from pathlib import Path
from kernels_bench.workers.process import WorkerProcess, end
log = Path(sys.argv[1])
worker = WorkerProcess("any", {}, log, "shares_memory")
while "there" not in log.read_text():
    time.sleep(0.05)
if sys.argv[2] == "worker":
    worker.process.kill()
    worker.wait()
elif sys.argv[2] == "nobody":
    end([worker])
else:
    os.kill(os.getpid(), signal.Signals[sys.argv[2]])
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no names here")
@pytest.mark.parametrize("killed", ["nobody", "worker", "SIGTERM", "SIGKILL"])
def test_files_by_which_processes_share_memory_are_removed_however_the_command_ends(
    killed: str, tmp_path: Path
) -> None:
    """As engines leave them whose processes are killed; what was there before is somebody's data, and stays."""
    new, old = (Path("/dev/shm") / f"samebits-test-{os.getpid()}-{tmp_path.name}-{age}" for age in ("new", "old"))
    (tmp_path / "shares_memory.py").write_text(SHARES_MEMORY)
    old.write_bytes(b"data")
    variables = {**environment(NEW=new.name, OLD=old.name), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    try:
        command = [sys.executable, "-c", HAS_A_WORKER, str(tmp_path / "log"), killed]
        subprocess.run(command, env=variables, timeout=60, check=killed in ("nobody", "worker"))
        assert "there" in (tmp_path / "log").read_text()
        assert wait_until(lambda: not new.exists())
        assert old.exists()
    finally:
        old.unlink()
