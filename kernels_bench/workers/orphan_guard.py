"""Ends what workers have started, once the command is over, however it ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from functools import cache

from profiles.invocation import import_path, python

ENDING_S = 5.0
"""A process that hung up has this long to end by itself."""


class Guard:
    """A process that ends what workers started, once this process is gone, however it ended.

    Workers themselves end with this process, but whom they started never asked for that.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python("-c", "from kernels_bench.workers.orphan_guard import guard; guard()"),
            env={**os.environ, **import_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # who reads this process's output must not wait for the guard
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends this process must not end it too
        )
        atexit.register(self._end)

    def watch(self, leader: int) -> None:
        """Kill a group of processes in the end."""
        self._tell(f"+{leader}\n")

    def forget(self, leader: int) -> None:
        """Leave a group alone, which is gone."""
        self._tell(f"-{leader}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody killed it
            os.write(self._process.stdin.fileno(), line.encode())

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=ENDING_S)


the_guard = cache(Guard)
"""One serves all workers."""


def guard() -> None:
    """Kill the groups of processes that standard input names, once it ends: who named them is gone by then.

    A line ``+PID`` names the leader of a group, and ``-PID`` takes it back.
    """
    leaders: set[int] = set()
    for line in sys.stdin:
        (leaders.add if line.startswith("+") else leaders.discard)(int(line[1:]))
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
