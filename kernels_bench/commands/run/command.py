"""One command from start to end: find out what is here, choose, run, report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from kernels_bench.commands.report import ReportTargets, report
from kernels_bench.commands.run.last_words import last_words
from kernels_bench.commands.run.measure import Runner
from kernels_bench.commands.run.prestart import HeadStart, hidden_beside
from kernels_bench.commands.run.replay import replay
from kernels_bench.commands.workload import Workload, make_workload
from kernels_bench.console import terminal
from kernels_bench.console.errors import UsageError
from kernels_bench.console.progress import Display, display_for
from kernels_bench.device.detect import expected_gpu
from kernels_bench.records.cases import Device, process_of
from kernels_bench.records.manifest import (
    LOGS,
    Manifest,
    ResultsError,
    RunDirectory,
    default_directory,
    read_records,
    timestamp,
)
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.results import ArmStart, Finished, Timing, Verification
from kernels_bench.records.selection import Selection
from kernels_bench.workers.ask_catalogue import catalogue_of
from kernels_bench.workers.pool import PARALLEL, WorkerPool
from kernels_bench.workers.process import WorkerError
from profiles.command_line import warn
from profiles.errors import ExitStatus
from profiles.instruments.environment import Environment, read_environment_with
from profiles.instruments.ranges import RangesNotRecorded

_ROOM = 0.7
"""Of a GPU's memory, what all cases that are verified at once may take; reading orders and the processes take some."""


Finish: TypeAlias = Callable[[Path], int]
"""What is done with a run's directory once all is measured, or what there was time for; gives the exit status."""


def start_run(selection: Selection, out: Path | None, command: str, targets: ReportTargets, again: bool = False) -> int:
    """A new run and its report; returns the exit status.

    Args:
        selection: what the user asked for.
        out: a new directory for the results; None for one of this minute's name.
        command: as typed, to run the same again.
        targets: where the report goes beside the terminal.
        again: whether a profiler is to see parts of it once more, see `kernels_bench.commands.run.replay`.

    Raises:
        UsageError: the selection makes no sense.
        ResultsError: the results cannot be written.
        WorkerError: nothing can be run.
    """
    return measure(selection, out, command, reporting(targets), again)


def reporting(targets: ReportTargets) -> Finish:
    """What is done with an ordinary run: its report."""
    return partial(_report, targets=targets)


class Checks(NamedTuple):
    """What is seen to before anything is measured, or the run's directory is made; each raises UsageError.

    Attributes:
        here: of the device and what is installed, before arms are looked for.
        planned: of what would be done.
    """

    here: Callable[[Device, Environment], None] = lambda *_: None
    planned: Callable[[Manifest], None] = lambda _: None


NO_CHECKS = Checks()


def measure(
    selection: Selection,
    out: Path | None,
    command: str,
    finish: Finish,
    again: bool = False,
    checks: Checks = NO_CHECKS,
    go_on: Sequence[str] = (),
) -> int:
    """A new run, and whatever is done with it then.

    Args:
        selection: as of `start_run`, like ``out``, ``command`` and ``again``.
        out: the directory.
        command: as typed.
        finish: what is done then.
        again: for a profiler.
        checks: whether it is to be made here at all.
        go_on: the command that goes on with it by ``--resume``, where that is not the usual one.

    Raises:
        UsageError: the selection makes no sense.
        ResultsError: the results cannot be written.
        WorkerError: nothing can be run.
    """
    started = time.perf_counter()
    with HeadStart(selection, hidden_beside(out or default_directory())) as early:
        catalogue = catalogue_of(selection, lambda: early.start(expected_gpu()))
        environment = _environment(catalogue.device)
        checks.here(catalogue.device, environment)
        workload = make_workload(catalogue, selection)
        manifest = Manifest(
            created=timestamp(),
            command=command,
            selection=selection,
            device=catalogue.device,
            arms=(*workload.arms, *workload.left_out),
            planned=workload.planned,
            environment=environment,
        )
        checks.planned(manifest)
        # Only now, since another run may have taken a default name meanwhile.
        run = RunDirectory.create(out or default_directory(), manifest)
        try:
            return _run(workload, run, early, finish, again, started, go_on)
        except WorkerError as error:
            if error.status == ExitStatus.USAGE and not _measured(run.path):  # so that the same line can be typed again
                shutil.rmtree(run.path, ignore_errors=True)
            raise


def _measured(run: Path) -> bool:
    """Whether there is anything in a run that took time to find out."""
    return any(isinstance(record, Verification | Timing) for record in read_records(run))


def resume_run(
    directory: Path,
    typed: Selection,
    out: Path | None,
    finish: Finish,
    again: bool = False,
    go_on: Sequence[str] = (),
) -> int:
    """Go on with a run, with the options it was begun with; returns the exit status.

    That relations are left out on purpose may be said now, too, and then is said of the whole run.

    Args:
        directory: of the run.
        typed: what was asked for now.
        out: another directory, which makes no sense.
        finish: what is done then, as of `measure`.
        again: for a profiler.
        go_on: the command with which a run is gone on with, as of `measure`.

    Raises:
        UsageError: options that belong to a new run.
        ResultsError: the directory is no run, or of another environment.
    """
    if typed != Selection(partial=typed.partial) or out is not None:
        raise UsageError(f"--resume {directory} takes its options from the run itself; leave the others out")
    started = time.perf_counter()
    run = RunDirectory.resume(directory)
    then, selection = run.manifest.device, run.manifest.selection
    # Before anything is started: where another GPU is, or none, this one's facts are missing: a difference too.
    run.refuse_other_environment(_environment(then), then)
    with HeadStart(selection, hidden_beside(run.path), run.path / LOGS) as early:
        catalogue = catalogue_of(selection, lambda: early.start(expected_gpu()))
        run.refuse_other_environment(_environment(catalogue.device), catalogue.device, catalogue.arms)
        if typed.partial and not selection.partial:
            selection = selection.model_copy(update={"partial": True})
            run.restate(run.manifest.model_copy(update={"selection": selection}))
        return _run(make_workload(catalogue, selection), run, early, finish, again, started, go_on)


def _environment(device: Device) -> Environment:
    return read_environment_with(device.uuid, partial(warn, "kernels_bench"))


def _run(
    workload: Workload,
    run: RunDirectory,
    early: HeadStart,
    finish: Finish,
    again: bool,
    started: float,
    go_on: Sequence[str],
) -> int:
    """Do what is left of a run, and finish it; the exit status."""
    interrupted = False
    run.go_on = command_line(*go_on, options={"resume": str(run.path)})
    run.begin()
    try:
        with last_words("kernels_bench", run.go_on), display_for(terminal.console(stderr=True)) as display:
            _announce(workload, run, display)
            _work(workload, run, early, display, again)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        with suppress(ResultsError):  # the disk may be what failed
            run.append(Finished(seconds=time.perf_counter() - started))
        run.close()
    if interrupted:
        try:
            finish(run.path)
        except ResultsError as error:  # too little was measured for anything to be told
            warn("kernels_bench", str(error))
        warn("kernels_bench", f"interrupted; go on with {run.go_on}")
        return ExitStatus.INTERRUPTED
    return finish(run.path)


def _report(directory: Path, targets: ReportTargets) -> int:
    try:
        return report(directory, targets)
    except ResultsError as error:
        kept = command_line("report", str(directory), options={})
        raise ResultsError(f"{error}; what was measured is kept, see {kept}", error.status) from error


def _names(workload: Workload) -> Iterator[str]:
    """The arms, and of each how many of its candidates are searched."""
    searched = Counter(process_of(name) for name in workload.searched)
    for arm in workload.arms:
        if arm.name not in workload.searched:
            count = searched.pop(arm.name, 0)
            yield f"{arm.name} and {count} candidates" if count else arm.name
    yield from (f"{count} candidates of {name}" for name, count in searched.items())


def _announce(workload: Workload, run: RunDirectory, display: Display) -> None:
    device = run.manifest.device
    display.note(f"{device.name}: {', '.join(_names(workload))}; results in {run.path}")
    if device.below_sm90:
        display.note("this GPU is older than SM90, for which these kernels were made; everything runs that can")
    for process, caveat in {arm.process: arm.caveat for arm in workload.arms if arm.caveat}.items():
        display.note(f"{process}: {caveat}")
    if run.manifest.selection.budget_s is not None:  # a plan, which chooses among candidates
        for arm in workload.arms:
            if arm.lacking:
                display.note(f"{arm.name}: {arm.lacking}")
    for reason in dict.fromkeys(arm.unavailable for arm in workload.left_out):
        names = (arm.name for arm in workload.left_out if arm.unavailable == reason)
        display.note(f"without {', '.join(names)}: {reason}")


def _work(workload: Workload, run: RunDirectory, early: HeadStart, display: Display, again: bool) -> None:
    def came_up(start: ArmStart) -> None:
        """Keep and tell that an arm's process has loaded."""
        run.append(start)
        told = f"{start.provenance}, loaded" if start.provenance else "loaded"
        display.note(f"{start.arm}: {told} in {start.seconds:.1f} s")

    on_cpu = run.manifest.device.type == "cpu"
    timeout_s, facts = run.manifest.selection.timeout_s, run.manifest.environment.device
    total = facts.memory_total_bytes if facts is not None else None
    room = None if total is None else int(_ROOM * total)
    with WorkerPool(workload.arms, run.path / "logs", timeout_s, came_up, workload.extra_workers, room) as pool:
        early.hand_over(pool)
        pool.start()
        Runner(workload, pool, run, display, parallel=PARALLEL["cpu" if on_cpu else "cuda"]).run()
        if again:
            with suppress(RangesNotRecorded):  # the workers said so already: without ranges they do not start
                replay(workload, pool, read_records(run.path, samples=True), display)
