"""The parent's side of the arms' processes: start them, ask them, and survive what happens to them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeVar

import kernels_bench
from kernels_bench.protocol import ArmInfo, AskCatalogue, Catalogue, Failure, LoadArm, Release, Reply, Request
from kernels_bench.records import ArmStart

START_TIMEOUT_S = 600.0
"""Loading an arm may import vLLM from a cold disk."""

DEATHS_IN_A_ROW = 3
"""After so many deaths with no answer between them an arm's remaining cases are skipped."""

R = TypeVar("R", bound=Request)


class WorkerError(Exception):
    """A worker that does not come up; the message says why.

    Attributes:
        status: exit status of a command that it ends.
    """

    def __init__(self, message: str, status: int = 3) -> None:
        super().__init__(message)
        self.status = status


class Worker:
    """One process and the connection to it.

    Args:
        name: the arm's, for messages.
        environment: added to this process's.
        log: receives what the process prints.
    """

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name, self._log = name, log
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kernels_bench.worker", str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, **_import_path(), **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the parent alone, and a kill reaches all of its children
            )
        self.connection = Connection(ours.detach())
        self.deadline = float("inf")

    def post(self, request: Request, timeout_s: float) -> None:
        """Send a request; `receive` has the answer once the connection is ready."""
        self.deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            self.connection.send(request)

    def receive(self) -> Reply:
        """The answer, or what became of the process."""
        self.deadline = float("inf")
        try:
            reply: Reply = self.connection.recv()
        except (EOFError, OSError):
            self.kill()
            return Failure(status="failed", reason=self.last_words(), lost=True)
        if isinstance(reply, Failure) and reply.lost:
            self.kill()
        return reply

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Send a request and wait for its answer."""
        self.post(request, timeout_s)
        if not self.connection.poll(timeout_s):
            return self.expire(timeout_s)
        return self.receive()

    def expire(self, timeout_s: float) -> Failure:
        """End a process that has not answered in time."""
        self.kill()
        return Failure(status="failed", reason=f"no answer within {timeout_s:g} s (--timeout)", lost=True)

    @property
    def alive(self) -> bool:
        """Whether the process can still be asked."""
        return not self.connection.closed and self.process.poll() is None

    def kill(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()

    def last_words(self) -> str:
        """How the process ended and the last line it printed."""
        code = self.process.wait()
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        said = f"; its last words: {lines[-1].strip()[:200]}" if lines else ""
        return f"the worker of {self.name} was {end}{said}" if code < 0 else f"the worker of {self.name} {end}{said}"


def _import_path() -> dict[str, str]:
    """Let workers find this package also where it is not installed but run from a checkout."""
    root = str(Path(kernels_bench.__file__).parent.parent)
    return {"PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)}


def read_catalogue(plugins: Sequence[str], log: Path) -> Catalogue:
    """Ask a process of its own what could be run here.

    Raises:
        WorkerError: the process cannot say; a plugin that does not import, say.
    """
    worker = Worker("catalogue", {}, log)
    try:
        reply = worker.ask(AskCatalogue(plugins=tuple(plugins)), START_TIMEOUT_S)
    finally:
        worker.kill()
    if isinstance(reply, Failure):
        # A process that lived to say so was given a plugin that cannot be used: the command line is wrong.
        raise WorkerError(reply.reason, status=3 if reply.lost else 2)
    assert isinstance(reply, Catalogue)
    return reply


class Crew:
    """The workers of all arms of a run.

    Args:
        arms: those to run.
        logs: directory for what the workers print.
        timeout_s: longest that one request may take.
        announce: told of every arm that came up.
    """

    def __init__(
        self, arms: Sequence[ArmInfo], logs: Path, timeout_s: float, announce: Callable[[ArmStart], None]
    ) -> None:
        self._arms = {arm.name: arm for arm in arms}
        self._logs, self._timeout_s, self._announce = logs, timeout_s, announce
        self._workers: dict[str, Worker] = {}
        self._deaths = dict.fromkeys(self._arms, 0)
        self._given_up: dict[str, str] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.kill()

    def start(self) -> None:
        """Bring all arms up at once; one that does not come up is given up."""
        for name in self._arms:
            self._spawn(name)
        for name, worker in list(self._workers.items()):
            self._loaded(name, worker.ask(self._load_request(name), START_TIMEOUT_S))

    def _spawn(self, name: str) -> Worker:
        worker = Worker(name, self._arms[name].environment, self._logs / f"{name}.log")
        self._workers[name] = worker
        return worker

    def _load_request(self, name: str) -> LoadArm:
        return LoadArm(arm=name, plugin=self._arms[name].plugin)

    def _loaded(self, name: str, reply: Reply) -> None:
        if isinstance(reply, ArmStart):
            self._announce(reply)
        elif isinstance(reply, Failure):
            self._given_up[name] = f"{name} did not start: {reply.reason}"

    def _ready(self, name: str) -> Worker | Failure:
        """The arm's worker, started again if it died."""
        worker = self._workers[name]
        if name not in self._given_up and not worker.alive:
            worker = self._spawn(name)
            self._loaded(name, worker.ask(self._load_request(name), START_TIMEOUT_S))
        if name in self._given_up:
            return Failure(status="failed", reason=self._given_up[name])
        return worker

    def _note(self, name: str, reply: Reply) -> Reply:
        died = isinstance(reply, Failure) and reply.lost
        self._deaths[name] = self._deaths[name] + 1 if died else 0
        if self._deaths[name] >= DEATHS_IN_A_ROW and isinstance(reply, Failure):
            self._given_up[name] = f"skipped after {DEATHS_IN_A_ROW} deaths in a row; the last: {reply.reason}"
        return reply

    def ask(self, name: str, request: Request) -> Reply:
        """One request to one arm."""
        worker = self._ready(name)
        return worker if isinstance(worker, Failure) else self._note(name, worker.ask(request, self._timeout_s))

    def release(self) -> None:
        """Have every arm give its memory back."""
        for name, worker in self._workers.items():
            if worker.alive:
                self.ask(name, Release())

    def work(self, queues: Mapping[str, Sequence[R]], width: int) -> Iterator[tuple[R, Reply]]:
        """Answers to each arm's requests, at most ``width`` arms at work at a time, as they come."""
        waiting = {name: list(requests) for name, requests in queues.items() if requests}
        busy: dict[str, R] = {}
        while waiting or busy:
            for name in [n for n in waiting if n not in busy][: width - len(busy)]:
                request = waiting[name].pop(0)
                if not waiting[name]:
                    del waiting[name]
                worker = self._ready(name)
                if isinstance(worker, Failure):
                    yield request, worker
                    continue
                worker.post(request, self._timeout_s)
                busy[name] = request
            for name, reply in self._answers(busy):
                yield busy.pop(name), self._note(name, reply)

    def _answers(self, busy: Mapping[str, object]) -> list[tuple[str, Reply]]:
        """Wait for at least one of the busy workers to answer or to run out of time."""
        if not busy:
            return []
        workers = {name: self._workers[name] for name in busy}
        patience = max(0.0, min(worker.deadline for worker in workers.values()) - time.monotonic())
        ready = wait([worker.connection for worker in workers.values()], patience)
        answers: list[tuple[str, Reply]] = []
        for name, worker in workers.items():
            if worker.connection in ready:
                answers.append((name, worker.receive()))
            elif worker.deadline <= time.monotonic():
                answers.append((name, worker.expire(self._timeout_s)))
        return answers
