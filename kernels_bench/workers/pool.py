"""All arms' processes together: what is asked of which, how much at once, and who is given up."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from kernels_bench.records.cases import Case, label_of, process_of
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.results import ArmStart, Verification
from kernels_bench.workers.messages import (
    Failure,
    LoadArm,
    Release,
    Released,
    Reply,
    Reproduce,
    Request,
    Revisit,
    Screen,
    Verify,
)
from kernels_bench.workers.process import START_TIMEOUT_S, WorkerError, WorkerProcess, end
from profiles.errors import ExitStatus

PARALLEL = {"cuda": 8, "cpu": 2}
"""Workers that verify at once: while one waits, compiles or uses one core only, another computes.

Processes take turns on a GPU, so that a batch takes longer the more of them there are, but not as many times longer:
on an H200 the GPU gave a comparison every 0.26 ms with two of them, 0.22 ms with three, 0.16 ms with six.
"""

DEATHS_IN_A_ROW = 3
"""After so many deaths with no answer between them an arm's remaining cases are skipped.

Candidates, which share their arm's process, are counted each by itself: one that ends it time and again costs the arm
and the arm's other candidates nothing but the process's new starts.
"""

HELPER = " (helper {})"
"""Ends the names of an arm's further processes; no arm's own name has a space."""

WORTH_HELP_S, MOST_HELPERS = 8.0, 3
"""An arm that is so many seconds behind all others gets a further process, as long as it has no more than these."""

MOST_KEPT = 1 << 30
"""Bytes of the device's memory that an idle process may keep; after a capture that failed, torch gives none back."""

R = TypeVar("R", bound=Request)
C = TypeVar("C", Verify, Revisit, Reproduce, Screen)


@dataclass
class _Pace:
    """How long an arm's requests take."""

    requests: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.requests += 1
        self.seconds += seconds

    @property
    def mean_s(self) -> float:
        """Infinite as long as nothing is known, so that every arm is soon tried."""
        return self.seconds / self.requests if self.requests else math.inf


def _queues(requests: Iterable[C]) -> dict[str, list[C]]:
    """Requests by the arm in whose process they are answered."""
    queues: dict[str, list[C]] = {}
    for request in requests:
        queues.setdefault(request.case.process, []).append(request)
    return queues


def _candidate(request: Request) -> str:
    """The candidate that something is asked about; empty where it is about an arm, or an arm's own kernel."""
    case = getattr(request, "case", None)
    return case.arm if isinstance(case, Case) and label_of(case.arm) else ""


class WorkerPool:
    """The workers of all arms of a run.

    Args:
        arms: those to run.
        logs: directory for what the workers print.
        timeout_s: longest that one request may take.
        announce: told of every arm that came up.
        helpers: how many further processes an arm gets for `work`, until `release`.
        memory: bytes of the device's that all of them may take together, about; None where nobody knows.
    """

    def __init__(
        self,
        arms: Sequence[ArmInfo],
        logs: Path,
        timeout_s: float,
        announce: Callable[[ArmStart], None] = lambda _: None,
        extra_workers: Mapping[str, int] | None = None,
        memory: int | None = None,
    ) -> None:
        # A worker has the name of its arm, or of its arm and HELPER; candidates run in their arm's.
        own = {arm.process: arm.model_copy(update={"name": arm.process}) for arm in arms}
        self._arms = dict(own)
        for arm in own.values():
            numbers = range(1, 1 + (extra_workers or {}).get(arm.name, 0))
            self._arms |= {arm.name + HELPER.format(number): arm for number in numbers}
        self._paces = {name: _Pace() for name in own}
        self._logs, self._timeout_s, self._announce, self._memory = logs, timeout_s, announce, memory
        self._workers: dict[str, WorkerProcess] = {}
        # Both are of processes by their names, and of what was asked about where that is a candidate.
        self._deaths: Counter[str] = Counter()
        self._loading: set[str] = set()
        self._given_up: dict[str, Failure] = {}
        self._server = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._workers.values())

    def kill(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.kill()

    def renew(self) -> None:
        """End all processes; for its next request each is started anew, and has been asked nothing before.

        A user's own arms come from another fork server than before then: those of one server have one seed for the
        hashes of their texts, and a set has one order in all of them.
        """
        self.kill()
        self._server = 1 - self._server
        self._loading.clear()

    def start(self) -> None:
        """Start all processes that are not there yet and have them load; nothing is waited for."""
        for name in self._arms:
            if name not in self._workers:
                self._spawn(name)

    def adopt(self, early: WorkerPool) -> None:
        """Take over the workers of the same arms from another pool, which has started them and asked nothing else.

        A worker whose log cannot be moved is left with it.
        """
        for name, arm in self._arms.items():
            worker = early._workers.get(name)
            if worker is None or early._arms[name] != arm or not worker.move_log(self._log(name)):
                continue
            self._workers[name] = worker
            self._loading.add(name)
            del early._workers[name]

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _spawn(self, name: str) -> WorkerProcess:
        arm = self._arms[name]
        server = self._server if arm.plugin else 0
        worker = WorkerProcess(name, arm.environment, self._log(name), server=server)
        worker.post(LoadArm(arm=arm.name, plugin=arm.plugin), START_TIMEOUT_S, once_begun_s=self._timeout_s)
        self._workers[name] = worker
        self._loading.add(name)
        return worker

    def _settle(self, name: str, reply: Reply) -> None:
        """Take note of the answer to `LoadArm`.

        Raises:
            WorkerError: the arm is the user's own, and is to be mended first.
        """
        self._loading.discard(name)
        if isinstance(reply, Failure) and reply.mistake:
            raise WorkerError(reply.reason, status=ExitStatus.USAGE)
        if isinstance(reply, ArmStart) and not self._helps(name):
            self._announce(reply)
        elif isinstance(reply, Failure):
            reason = f"{name} did not start: {reply.reason}"
            self._given_up[name] = Failure(status="failed", reason=reason, cause=reply.cause)

    def _ready(self, name: str) -> WorkerProcess | Failure:
        """The arm's worker, loaded, and started again if it died."""
        worker = self._workers[name]
        if name not in self._given_up and name not in self._loading and not worker.alive:
            worker = self._spawn(name)
        if name in self._loading:
            self._settle(name, worker.wait())
        if name in self._given_up:
            return self._given_up[name]
        return worker

    def _note(self, name: str, request: Request, reply: Reply) -> Reply:
        """The answer, once deaths are counted and who dies too often is given up."""
        if isinstance(reply, Verification) and reply.fatal:
            self._workers[name].kill()  # it is about to end; another one is started for the next request
        blamed = _candidate(request) or name
        died = isinstance(reply, Failure) and reply.lost
        self._deaths[blamed] = self._deaths[blamed] + 1 if died else 0
        if self._deaths[blamed] >= DEATHS_IN_A_ROW and isinstance(reply, Failure):
            reason = f"skipped after {DEATHS_IN_A_ROW} deaths in a row; the last: {reply.reason}"
            self._given_up[blamed] = Failure(status="failed", reason=reason, cause=reply.cause)
        return reply

    def _asked(self, name: str, request: Request) -> WorkerProcess | Failure:
        """Who is asked: a process that is ready; or why nobody is."""
        return self._given_up.get(_candidate(request)) or self._ready(name)

    def is_ready(self, name: str) -> bool:
        """Wait until the process of an arm, or of one of its candidates, has loaded; whether it has."""
        return isinstance(self._ready(process_of(name)), WorkerProcess)

    def ask(self, name: str, request: Request, limit_s: float = math.inf, by: str = "") -> Reply:
        """One request to one arm, or to one of its candidates.

        Args:
            name: whose.
            request: what is asked.
            limit_s: after so many seconds it has failed, if that is less than what any request may take.
            by: the option that this follows from.
        """
        return self._ask(process_of(name), request, limit_s, by)

    def _ask(self, name: str, request: Request, limit_s: float = math.inf, by: str = "") -> Reply:
        """The same of a process, by its name."""
        worker = self._asked(name, request)
        if isinstance(worker, Failure):
            return worker
        own = limit_s < self._timeout_s
        return self._note(name, request, worker.ask(request, min(limit_s, self._timeout_s), by if own else ""))

    def ask_all(self, requests: Mapping[str, Request]) -> dict[str, Reply]:
        """One request to each of some arms, all processes at once; their answers by arm.

        Candidates, which are asked for in one process, are asked one after the other.
        """
        answers: dict[str, Reply] = {}
        while waiting := [name for name in requests if name not in answers]:
            answers |= self._ask_each({process_of(name): name for name in reversed(waiting)}, requests)
        return {name: answers[name] for name in requests}

    def _ask_each(self, names: Mapping[str, str], requests: Mapping[str, Request]) -> dict[str, Reply]:
        """One request to each of some processes, all at once, by what they are asked about."""
        workers = {process: self._asked(process, requests[name]) for process, name in names.items()}
        for process, worker in workers.items():
            if isinstance(worker, WorkerProcess):
                worker.post(requests[names[process]], self._timeout_s)
        answers: dict[str, Reply] = {}
        for process, worker in workers.items():
            name = names[process]
            if isinstance(worker, Failure):
                answers[name] = worker
            else:
                answers[name] = self._note(process, requests[name], worker.wait())
        return answers

    def release(self) -> None:
        """Have every arm give its memory back, and let the helpers go, but one where the arm's own process is gone."""
        helpers = [name for name in self._workers if self._helps(name)]
        for name in self._workers.keys() - {*helpers}:
            self._give_back(name)
        for name in helpers:
            self._dismiss(name)

    def _give_back(self, name: str) -> bool:
        """Whether a process is there that has loaded and keeps no memory; another one is started once it is needed."""
        worker = self._workers[name]
        if name in self._loading or not worker.alive:
            return False
        reply = self._ask(name, Release())
        if isinstance(reply, Released) and reply.kept > MOST_KEPT:
            worker.kill()
        return worker.alive

    def _dismiss(self, helper: str) -> None:
        """Let a helper go; where its arm's own process has ended it takes that one's place: it has loaded already."""
        arm = self._arms[helper].name
        needed = arm in self._workers and arm not in self._given_up and not self._workers[arm].alive
        serves = needed and arm not in self._loading and self._give_back(helper)
        worker = self._workers.pop(helper)
        del self._arms[helper]
        self._loading.discard(helper)
        if serves:
            worker.name = arm
            self._workers[arm] = worker
        else:
            worker.kill()

    def bring_up(self, names: Iterable[str]) -> None:
        """Have the processes of some arms loaded, those that have ended started anew, all at once."""
        wanted = {process_of(name) for name in names}
        for name in wanted - self._loading - {*self._given_up}:
            if not self._workers[name].alive:
                self._spawn(name)
        for name in wanted:
            self._ready(name)

    def _helps(self, name: str) -> bool:
        return name != self._arms[name].name

    def work_through(self, requests: Iterable[C], width: int) -> Iterator[tuple[C, Reply]]:
        """Answers to all requests about cases; what runs out of memory beside others is asked again, alone."""
        again = []
        for request, reply in self.work(_queues(requests), width):
            if width > 1 and isinstance(reply, Failure) and reply.cause == "out_of_memory":
                again.append(request)
            else:
                yield request, reply
        if again:
            self.release()
            self._forgive()
            yield from self.work(_queues(again), 1)

    def _forgive(self) -> None:
        """Processes that died for want of memory may try again; not those that never came up."""
        died = [name for name in self._given_up if self._deaths[name] >= DEATHS_IN_A_ROW]
        for name in [name for name in died if self._given_up[name].cause == "out_of_memory"]:
            del self._given_up[name], self._deaths[name]

    def work(self, queues: Mapping[str, Sequence[R]], width: int) -> Iterator[tuple[R, Reply]]:
        """Answers to each arm's requests, at most ``width`` workers at work at a time, as they come.

        Arms that are still loading do not keep the others waiting.
        """
        waiting = {name: list(requests) for name, requests in queues.items()}
        busy: dict[str, tuple[R, float]] = {}
        while busy or any(waiting.values()):
            while len(busy) < width and (found := self._next(waiting, busy)) is not None:
                name, place = found
                request = waiting[self._arms[name].name].pop(place)
                worker = self._asked(name, request)
                if isinstance(worker, Failure):
                    yield request, worker
                else:
                    worker.post(request, self._timeout_s)
                    busy[name] = request, time.monotonic()
            loading = {name for name in self._loading if waiting.get(self._arms[name].name)}
            for name, reply in self._answers({*busy, *loading}):
                if name in busy:
                    request, began = busy.pop(name)
                    self._paces[self._arms[name].name].add(time.monotonic() - began)
                    yield request, self._note(name, request, reply)
                else:
                    self._settle(name, reply)
            self._reinforce(waiting, width)

    def _reinforce(self, waiting: Mapping[str, Sequence[object]], width: int) -> None:
        """Start a further process for the arm that the others would wait for at the end, most of them idle."""
        left = {arm: self._seconds_left(arm, waiting)[0] for arm, requests in waiting.items() if requests}
        together = sum(left.values()) / width
        if width == 1 or not left or together == math.inf:
            return
        names = {arm: [name for name, info in self._arms.items() if info.name == arm] for arm in left}
        behind = max(left, key=lambda arm: left[arm] / len(names[arm]))
        helpers = len(names[behind]) - 1
        late = left[behind] / len(names[behind]) > together + WORTH_HELP_S
        if late and helpers < MOST_HELPERS and not any(name in self._given_up for name in names[behind]):
            helper = behind + HELPER.format(helpers + 1)
            self._arms[helper] = self._arms[behind]
            self._spawn(helper)

    def _fits(self, request: Request, busy: Mapping[str, tuple[Request, float]]) -> bool:
        """Whether the device has room for a request beside those that are under way."""
        beside = (under_way for under_way, _ in busy.values())
        taken = sum(one.memory for one in (request, *beside) if isinstance(one, (Verify, Revisit)))
        return not busy or self._memory is None or taken <= self._memory

    def _next(self, waiting: Mapping[str, Sequence[R]], busy: Mapping[str, tuple[R, float]]) -> tuple[str, int] | None:
        """An idle worker that is loaded, of the arm that has the longest way to go, as far as is known.

        Returns:
            Its name, and the place of the first of its arm's requests for which the device has room; None where no
            worker has any.
        """
        room = {
            arm: next((place for place, request in enumerate(requests) if self._fits(request, busy)), None)
            for arm, requests in waiting.items()
        }
        idle = [
            (name, place)
            for name, arm in self._arms.items()
            if (place := room.get(arm.name)) is not None
            and name not in busy
            and name not in self._loading
            and not (self._helps(name) and name in self._given_up)
        ]
        return max(idle, key=lambda one: self._seconds_left(self._arms[one[0]].name, waiting), default=None)

    def _seconds_left(self, arm: str, waiting: Mapping[str, Sequence[object]]) -> tuple[float, int]:
        left = len(waiting[arm])
        return left * self._paces[arm].mean_s, left

    def _answers(self, names: set[str]) -> list[tuple[str, Reply]]:
        """Wait for some workers to answer or to run out of time; those that have, if any: one may have but begun to."""
        workers = {name: self._workers[name] for name in names}
        if not workers:
            return []
        patience = max(0.0, min(worker.deadline for worker in workers.values()) - time.monotonic())
        ready = wait([worker.connection for worker in workers.values()], patience)
        answers: list[tuple[str, Reply]] = []
        for name, worker in workers.items():
            reply = worker.receive() if worker.connection in ready else None
            if reply is None and worker.deadline <= time.monotonic():
                reply = worker.expire()
            if reply is not None:
                answers.append((name, reply))
        return answers
