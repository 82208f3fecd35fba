"""The parent's side of one process: start it, ask it, and survive what happens to it."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kernels_bench.console.text import printable
from kernels_bench.device.errors import tells_of_no_memory
from kernels_bench.records.results import Cause
from kernels_bench.workers import scratch
from kernels_bench.workers.fork_server.client import ForkServerError, Process, forks_here, the_fork_server
from kernels_bench.workers.inbox import GarbledError, Inbox
from kernels_bench.workers.messages import AskCatalogue, Begun, Failure, LoadArm
from kernels_bench.workers.orphan_guard import ENDING_S, MARK, name_of, shared_by, shared_files, the_guard
from profiles.errors import ExitStatus
from profiles.instruments.ranges import under_nsys
from profiles.invocation import import_path, python
from profiles.run_files.record import Record

START_TIMEOUT_S = 600.0
"""Loading an arm may import vLLM from a cold disk."""


WORKER = "kernels_bench.workers"
"""The program of an arm's process."""

LONGEST_WAIT_S = 3600.0
"""What is waited for longer is waited for again and again: the system takes no more than some days at once."""

GARBLED = "sent what is no answer: something in it writes to the connection that its answers take"
SENT_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end a process for no fault of its own: an operator's, a scheduler's, or a system's that lacks memory."""

PROFILED_ENDING_S = 120.0
"""Under a profiler processes have this long, together, to end by themselves."""


class WorkerError(Exception):
    """A worker that does not come up; the message says why.

    Attributes:
        status: exit status of a command that it ends.
    """

    def __init__(self, message: str, status: int = ExitStatus.INCOMPLETE) -> None:
        super().__init__(message)
        self.status = status


class WorkerProcess:
    """One process and the connection to it.

    Args:
        name: the arm's, for messages.
        environment: added to this process's.
        log: receives what the process prints.
        program: the module that the process runs; it serves the connection whose file descriptor it is given.
        server: the number of the fork server that it comes from where it can be forked, see `the_fork_server`.
    """

    def __init__(
        self, name: str, environment: Mapping[str, str], log: Path, program: str = WORKER, *, server: int = 0
    ) -> None:
        self.name, self._log = name, log
        self._said_before = self._log_size()
        self._mark = secrets.token_hex(8)
        self._shared_before = shared_files()
        self._shared: frozenset[str] | None = None
        ours, theirs = socket.socketpair()
        variables = {**os.environ, **scratch.variables(), **import_path(), **environment, MARK: self._mark}
        with theirs, log.open("ab") as output:
            forked_from = server if program == WORKER and forks_here() else None
            self.process = _begin(program, variables, theirs.fileno(), output.fileno(), forked_from)
        the_guard().watch(self.process.pid, self._mark, self._shared_before)
        self.connection = Connection(ours.detach())
        self._inbox = Inbox(self.connection)
        self.deadline = math.inf
        self._limit_s = self._once_begun_s = math.inf
        self._limited_by = ""

    def post(self, request: Record, timeout_s: float, once_begun_s: float = math.inf) -> None:
        """Send a request; `receive` has the answer once the connection is ready.

        Args:
            request: what is asked.
            timeout_s: from now on it may take this long, whatever arrives meanwhile.
            once_begun_s: the same from the process's own word on, see `Begun`.
        """
        self._once_begun_s = once_begun_s
        # What is asked first has a limit of its own, whatever the command line says.
        self._limit(timeout_s, "" if isinstance(request, (AskCatalogue, LoadArm)) else " (--timeout)")
        self._said_before = self._log_size()
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            self.connection.send(request)

    def _limit(self, seconds: float, by: str) -> None:
        self.deadline, self._limit_s, self._limited_by = time.monotonic() + seconds, seconds, by

    def receive(self) -> Any:
        """The answer, or what became of the process; None where the answer is still to come, or the rest of it."""
        try:
            reply = self._inbox.read()
        except GarbledError:
            self.kill()
            return Failure(status="failed", reason=f"the worker of {self.name} {GARBLED}", lost=True)
        except (EOFError, OSError):
            by_itself = self.ended(ENDING_S)  # it hung up, and may still be ending
            self.kill()
            return self._death(by_itself)
        if isinstance(reply, Begun):
            self._limit(min(self._once_begun_s, self.deadline - time.monotonic()), " (--timeout)")
            self._once_begun_s = math.inf  # said twice it gives no more time
            return None
        if reply is not None:
            self.deadline = math.inf
            if self._shared is None:  # what is shared once it is up: of processes that have ended nobody can tell
                self._shared = shared_by(self._mark, self._shared_before)
        if isinstance(reply, Failure) and reply.lost:
            self.kill()
        return reply

    def ask(self, request: Record, timeout_s: float, by: str = "") -> Any:
        """Send a request and wait for its answer.

        Args:
            request: what is asked.
            timeout_s: how long it may take.
            by: the option that says so, if that is not the usual one.
        """
        self.post(request, timeout_s)
        if by:
            self._limited_by = f" ({by})"
        return self.wait()

    def wait(self) -> Any:
        """The answer to what was posted."""
        while (left := self.deadline - time.monotonic()) > 0:
            try:
                answered = self.connection.poll(min(left, LONGEST_WAIT_S))
            except OSError:
                answered = True  # it hung up; `receive` finds out why
            if answered and (reply := self.receive()) is not None:
                return reply
        return self.expire()

    def expire(self) -> Failure:
        """End a process that has not answered in time."""
        self.kill()
        reason = f"no answer within {self._limit_s:g} s{self._limited_by}"
        return Failure(status="failed", reason=reason, cause="no_answer", lost=True)

    def _death(self, by_itself: bool) -> Failure:
        # Of what ended the process there is little left but its words, and those are CUDA's or another library's.
        killed = by_itself and -self.process.wait() in SENT_BY_OTHERS
        cause: Cause = "out_of_memory" if tells_of_no_memory(self._last_line()) else "killed" if killed else "other"
        return Failure(status="failed", reason=self.last_words(), cause=cause, lost=True)

    @property
    def alive(self) -> bool:
        """Whether the process can still be asked; what is left of one that ended is killed."""
        # What ends closes its connection before anybody is told that it ended.
        if not self.connection.closed and (self._hung_up() or self.process.poll() is not None):
            self.kill()
        return not self.connection.closed

    def _hung_up(self) -> bool:
        heard = select.poll()
        heard.register(self.connection.fileno(), 0)
        return any(events & select.POLLHUP for _, events in heard.poll(0))

    def kill(self) -> None:
        """End the process and everything it started, and have removed what they shared memory by."""
        shared = shared_by(self._mark, self._shared_before) | (self._shared or frozenset())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        the_guard().forget(self.process.pid, self._mark, shared)
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


def _begin(
    program: str, environment: Mapping[str, str], connection: int, output: int, forked_from: int | None
) -> Process:
    """A process in a session of its own: Ctrl-C reaches the parent alone, and a kill reaches all of its children."""
    if forked_from is not None:
        with contextlib.suppress(ForkServerError):
            return the_fork_server(forked_from).fork(environment, name_of(environment[MARK]), connection, output)
    return subprocess.Popen(
        python("-m", program, str(connection), str(os.getpid())),
        env=environment,
        pass_fds=[connection],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def end(workers: Collection[WorkerProcess]) -> None:
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
