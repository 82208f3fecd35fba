"""Processes end with the one that started them, even if that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.processes import LIMIT_S, environment, wait_until

STARTS = """
import subprocess, sys, time
from kernels_bench.workers.lifetime import take_descendants_along
{first}
# As libraries do: a process of their own, which starts another one.
inner = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
{then}
"""


def started(first: str, then: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    program = STARTS.format(first=first, then=then)
    process = subprocess.Popen([sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, [psutil.Process(pid) for pid in pids]


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("then", ["time.sleep(600)", "sys.exit(3)"])
def test_descendants_end_with_their_ancestor_however_it_ends(then: str) -> None:
    process, descendants = started("take_descendants_along()", then)
    if "sleep" in then:
        assert all(map(alive, descendants))
        process.kill()
    assert process.wait(LIMIT_S) in (-signal.SIGKILL, 3)
    assert wait_until(lambda: not any(map(alive, descendants)))


def test_without_it_they_stay() -> None:
    process, descendants = started("", "time.sleep(600)")
    process.kill()
    process.wait(LIMIT_S)
    assert not wait_until(lambda: not any(map(alive, descendants)), 1)
    for one in descendants:
        os.kill(one.pid, signal.SIGKILL)
