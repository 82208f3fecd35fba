"""A run from start to end: every arm's engine in turn, or every trial; each record is written as it is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

from e2e.records import (
    AnyRecord,
    ArmLost,
    Finished,
    Manifest,
    RunDirectory,
    RunState,
    SoloAnswers,
    Started,
    Trial,
    read_state,
)
from e2e.run.processes import Processes, Task, processes, run_arm
from e2e.workload.arms import TITLES
from e2e.workload.options import Options
from e2e.workload.trials import STAGGERED
from kernels_bench.console.progress import Display
from profiles.run_files.run_directory import ResultsError


def run_all(run: RunDirectory, model: str, timeout_s: float, display: Display, say: Callable[[str], None]) -> RunState:
    """Every arm of a run in turn, without what is in its directory already.

    Raises:
        ResultsError: a record cannot be written.
    """
    started = time.perf_counter()
    ledger = read_state(run.records())
    tasks = list(_tasks(run.manifest, model, ledger))
    run.begin()
    try:
        display.phase("starting", len(tasks))
        with (
            processes(tasks, run.path / "logs", display.step) as waiting,
            closing(_records(run.manifest, tasks, waiting, timeout_s, display, say)) as records,
        ):
            for record in records:
                run.append(record)
                ledger.take(record)
                _tell(record, run.manifest.options, display, say)
    finally:
        with suppress(ResultsError):  # the disk may be what failed
            run.append(Finished(seconds=time.perf_counter() - started))
    return ledger


def _tasks(manifest: Manifest, model: str, ledger: RunState) -> Iterator[Task]:
    """What is left of every arm that is not done."""
    for arm in manifest.arms:
        done = {trial.trial for trial in ledger.trials.get(arm, [])}
        left = tuple(trial for trial in manifest.asked(arm) if trial not in done)
        if left or arm not in ledger.alone:
            yield Task(arm, model, manifest.options, manifest.device, left, known=arm in ledger.alone)


def _records(
    manifest: Manifest,
    tasks: Sequence[Task],
    waiting: Processes,
    timeout_s: float,
    display: Display,
    say: Callable[[str], None],
) -> Generator[AnyRecord]:
    """Everything that is found out, as it is; arms go together only where that is asked for."""
    together = manifest.options.interleave and len(tasks) > 1
    for group in [tasks] if together else [[task] for task in tasks]:
        for task in group:
            say(f"PHASE {manifest.arms.index(task.arm) + 1}: {TITLES[task.arm]}")
        display.phase(", ".join(task.arm for task in group), sum(3 + len(task.trials) for task in group))
        yield from in_turn([run_arm(task, waiting, timeout_s) for task in group])


def in_turn(arms: Sequence[Generator[AnyRecord]]) -> Generator[AnyRecord]:
    """A record of each arm, then the next of each, until none has more; all are closed at the end, however it comes.

    Each round begins with whom the last one ended with, so that a machine whose speed drifts favours none of them.
    """
    with ExitStack() as engines:
        left = [engines.enter_context(closing(arm)) for arm in arms]
        order = 1
        while left:
            for arm in left[::order]:
                record = next(arm, None)
                if record is None:
                    left.remove(arm)
                else:
                    yield record
            order = -order


def _tell(record: Any, options: Options, display: Display, say: Callable[[str], None]) -> None:
    """One record, in upstream's words where it has any; whose it is where that does not go without saying."""
    whose = f" ({record.arm})" if options.interleave else ""
    if isinstance(record, Started):
        say(f"Engine initialization time: {record.init_s:.2f}s ({record.provenance}){whose}")
        display.step(f"the engine is up; warming up{whose}")
    elif isinstance(record, SoloAnswers):
        display.step(f"the needles alone{whose}", steps=2)
    elif isinstance(record, Trial):
        staggered = record.trial == STAGGERED
        number = "Staggered" if staggered else f"Trial {record.trial + 1}/{options.num_trials}"
        not_timed = " (one sequence after another, not counted)" if staggered else ""
        say(f"  {number}: batch_size={record.batch_size}, time={record.seconds:.2f}s{not_timed}{whose}")
        display.step(f"{number}{whose}")
    elif isinstance(record, ArmLost):
        say(f"{record.arm} {record.status}: {record.reason}")
