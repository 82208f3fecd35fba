"""What ``locate`` and ``replay`` do: from a command line to an engine, and back to lines, a page and a status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from e2e.checkpoints.resolve import cache_directory, checkpoint
from e2e.records import FORMAT, read_state
from e2e.report.located import exit_status, lines, replay_lines
from e2e.report.located_page import page
from e2e.report.summary import ArmSummary, summarise
from e2e.report.verdict import Divergence, worst_of
from e2e.run.run_locate import LOCATED, LOG, OTHER_LOG, locate_against, locate_in, replay, start_request
from e2e.workload.arms import check_engine, default_arms, unsupported
from e2e.workload.options import ARMS, ArmName, Options, OptionsError
from e2e.workload.other import Other
from e2e.workload.trials import has_trial, trial_named, trials_of
from kernels_bench.commands.report import write
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import Device
from profiles.command_line import say
from profiles.errors import CommandError, ExitStatus
from profiles.run_files.run_directory import default_directory
from profiles.run_files.strict_json import strict_json

PAGE = "located.html"
CAUSES = ("all", "first")


class Wanted(NamedTuple):
    """What is to be located.

    Attributes:
        arm: whose engine.
        options: what it is given.
        trials: in which, in this order.
        needle: its number; None for the first that differs.
        other: an engine that the needle alone is compared with; None where it is compared with itself in company.
    """

    arm: ArmName
    options: Options
    trials: tuple[int, ...]
    needle: int | None
    other: Other | None = None

    @property
    def arms(self) -> tuple[ArmName, ...]:
        """Of all engines."""
        return (self.arm,) if self.other is None or self.other.arm is None else (self.arm, self.other.arm)


def wanted_of_run(directory: Path, arm: str | None, changed: Mapping[str, Any]) -> Wanted:
    """The gravest divergence of a run.

    Args:
        directory: the run's.
        arm: the only one that counts; None for all.
        changed: options that are to be others than the run's.

    Raises:
        CommandError: there is none in it, or none that company could explain.
        ResultsError: the directory holds no run.
    """
    manifest, ledger = FORMAT.read_manifest(directory), read_state(FORMAT.read_records(directory))
    summary = summarise(manifest, ledger, str(directory))
    found = [(one, _in_company(one)) for one in summary.arms if arm in (None, one.arm)]
    differing = [(one.arm, divergence) for one, divergence in found if divergence is not None]
    if not differing:
        raise CommandError(
            f"{directory}: no needle's bits differ in company{f' in {arm}' if arm else ''}, so that there is nothing "
            "to be located",
            ExitStatus.GOOD if found and all(one.state == "invariant" for one, _ in found) else ExitStatus.INCOMPLETE,
        )
    name, gravest = differing[-1]  # whose needles must not change come after the baseline
    assert gravest.trial is not None
    options = manifest.options.model_copy(update=dict(changed))
    return Wanted(name, options, (gravest.trial,), gravest.needle)


def _in_company(arm: ArmSummary) -> Divergence | None:
    found = [] if arm.needles is None else [one for one in arm.needles.divergences if one.trial is not None]
    return worst_of(found) if found else None


def wanted_of_words(options: Options, arm: str | None, trial: str | None, needle: int | None, device: Device) -> Wanted:
    """What the command line names.

    Raises:
        OptionsError: a name or a number that there is not.
    """
    if arm is not None and arm not in ARMS:
        raise OptionsError(f"--arm {arm}: unknown{suggestion(arm, ARMS)}")
    chosen: ArmName = next(one for one in ARMS if one == (arm or default_arms(device)[0]))
    if needle is not None and not 1 <= needle <= options.needles:
        raise OptionsError(f"--needle {needle}: expected 1 to {options.needles}, the number of needles")
    trials = trials_of(options) if trial is None else (trial_named(trial),)
    if not set(trials) <= set(trials_of(options)):
        raise OptionsError(f"--trial {trial}: expected 1 to --num-trials {options.num_trials}, or staggered")
    return Wanted(chosen, options, trials, None if needle is None else needle - 1)


def refuse_unsupported(wanted: Wanted, device: Device) -> None:
    """See that what is asked for can be looked into.

    Raises:
        OptionsError: it cannot, or not yet.
    """
    options = wanted.options
    rules = (
        (
            wanted.arm not in ("serial", "server"),
            f"--arm {wanted.arm}: its needles have no company that could be looked into; expected baseline, "
            "batch-invariant or planned",
        ),
        (options.mode == "offline", "--mode online: not supported yet; only an engine as a library is looked into"),
        (
            options.tp_size == 1 or wanted.other is None,
            f"--tp-size {options.tp_size}: with --against the first engine is on one GPU; the other may be tp=N",
        ),
        (
            not options.prefix_caching,
            "--prefix-caching: not supported yet; of what is taken from the cache nothing is computed",
        ),
        (
            options.eager or wanted.other is None,
            "--eager is needed with --against: of a compiled model only the parts between its attention are seen",
        ),
        (all(has_trial(wanted.arm, one) for one in wanted.trials), f"{wanted.arm} has no such trial"),
    )
    for holds, message in rules:
        if not holds:
            raise OptionsError(message)
    if reason := unsupported(wanted.arm, device):
        raise OptionsError(f"--arm {wanted.arm}: {reason}")


def directory_for(run: Path | None, out: Path | None) -> Path:
    """A new directory for what is found.

    Raises:
        CommandError: it cannot be made, or is not empty.
    """
    path = out or (default_directory() if run is None else _next(run / "located"))
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise CommandError(f"--out {path}: there is something in it; name a new directory")
    except OSError as error:
        raise CommandError(f"cannot write to {path}: {error.strerror}", ExitStatus.INCOMPLETE) from error
    return path


def _next(stem: Path) -> Path:
    numbered = (stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000)))
    return next(path for path in numbered if not path.exists())


def locate(
    wanted: Wanted, directory: Path, all_causes: bool, timeout_s: float, device: Device, tell: Callable[[str], None]
) -> int:
    """Look into an engine; say, write and keep what was found.

    Returns:
        The exit status.

    Raises:
        WorkerError: the engine does not start, dies, or cannot be looked into.
    """
    check_engine(device)
    path = checkpoint(wanted.options.model, cache_directory(), tell)
    start = start_request(wanted.arm, path, wanted.options, device)
    if wanted.other is not None:
        asked = (wanted.other, wanted.needle, all_causes)
        found = locate_against(directory, start, device, asked, timeout_s, tell)
    else:
        found = locate_in(directory, start, device, (wanted.trials, wanted.needle, all_causes), timeout_s, tell)
    say(lines(found, str(directory)))  # before files are written, for which there may be no room
    write(str(directory / LOCATED), strict_json(found))
    write(str(directory / PAGE), page(found, str(directory)))
    logs = LOG if wanted.other is None else f"{LOG}, {OTHER_LOG}"
    say([f"  kept in:    {directory} ({LOCATED}, {PAGE}, {logs})"])
    return exit_status(found)


def run_again(file: Path, timeout_s: float) -> int:
    """``replay``: a saved call alone.

    Returns:
        The exit status.

    Raises:
        CommandError: there is no such file.
    """
    if not file.is_file():
        raise CommandError(f"{file}: there is no such file")
    found = replay(file, timeout_s)
    say(replay_lines(found))
    if found.reason:
        return ExitStatus.INCOMPLETE
    return ExitStatus.GOOD if found.same is None else ExitStatus.VERDICT
