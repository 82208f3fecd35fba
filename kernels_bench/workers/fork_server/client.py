"""The parent's side: who asks for a worker to be forked, and what it is told of it."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Protocol, TypedDict

from kernels_bench.device.detect import no_driver_here
from profiles.instruments.ranges import under_nsys
from profiles.invocation import import_path, python

LONGEST = 1 << 16
"""Bytes of a message."""

_NOT_READ_YET = ("SAMEBITS_", "VLLM_", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "PYTEST_")
"""Beginnings of variables that nothing which is imported before a fork reads."""

_START_S = 120.0
_ENDING_S = 5.0


class Asked(TypedDict):
    """What a child is to be, beside its connection, what it prints to and its directory, whose descriptors go along."""

    environment: dict[str, str]
    name: str


class Begun(TypedDict):
    """A child's process id."""

    begun: int


class Ended(TypedDict):
    """A child's process id and its return code, as `subprocess` has it."""

    ended: int
    code: int


class Refused(TypedDict):
    """Why there is no new child."""

    refused: str


class Process(Protocol):
    """As much of `subprocess.Popen` as anybody asks of a worker."""

    pid: int

    def poll(self) -> int | None:
        """Its return code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Its return code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not in this time.
        """


class Forked:
    """A worker's process, of which the fork server tells.

    Attributes:
        pid: its process id, which may be another one's once it has ended.
        code: what the fork server told of its end; None before.
    """

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self.pid = server, pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """See `Process`."""
        return self._server.code_of(self, 0.0)

    def wait(self, timeout: float | None = None) -> int:
        """See `Process`."""
        code = self._server.code_of(self, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a worker", timeout or 0.0)
        return code


class ForkServerError(Exception):
    """It cannot fork a worker, which is to be started as a program; the message says why."""


class ForkServer:
    """The process that forks; it ends with this one, and all of its children with it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._environment = {**os.environ, **import_path()}
        with theirs:
            self._process = subprocess.Popen(
                python("-m", "kernels_bench.workers.fork_server", str(theirs.fileno()), str(os.getpid())),
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )
        self._living: dict[int, Forked] = {}
        self._begun: list[Forked] = []
        self._refused = ""
        self._gone = False
        self._lock = threading.RLock()
        atexit.register(self._end)

    def fork(self, environment: Mapping[str, str], name: str, connection: int, output: int) -> Forked:
        """A new worker, in this process's directory.

        Args:
            environment: all of it.
            name: the process's, at most 15 characters.
            connection: the file descriptor of what it answers on.
            output: that of what it prints to.

        Raises:
            ForkServerError: there is none to be had, or none that would be as one started as a program.
        """
        if changed := {*environment.items() ^ self._environment.items()}:
            others = {name for name, _ in changed if not name.startswith(_NOT_READ_YET)}
            if others:
                raise ForkServerError(f"libraries may have read {', '.join(sorted(others))} already")
        asked = json.dumps(Asked(environment={**environment}, name=name)).encode()
        with self._lock, contextlib.ExitStack() as opened:
            if self._gone:
                raise ForkServerError("it is gone")
            try:
                here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
                opened.callback(os.close, here)
                socket.send_fds(self._control, [asked], [connection, output, here])
            except OSError as error:
                raise ForkServerError(str(error)) from error
            return self._new()

    def _new(self) -> Forked:
        """The worker that was asked for, once it has begun.

        Raises:
            ForkServerError: it has not.
        """
        deadline, self._refused = time.monotonic() + _START_S, ""
        while not (self._begun or self._refused or self._gone) and self._hear(deadline - time.monotonic()):
            pass
        if self._refused:
            raise ForkServerError(self._refused)
        if not self._begun:
            # What it forked later would answer on the connection of the program that is started instead.
            self._process.kill()
            self._process.wait()
            self._gone = True
            raise ForkServerError("it does not answer")
        return self._begun.pop()

    def code_of(self, child: Forked, within_s: float | None) -> int | None:
        """A child's return code; None if it has not ended in time."""
        deadline = math.inf if within_s is None else time.monotonic() + within_s
        with self._lock:
            while child.code is None:
                if self._gone:  # all of its children ended with it
                    return -signal.SIGKILL
                if not self._hear(deadline - time.monotonic()):
                    return None
            return child.code

    def _hear(self, within_s: float) -> bool:
        """Take note of what it tells; whether it told anything in time."""
        ready, _, _ = select.select([self._control], [], [], None if math.isinf(within_s) else max(0.0, within_s))
        if not ready:
            return False
        data = b""
        with contextlib.suppress(OSError):
            data = self._control.recv(LONGEST)
        told = json.loads(data or "{}")
        self._gone = not told
        if "begun" in told:
            child = self._living[told["begun"]] = Forked(self, told["begun"])
            self._begun.append(child)
        elif told.get("ended") in self._living:
            self._living.pop(told["ended"]).code = told["code"]
        elif told:
            self._refused = told.get("refused", "the new process ended before it had begun")
        return True

    def _end(self) -> None:
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)


@cache
def the_fork_server(number: int) -> ForkServer:
    """The first one, numbered 0, or another, whose children have another seed for hashes."""
    return ForkServer()


def forks_here() -> bool:
    """Whether workers are forked: on Linux, where neither a driver nor Nsight Systems would follow programs alone."""
    return not under_nsys() and no_driver_here()
