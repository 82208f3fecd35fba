"""A run from start to end: every arm's engine in turn, trial by trial, each record written as it is made."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from e2e.arms import TITLES, environment, unsupported
from e2e.models import cache_directory
from e2e.options import ArmName, Options
from e2e.prompts import STAGGERED, WARM_UP
from e2e.protocol import Describe, Load, RunAlone, RunTrial, StartEngine
from e2e.records import Alone, AnyRecord, Finished, Lost, Manifest, RunDirectory, Started, Trial
from kernels_bench.cases import Device, Record
from kernels_bench.progress import Display
from kernels_bench.protocol import Failure
from kernels_bench.storage import ResultsError
from kernels_bench.workers import Worker, WorkerError, end

PROGRAM = "e2e.launch"
START_TIMEOUT_S = 1800.0
"""An engine may compile for minutes."""


@dataclass(frozen=True)
class Task:
    """One arm's part of a run.

    Attributes:
        arm: its name.
        model: path or name that vLLM takes.
        options: what the engine is given.
        device: what it runs on.
        trials: numbers of the trials that are still to be run.
        known: whether the needles' answers alone are known already.
    """

    arm: ArmName
    model: str
    options: Options
    device: Device
    trials: tuple[int, ...]
    known: bool = False


def describe_device() -> Device:
    """What engines would run on, found out by a process of its own.

    Raises:
        WorkerError: the process cannot say.
    """
    with tempfile.TemporaryDirectory() as scratch, engine_process("device", {}, Path(scratch) / "device.log") as worker:
        reply = worker.ask(Describe(), 600.0)
    if isinstance(reply, Failure):
        raise WorkerError(reply.reason)
    assert isinstance(reply, Device)
    return reply


class Prepared(NamedTuple):
    """A process that waits for its engine.

    Attributes:
        worker: the process.
        failure: why it cannot have one; None if it can.
    """

    worker: Worker
    failure: Failure | None


Processes = dict[ArmName, Prepared]


@contextmanager
def processes(tasks: Sequence[Task], logs: Path, ready: Callable[[ArmName], None]) -> Iterator[Processes]:
    """A process for every arm that can run, with vLLM imported; what `run_arm` did not take ends with this context.

    They import side by side, since that takes long, and all before the first engine starts, since nothing else is to
    run while one is timed.

    Args:
        tasks: one an arm.
        logs: directory for what the processes print.
        ready: told of each as it can be asked.
    """
    waiting: Processes = {}
    try:
        for task in tasks:
            if unsupported(task.arm, task.device) is None:
                variables = environment(task.arm, cache_directory(), task.device)
                worker = Worker(task.arm, variables, logs / f"{task.arm}.log", PROGRAM)
                waiting[task.arm] = Prepared(worker, None)
                worker.post(Load(arm=task.arm, mode=task.options.mode), START_TIMEOUT_S)
        for arm, (worker, _) in waiting.items():
            reply = worker.wait(START_TIMEOUT_S)
            waiting[arm] = Prepared(worker, reply if isinstance(reply, Failure) else None)
            ready(arm)
        yield waiting
    finally:
        end([worker for worker, _ in waiting.values()])


def run_arm(task: Task, waiting: Processes, timeout_s: float) -> Iterator[Record]:
    """The arm's records, as they are made; a lost arm's last one says why.  Its process ends with it."""
    reason = unsupported(task.arm, task.device)
    if reason is not None:
        yield Lost(arm=task.arm, status="unsupported", reason=reason)
        return
    worker, failure = waiting.pop(task.arm)
    try:
        for request, patience in _requests(task, timeout_s):
            reply = failure or worker.ask(request, patience)
            if isinstance(reply, Failure):
                yield Lost(arm=task.arm, status="failed", reason=_explained(request, reply.reason))
                return
            if not (isinstance(reply, Trial) and reply.trial == WARM_UP):
                yield reply
    finally:
        end([worker])


def _requests(task: Task, timeout_s: float) -> Iterator[tuple[Record, float]]:
    on_gpu = task.device.type == "cuda"
    yield StartEngine(arm=task.arm, model=task.model, options=task.options, on_gpu=on_gpu), START_TIMEOUT_S
    yield RunTrial(trial=WARM_UP), timeout_s
    if not task.known:
        yield RunAlone(), timeout_s
    for trial in task.trials:
        yield RunTrial(trial=trial), timeout_s


def _explained(request: Record, reason: str) -> str:
    if isinstance(request, StartEngine):
        return f"the engine did not start: {reason}"
    if isinstance(request, RunTrial) and request.trial != WARM_UP:
        return f"in {trial_in_words(request.trial)}: {reason}"
    return reason


def trials_of(options: Options) -> tuple[int, ...]:
    """All trials of a run, by number."""
    return (*range(options.num_trials), STAGGERED)


def has_trial(arm: ArmName, trial: int) -> bool:
    """Whether an arm has such a trial: where one request is answered at a time, none is beside another."""
    return (arm, trial) != ("serial", STAGGERED)


def trial_in_words(trial: int) -> str:
    """A trial as people call it."""
    return "the staggered trial" if trial == STAGGERED else f"trial {trial + 1}"


@contextmanager
def engine_process(name: str, variables: dict[str, str], log: Path) -> Iterator[Worker]:
    """A process that serves `e2e.protocol`, for as long as it is needed.

    Args:
        name: the arm's, for messages.
        variables: its environment's, see `e2e.arms.environment`.
        log: receives what it prints.
    """
    worker = Worker(name, variables, log, PROGRAM)
    try:
        yield worker
    finally:
        end([worker])


@dataclass
class Ledger:
    """What is known of a run so far."""

    started: dict[ArmName, Started]
    alone: dict[ArmName, Alone]
    trials: dict[ArmName, list[Trial]]
    lost: dict[ArmName, Lost]

    def take(self, record: AnyRecord) -> None:
        """Another record; of an arm that was lost and went on, what it did since counts."""
        if isinstance(record, Started):
            self.started[record.arm] = record
            self.lost.pop(record.arm, None)
        elif isinstance(record, Alone):
            self.alone[record.arm] = record
        elif isinstance(record, Trial):
            self.trials.setdefault(record.arm, []).append(record)
        elif isinstance(record, Lost):
            self.lost[record.arm] = record


def read_ledger(records: Iterable[AnyRecord]) -> Ledger:
    """A run's records, sorted."""
    ledger = Ledger({}, {}, {}, {})
    for record in records:
        ledger.take(record)
    return ledger


def run_all(
    run: RunDirectory, model: str, trials: Sequence[int], timeout_s: float, display: Display, say: Callable[[str], None]
) -> Ledger:
    """Every arm of a run in turn, without what is in its directory already.

    Raises:
        ResultsError: a record cannot be written.
    """
    started = time.perf_counter()
    ledger = read_ledger(run.records())
    tasks = list(_tasks(run.manifest, model, trials, ledger))
    try:
        display.phase("starting", len(tasks))
        with processes(tasks, run.path / "logs", lambda arm: display.step(f"{arm} waits for its turn")) as waiting:
            for task in tasks:
                say(f"PHASE {run.manifest.arms.index(task.arm) + 1}: {TITLES[task.arm]}")
                display.phase(task.arm, 3 + len(task.trials))
                for record in run_arm(task, waiting, timeout_s):
                    run.append(record)
                    ledger.take(record)  # type: ignore[arg-type]
                    _tell(record, task.options, display, say)
    finally:
        with suppress(ResultsError):  # the disk may be what failed
            run.append(Finished(seconds=time.perf_counter() - started))
    return ledger


def _tasks(manifest: Manifest, model: str, trials: Sequence[int], ledger: Ledger) -> Iterator[Task]:
    """What is left of every arm that is not done."""
    for arm in manifest.arms:
        done = {trial.trial for trial in ledger.trials.get(arm, [])}
        left = tuple(trial for trial in trials if trial not in done and has_trial(arm, trial))
        if left:
            yield Task(arm, model, manifest.options, manifest.device, left, known=arm in ledger.alone)


def _tell(record: Any, options: Options, display: Display, say: Callable[[str], None]) -> None:
    """One record, in upstream's words where it has any."""
    if isinstance(record, Started):
        say(f"Engine initialization time: {record.init_s:.2f}s ({record.provenance})")
        display.step("the engine is up; warming up")
    elif isinstance(record, Alone):
        display.step("the needles alone", steps=2)
    elif isinstance(record, Trial):
        staggered = record.trial == STAGGERED
        number = "Staggered" if staggered else f"Trial {record.trial + 1}/{options.num_trials}"
        not_timed = " (one sequence after another, not counted)" if staggered else ""
        say(f"  {number}: batch_size={record.batch_size}, time={record.seconds:.2f}s{not_timed}")
        display.step(number)
    elif isinstance(record, Lost):
        say(f"{record.arm} {record.status}: {record.reason}")


def warn(text: str) -> None:
    """A line on standard error."""
    print(f"e2e: {text}", file=sys.stderr)
