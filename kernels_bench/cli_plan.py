"""The command line of ``plan``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import typer

from kernels_bench.commands import options
from kernels_bench.commands.plan import (
    USUAL_BUDGET_S,
    USUAL_OPERATORS,
    USUAL_SIZES,
    check_against,
    check_status,
    check_words,
    exit_status,
    export_plan,
    missing,
    plan_of,
    refuse_elsewhere,
    refuse_unmeasured,
    usual_lengths,
    usual_sizes,
    what_to_check,
)
from kernels_bench.commands.report import ReportTargets, write
from kernels_bench.commands.run.command import Checks, measure, resume_run
from kernels_bench.console.errors import UsageError
from kernels_bench.device.detect import expected_gpu
from kernels_bench.plan.file import PLAN_FILE, read_plan
from kernels_bench.plan.record import Plan
from kernels_bench.plan.weights import weights_of
from kernels_bench.plan.words import in_words
from kernels_bench.records.manifest import read_manifest
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.selection import Selection
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, refuse_several_outputs, say, warn
from profiles.errors import ExitStatus
from profiles.invocation import typed

app = CommandLine("kernels_bench", also=(WorkerError,))


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    op: options.plan.Operators = None,
    arm: options.shared.Arms = None,
    shapes: options.shared.Shapes = None,
    batch: options.plan.Batch = None,
    length: options.plan.Length = None,
    dtype: options.shared.Dtypes = None,
    weights: options.plan.Weights = "even",
    today: options.plan.Today = "",
    budget: options.plan.Budget = None,
    seed: options.shared.Seed = 0,
    plugin: options.shared.Plugins = None,
    run: options.plan.Run = None,
    resume: options.plan.Resume = None,
    out: options.plan.Out = None,
    html: options.shared.Html = None,
    timeout: options.shared.CaseTimeout = 60.0,
) -> int:
    """Tell which kernel to use at which M.

    The fastest ones of those that have the same bits at every M.

    Exit status: 0 every case has one; 2 the command line is wrong; 3 some case has none, or could not be measured.
    """
    if context.invoked_subcommand is not None:
        return ExitStatus.GOOD
    refuse_several_outputs(out=out, html=html)
    ReportTargets(json=out, html=html).refuse_unwritable()
    selection = options.selection_of(
        op=op, arm=arm, shapes=shapes, batch=batch, dtype=dtype, seed=seed, plugin=plugin, timeout=timeout,
        length=length, budget_s=options.plan.budget_s(budget),
    )  # fmt: skip
    finish = partial(_finish, weighting=weights, today=today, out=out, html=html)
    # What goes on with it must not choose by other weights than were asked for.
    go_on = ("plan", *(() if weights == "even" else ("--weights", weights)), *(("--today", today) if today else ()))
    if resume is not None:
        weights_of(weights, read_manifest(resume).selection.batch or USUAL_SIZES["cpu"])
        typed_now = selection.model_copy(update={"timeout_s": Selection().timeout_s})
        return resume_run(resume, typed_now, run, finish, go_on=go_on)
    if run is not None and run.exists():
        return finish(run, only=_parts_of(run, selection))
    selection = _completed(selection)
    # A mistake in a word is told before anything is measured.
    weights_of(weights, selection.batch or USUAL_SIZES["cpu"])
    checks = Checks(planned=partial(refuse_unmeasured, today))
    return measure(selection, run, typed("kernels_bench"), finish, checks=checks, go_on=go_on)


def _parts_of(run: Path, selection: Selection) -> Selection:
    """The parts that were named of a run that has measured already.

    Raises:
        UsageError: something else was asked for, too.
    """
    parts = Selection(op=selection.op, arm=selection.arm, shapes=selection.shapes, dtype=selection.dtype)
    if selection != parts.model_copy(update={"timeout_s": selection.timeout_s}):
        raise UsageError(
            f"--run {run}: it has measured already; leave --batch, --length, --budget, --seed and --plugin out"
        )
    return parts


def _completed(selection: Selection) -> Selection:
    """With the operators and the M of a plan where none were named."""
    device: Literal["cpu", "cuda"] = "cpu" if expected_gpu() is None else "cuda"
    names = selection.op or USUAL_OPERATORS
    usual = {
        "op": names,
        "batch": usual_sizes(names, device) if selection.batch is None else None,
        "length": usual_lengths(names, device),
        "budget_s": USUAL_BUDGET_S[device],
    }
    return selection.model_copy(update={key: usual[key] for key in usual if getattr(selection, key) is None})


def _finish(
    directory: Path,
    weighting: str,
    today: str,
    out: str | None,
    html: str | None,
    only: Selection = Selection(),  # noqa: B008 - immutable
) -> int:
    """Make the plan of what was measured, write and show it; the exit status."""
    if lacking := missing(directory):
        chosen_by = {"weights": None if weighting == "even" else weighting, "today": today or None}
        go_on = command_line("plan", options={"resume": str(directory), **chosen_by})
        warn("kernels_bench", f"{lacking} measurements are missing, and what they would tell; go on with {go_on}")
    made = plan_of(directory, weighting, only, today)
    target = out or str(directory / PLAN_FILE)
    if not (quiet := "-" in (out, html)):
        say(in_words(made))  # before files are written, for which there may be no room
    write(target, made.model_dump_json(indent=2))
    _show(made, html, quiet=True)
    if not quiet:
        say([f"the plan: {target}"])
    return exit_status(made)


def _show(made: Plan, html: str | None, quiet: bool) -> None:
    if html is not None:
        from kernels_bench.plan.page import plan_page  # the template engine is for those who want a page

        write(html, plan_page(made))
    if not quiet:
        say(in_words(made))


@app.command("show")
def show(file: options.plan.File, html: options.shared.Html = None) -> int:
    """Show a plan again.

    Exit status: 0 every case has a kernel; 2 the file is no plan; 3 some case has none.
    """
    made = read_plan(file)
    _show(made, html, quiet=html == "-")
    return exit_status(made)


@app.command("export")
def export(
    file: options.plan.File,
    to: options.plan.ExportTo = "vllm",
    out: options.plan.ExportOut = "-",
    proof: options.plan.Proof = None,
) -> int:
    """Write a plan as a table of tiles: vLLM's, with what is proven of its bits beside it, or samebits' own.

    Exit status: 0 some shape is in it; 2 the file is no plan; 3 the table can say none of the plan's shapes.
    """
    return export_plan(file, to, out, proof)


@app.command("check")
def check(file: options.plan.File, force: options.plan.Force = False, run: options.plan.CheckRun = None) -> int:
    """See whether a plan's kernels still have the bits that it says.

    Exit status: 0 they do; 1 some have others; 2 the plan is none, or was made elsewhere; 3 some could not be seen.
    """
    made = read_plan(file)

    def finish(directory: Path) -> int:
        found = check_against(made, directory)
        say(check_words(found))
        return check_status(found)

    checks = Checks(here=partial(refuse_elsewhere, made, force=force))
    return measure(what_to_check(made), run, typed("kernels_bench"), finish, checks=checks)
