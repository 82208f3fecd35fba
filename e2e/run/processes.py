"""The process of each arm: started, asked in turn for what its part of a run is made of, and ended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.checkpoints.resolve import cache_directory
from e2e.records import AnyRecord, ArmLost, Trial
from e2e.workload.arms import environment, unsupported
from e2e.workload.messages import Describe, Load, RunAlone, RunTrial, StartEngine
from e2e.workload.options import ArmName, Options
from e2e.workload.trials import WARM_UP, trial_in_words
from kernels_bench.device.detect import no_driver_here, processor
from kernels_bench.records.cases import Device
from kernels_bench.workers.messages import Failure
from kernels_bench.workers.process import WorkerError, WorkerProcess, end
from kernels_bench.workers.scratch import scratch
from profiles.run_files.record import Record

PROGRAM = "e2e.engine"
START_TIMEOUT_S = 1800.0
"""An engine may compile for minutes."""

_NOT_STARTED = "the engine did not start: "


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


@contextmanager
def engine_process(name: str, variables: dict[str, str], log: Path) -> Iterator[WorkerProcess]:
    """A process that serves `e2e.workload.messages`, for as long as it is needed.

    Args:
        name: the arm's, for messages.
        variables: its environment's, see `e2e.workload.arms.environment`.
        log: receives what it prints.
    """
    worker = WorkerProcess(name, variables, log, PROGRAM)
    try:
        yield worker
    finally:
        end([worker])


def describe_device() -> Device:
    """What engines would run on: where a driver is, found out by a process of its own, since torch has to be asked.

    Raises:
        WorkerError: the process cannot say.
    """
    if no_driver_here():
        return processor()
    with engine_process("device", {}, scratch() / "device.log") as worker:
        reply = worker.ask(Describe(), 600.0)
    if isinstance(reply, Failure):
        raise WorkerError(reply.reason)
    assert isinstance(reply, Device)
    return reply


Processes = dict[ArmName, WorkerProcess | ArmLost]
"""Of every arm a process that waits for its engine, or why it can have none."""


@contextmanager
def processes(tasks: Sequence[Task], logs: Path, ready: Callable[[ArmName], None]) -> Iterator[Processes]:
    """A process for every arm that can run, with vLLM imported; what `run_arm` did not take ends with this context.

    They import side by side, since that takes long, and all before the first engine starts, since nothing else is to
    run while one is timed.

    Args:
        tasks: one an arm.
        logs: directory for what the processes print.
        ready: told of each arm once it is known whether it can be asked.
    """
    waiting: Processes = {}
    try:
        for task in tasks:
            waiting[task.arm] = _begun(task, logs)
        for arm, process in waiting.items():
            if isinstance(process, WorkerProcess):
                waiting[arm] = _loaded(arm, process)
            ready(arm)
        yield waiting
    finally:
        end([process for process in waiting.values() if isinstance(process, WorkerProcess)])


def _begun(task: Task, logs: Path) -> WorkerProcess | ArmLost:
    """A process that imports what its engine is made of."""
    reason = unsupported(task.arm, task.device)
    if reason is not None:
        return ArmLost(arm=task.arm, status="unsupported", reason=reason)
    own = environment(task.arm, cache_directory(), task.device, task.options.plan, task.options.tp_size)
    worker = WorkerProcess(task.arm, own, logs / f"{task.arm}.log", PROGRAM)
    worker.post(Load(arm=task.arm, mode=task.options.mode), START_TIMEOUT_S)
    return worker


def _loaded(arm: ArmName, worker: WorkerProcess) -> WorkerProcess | ArmLost:
    """The same process once it has imported it; one that cannot is ended."""
    reply = worker.wait()
    if not isinstance(reply, Failure):
        return worker
    end([worker])
    return ArmLost(arm=arm, status="failed", reason=_NOT_STARTED + reply.reason)


def run_arm(task: Task, waiting: Processes, timeout_s: float) -> Generator[AnyRecord]:
    """The arm's records, as they are made; a lost arm's last one says why.  Its process ends with it."""
    worker = waiting.pop(task.arm)
    if isinstance(worker, ArmLost):
        yield worker
        return
    try:
        for request, patience in _requests(task, timeout_s):
            reply = worker.ask(request, patience)
            if isinstance(reply, Failure):
                yield ArmLost(arm=task.arm, status="failed", reason=_explained(request, reply.reason))
                return
            if not (isinstance(reply, Trial) and reply.trial == WARM_UP):
                yield reply
    finally:
        end([worker])


def _requests(task: Task, timeout_s: float) -> Iterator[tuple[Record, float]]:
    on_gpu = task.device.type != "cpu"
    # A server that is up compiles nothing: it is given no more time to say what it is than to answer.
    patience = timeout_s if task.arm == "server" else START_TIMEOUT_S
    yield StartEngine(arm=task.arm, model=task.model, options=task.options, on_gpu=on_gpu), patience
    yield RunTrial(trial=WARM_UP), timeout_s
    if not task.known:
        yield RunAlone(), timeout_s
    for trial in task.trials:
        yield RunTrial(trial=trial), timeout_s


def _explained(request: Record, reason: str) -> str:
    if isinstance(request, StartEngine):
        return _NOT_STARTED + reason
    if isinstance(request, RunTrial) and request.trial != WARM_UP:
        return f"in {trial_in_words(request.trial)}: {reason}"
    return reason
