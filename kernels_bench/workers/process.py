"""The parent's side of one process: start it, ask it, and survive what happens to it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kernels_bench.records.cases import Record, printable
from kernels_bench.workers.messages import AskCatalogue, Catalogue, Failure, LoadArm
from profiles.instruments.ranges import under_nsys
from profiles.invocation import import_path, python

START_TIMEOUT_S = 600.0
"""Loading an arm may import vLLM from a cold disk."""

PLUGIN_TIMEOUT_S = 60.0
"""A plugin's import may take this long, or as long as a case where that is longer."""

ENDING_S = 5.0
"""A process that hung up has this long to end by itself."""

PROFILED_ENDING_S = 30.0
"""Under a profiler processes have this long, together, to end by themselves."""


class WorkerError(Exception):
    """A worker that does not come up; the message says why.

    Attributes:
        status: exit status of a command that it ends.
    """

    def __init__(self, message: str, status: int = 3) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """A process that ends what workers started, once this process is gone, however it ended.

    Workers themselves end with this process, but whom they started never asked for that.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python("-c", "from kernels_bench.workers.__main__ import guard; guard()"),
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


class Worker:
    """One process and the connection to it.

    Args:
        name: the arm's, for messages.
        environment: added to this process's.
        log: receives what the process prints.
        program: the module that the process runs; it serves the connection whose file descriptor it is given.
    """

    def __init__(
        self, name: str, environment: Mapping[str, str], log: Path, program: str = "kernels_bench.workers"
    ) -> None:
        self.name, self._log = name, log
        self._said_before = self._log_size()
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                python("-m", program, str(theirs.fileno()), str(os.getpid())),
                env={**os.environ, **import_path(), **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the parent alone, and a kill reaches all of its children
            )
        the_guard().watch(self.process.pid)
        self.connection = Connection(ours.detach())
        self.deadline = float("inf")
        self._limited_by = ""

    def post(self, request: Record, timeout_s: float) -> None:
        """Send a request; `receive` has the answer once the connection is ready."""
        self.deadline = time.monotonic() + timeout_s
        # What is asked first has a limit of its own, whatever the command line says.
        self._limited_by = "" if isinstance(request, (AskCatalogue, LoadArm)) else " (--timeout)"
        self._said_before = self._log_size()
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            self.connection.send(request)

    def receive(self) -> Any:
        """The answer, or what became of the process."""
        self.deadline = float("inf")
        try:
            reply = self.connection.recv()
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hung up, and may still be ending by itself
                self.process.wait(ENDING_S)
            self.kill()
            return Failure(status="failed", reason=self.last_words(), lost=True)
        if isinstance(reply, Failure) and reply.lost:
            self.kill()
        return reply

    def ask(self, request: Record, timeout_s: float) -> Any:
        """Send a request and wait for its answer."""
        self.post(request, timeout_s)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> Any:
        """The answer to what was posted."""
        try:
            answered = self.connection.poll(timeout_s)
        except OSError:
            answered = True  # it hung up; `receive` finds out why
        return self.receive() if answered else self.expire(timeout_s)

    def expire(self, timeout_s: float) -> Failure:
        """End a process that has not answered in time."""
        self.kill()
        return Failure(status="failed", reason=f"no answer within {timeout_s:g} s{self._limited_by}", lost=True)

    @property
    def alive(self) -> bool:
        """Whether the process can still be asked; what is left of one that ended is killed."""
        if self.process.poll() is not None and not self.connection.closed:
            self.kill()
        return not self.connection.closed

    def kill(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        the_guard().forget(self.process.pid)
        self.connection.close()

    def hang_up(self) -> None:
        """Let the process end by itself."""
        self.connection.close()

    def ended(self, within_s: float) -> bool:
        """Whether the process has ended, or does so in time."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """How the process ended and the last line it printed."""
        ended = ended_in_words(self.process.wait())
        said = f"; its last words: {words}" if (words := self._last_line()) else ""
        return f"the worker of {self.name} {ended}{said}"

    def move_log(self, to: Path) -> bool:
        """Give the log another place, to which the process goes on printing; whether that could be done."""
        try:
            self._log.rename(to)
        except OSError:  # another file system, to which an open file cannot be moved
            return False
        self._log = to
        return True

    def _log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _last_line(self) -> str:
        """The last line printed since the last request, whatever the log held before and however long it is."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(self._said_before, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return printable(lines[-1])[:200] if lines else ""


def end(workers: Collection[Worker]) -> None:
    """End processes; under Nsight Systems by themselves, since what it has not written of a process is lost with it."""
    if under_nsys():
        for worker in workers:
            worker.hang_up()
        deadline = time.monotonic() + PROFILED_ENDING_S
        for worker in workers:
            worker.ended(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.kill()


def ended_in_words(code: int) -> str:
    """What became of a process that ended with this return code, as a part of a sentence."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def read_catalogue(
    plugins: Sequence[str], log: Path, meanwhile: Callable[[], None] = lambda: None, timeout_s: float = 0.0
) -> Catalogue:
    """Ask a process of its own what could be run here, and call ``meanwhile`` before its answer is waited for.

    Raises:
        WorkerError: the process cannot say; a plugin that does not import, say.
    """
    worker = Worker("catalogue", {}, log)
    try:
        worker.post(AskCatalogue(), START_TIMEOUT_S)
        meanwhile()
        reply = worker.wait(START_TIMEOUT_S)
        if plugins and isinstance(reply, Catalogue):  # only now, so that what happens next is the plugins' doing
            reply = _with_plugins(worker, plugins, max(PLUGIN_TIMEOUT_S, timeout_s))
    finally:
        worker.kill()
    if isinstance(reply, Failure):
        raise WorkerError(reply.reason)
    assert isinstance(reply, Catalogue)
    return reply


def _with_plugins(worker: Worker, plugins: Sequence[str], timeout_s: float) -> Any:
    """The catalogue with some plugins' arms.

    Raises:
        WorkerError: one of them cannot be used, so that the command line is wrong.
    """
    reply = worker.ask(AskCatalogue(plugins=tuple(plugins)), timeout_s)
    if not isinstance(reply, Failure):
        return reply
    if not reply.lost:
        raise WorkerError(reply.reason, status=2)
    named = f"plugin {' or '.join(plugins)} does not import: {reply.reason}"
    expired = reply.reason.startswith("no answer")
    raise WorkerError(f"{named}; raise --timeout if it needs longer" if expired else named, status=2)
