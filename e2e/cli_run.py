"""What ``e2e`` itself, ``--resume`` and ``report`` do: from options to a run directory, and from it to a report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.checkpoints.resolve import cache_directory, checkpoint
from e2e.cli_options import settled
from e2e.records import FORMAT, Manifest, RunDirectory, read_state
from e2e.report.screen import screen_of
from e2e.report.summary import summarise
from e2e.report.text import header, report
from e2e.run.processes import describe_device
from e2e.run.run_arms import run_all
from e2e.workload.arms import check_engine, check_room, default_arms
from e2e.workload.options import ArmName, Options, OptionsError
from e2e.workload.room import free_memory, why_apart
from e2e.workload.trials import arms_with, trial_name
from kernels_bench.commands.report import write
from kernels_bench.console.printing import draw
from kernels_bench.console.progress import display_for
from kernels_bench.console.screen import show_screen
from kernels_bench.console.terminal import console
from kernels_bench.records.cases import Device
from profiles.command_line import say
from profiles.errors import ExitStatus
from profiles.instruments.environment import differences, read_environment_with
from profiles.invocation import called, typed
from profiles.run_files.run_directory import default_directory, timestamp
from profiles.run_files.strict_json import strict_json

Tell = Callable[[str], None]
"""One line to the user, beside what was asked for."""


@dataclass(frozen=True)
class Targets:
    """What is shown and written of a run.

    Attributes:
        full: everything; else one screen.
        html: for the page with pictures; ``-`` is standard output.
        json: for the summary as JSON.
    """

    full: bool = False
    html: str | None = None
    json: str | None = None


@dataclass(frozen=True)
class WantedRun:
    """A run that is asked for.

    Attributes:
        options: what engines are given and asked.
        arms: their names; None where the device decides.
        trials: by number.
        interleave: whether the arms' engines are up together; None where memory decides.
    """

    options: Options
    arms: tuple[ArmName, ...] | None
    trials: tuple[int, ...]
    interleave: bool | None


def begin(wanted: WantedRun, out: Path | None, timeout_s: float, full: bool, tell: Tell) -> int:
    """A new run and its report.

    Args:
        wanted: the run.
        out: a new directory for it; None for one of this minute's name.
        timeout_s: seconds after which a trial has failed.
        full: whether all of it is shown.
        tell: told what the user must know beside the report.

    Returns:
        The exit status.

    Raises:
        OptionsError: there can be no such run here.
        WorkerError: no engine is installed.
        CommandError: the results cannot be written.
    """
    named = wanted.arms and _with_trials(wanted.arms, wanted.trials, tell)  # the process that says more takes seconds
    device = describe_device()
    arms = named or _with_trials(default_arms(device), wanted.trials, tell)
    if arms == ("server",):
        options, note = wanted.options.model_copy(update={"model": "the server's"}), wanted.options.server or ""
        path = ""
    else:
        check_engine(device)
        options, note = settled(wanted.options, device)
        check_room(options, arms, device)
        path = checkpoint(options.model, cache_directory(), tell)
    apart = ""
    if len(arms) > 1 and not options.interleave:
        apart = _why_apart(wanted.interleave, options, arms, device, path)
        options = options.model_copy(update={"interleave": not apart})
    manifest = Manifest(
        created=timestamp(),
        command=typed("e2e"),
        options=options,
        model=options.model,
        arms=arms,
        trials=wanted.trials,
        device=device,
        environment=read_environment_with(device.uuid, tell),
        apart=apart or None,
    )
    say(header(manifest, note))
    return _run(RunDirectory.create(out or default_directory(), manifest), path, timeout_s, full, tell)


def _with_trials(arms: tuple[ArmName, ...], trials: tuple[int, ...], tell: Tell) -> tuple[ArmName, ...]:
    """The arms that have any of the trials; one that has none would only seem to have been forgotten."""
    found = arms_with(trials, arms)
    for arm in arms:
        if arm not in found:
            told = f"--trial {trial_name(trials[0])}: {arm} answers one request at a time and has none"
            if not found:
                raise OptionsError(told)
            tell(told)
    return found


def _why_apart(interleave: bool | None, options: Options, arms: tuple[ArmName, ...], device: Device, model: str) -> str:
    """Why engines are not up together; empty where they are."""
    if interleave is False:
        return "--no-interleave"
    return why_apart(options, arms, device, model, free_memory(device))


def go_on(directory: Path, timeout_s: float, full: bool, tell: Tell) -> int:
    """What is left of a run, and its report; arguments and what is returned are those of `begin`.

    Raises:
        CommandError: the directory holds no run, or one of another environment.
        WorkerError: no engine is installed.
    """
    run_directory = RunDirectory.resume(directory)
    manifest = run_directory.manifest
    # Where another card is, or none, this one's facts are missing, which is a difference too.
    now = read_environment_with(manifest.device.uuid, tell)
    run_directory.refuse(differences(manifest.environment, now))
    path = ""
    if manifest.arms != ("server",):
        check_engine(manifest.device)
        path = checkpoint(manifest.options.model, cache_directory(), tell)
    return _run(run_directory, path, timeout_s, full, tell)


def _run(run_directory: RunDirectory, model: str, timeout_s: float, full: bool, tell: Tell) -> int:
    """All arms' trials that are left, and the report; the exit status."""
    interrupted = False
    command = shlex.join([*called("e2e"), "--resume", str(run_directory.path)])
    try:
        with display_for(console(stderr=True)) as display:
            run_all(run_directory, model, timeout_s, display, lambda text: say([text]))
    except KeyboardInterrupt:
        interrupted = True
    except SystemExit:  # a signal of others, see `CommandLine`
        tell(f"ended by a signal; go on with {command}")
        raise
    finally:
        run_directory.close()
    say([""])
    status = show(run_directory.path, Targets(full))
    if interrupted:
        tell(f"interrupted; go on with {command}")
    return ExitStatus.INTERRUPTED if interrupted else status


def show(directory: Path, targets: Targets = Targets()) -> int:
    """Write the files that are asked for, and show the run unless one of them is standard output.

    Returns:
        The run's exit status.

    Raises:
        CommandError: the directory holds no run, or a file cannot be written.
    """
    manifest, ledger = FORMAT.read_manifest(directory), read_state(FORMAT.read_records(directory))
    summary = summarise(manifest, ledger, str(directory))
    if targets.json is not None:
        write(targets.json, strict_json(summary))
    if targets.html is not None:
        from e2e.report.page import page  # the template engine is for those who want a page

        write(targets.html, page(manifest, ledger, str(directory)))
    if "-" not in (targets.html, targets.json):
        if targets.full:
            say(report(manifest, ledger, str(directory)))
        else:
            draw(console(), lambda on, signs: show_screen(screen_of(summary, manifest, ledger, signs), on))
    return summary.exit_status
