"""The command line of ``plan``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

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
from kernels_bench.plan.weights import NAMED, weights_of
from kernels_bench.plan.words import in_words
from kernels_bench.records.manifest import read_manifest
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.selection import Selection
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, refuse_several_outputs, say, warn
from profiles.errors import ExitStatus
from profiles.invocation import typed

app = CommandLine("kernels_bench", also=(WorkerError,))

_MOST_SECONDS = 1e6
_WEIGHTS = f'How much each M counts: {", ".join(NAMED)}, or a JSON file such as {{"1": 3, "16": 1}}.'
_FILE = Annotated[Path, typer.Argument(help="A plan's file.", metavar="FILE")]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    op: Annotated[str | None, typer.Option(help=f"{options.OP}  [default: linear]", metavar="NAMES")] = None,
    arm: Annotated[str | None, typer.Option(help=options.ARM, metavar="NAMES")] = None,
    shapes: Annotated[str | None, typer.Option(help=options.SHAPES, metavar="NAMES|N,K")] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Rows M to choose kernels at.  [default: every power of two up to 4096; on a CPU 1,4,16,64,256; of "
            "sequences as many as a run times]",
            metavar="M,…",
        ),
    ] = None,
    length: Annotated[
        str | None,
        typer.Option(help="Attention: tokens of every sequence.  [default: as a run times]", metavar="N,…"),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help=options.DTYPE, metavar="NAMES")] = None,
    weights: Annotated[str, typer.Option(help=_WEIGHTS, metavar="NAME|FILE")] = "even",
    today: Annotated[
        str,
        typer.Option(
            help="The arm whose kernels you use now: the plan is compared with them too.  [default: none]",
            metavar="ARM",
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds, about, for the search among arms' candidates: all are timed roughly, the fastest verified "
            "and timed. 0 leaves out all but those that --arm names.  [default: 240; on a CPU 20]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all data.")] = 0,
    plugin: Annotated[list[str] | None, typer.Option(help=options.PLUGIN, metavar="FILE")] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="New directory for what is measured, or that of a run to choose from, of which nothing is measured "
            "again: --op, --arm, --shapes and --dtype name its parts.  [default: samebits-runs/DATE]",
            metavar="DIR",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with a plan that was interrupted, in its directory.", metavar="DIR"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Write the plan as JSON (- for standard output).  [default: DIR/plan.json]", metavar="FILE"),
    ] = None,
    html: options.Html = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which a case has failed.")] = 60.0,
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
        length=length, budget_s=_seconds(budget),
    )  # fmt: skip
    finish = partial(_finish, weighting=weights, today=today, out=out, html=html)
    # What goes on with it must not choose by other weights than were asked for.
    go_on = ("plan", *(() if weights == "even" else ("--weights", weights)), *(("--today", today) if today else ()))
    if resume is not None:
        weights_of(weights, read_manifest(resume).selection.batch or USUAL_SIZES["cpu"])
        typed_now = selection.model_copy(update={"timeout_s": Selection().timeout_s})
        return resume_run(resume, typed_now, run, finish, go_on=go_on)
    if run is not None and run.exists():
        only = Selection(op=selection.op, arm=selection.arm, shapes=selection.shapes, dtype=selection.dtype)
        if selection != only.model_copy(update={"timeout_s": selection.timeout_s}):
            raise UsageError(
                f"--run {run}: it has measured already; leave --batch, --length, --budget, --seed and --plugin out"
            )
        return finish(run, only=only)
    selection = _completed(selection)
    # A mistake in a word is told before anything is measured.
    weights_of(weights, selection.batch or USUAL_SIZES["cpu"])
    checks = Checks(planned=partial(refuse_unmeasured, today))
    return measure(selection, run, typed("kernels_bench"), finish, checks=checks, go_on=go_on)


def _seconds(budget: float | None) -> float | None:
    if budget is not None and not 0 <= budget < _MOST_SECONDS:
        raise UsageError(f"--budget {budget:g}: expected seconds from 0 on, below {_MOST_SECONDS:,.0f}")
    return budget


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
def show(file: _FILE, html: options.Html = None) -> int:
    """Show a plan again.

    Exit status: 0 every case has a kernel; 2 the file is no plan; 3 some case has none.
    """
    made = read_plan(file)
    _show(made, html, quiet=html == "-")
    return exit_status(made)


@app.command("export")
def export(
    file: _FILE,
    to: Annotated[
        str, typer.Option(help="Whose table: vllm, of 0.33's batch-invariant GEMM; samebits, of its own arm.")
    ] = "vllm",
    out: Annotated[
        str, typer.Option(help="Write the table (samebits' as JSON) to a file (- for standard output).", metavar="FILE")
    ] = "-",
    proof: Annotated[
        str | None,
        typer.Option(
            help="Write what is proven of it as JSON.  [default: beside the table, FILE.proof.json]", metavar="FILE"
        ),
    ] = None,
) -> int:
    """Write a plan as a table of tiles: vLLM's, with what is proven of its bits beside it, or samebits' own.

    Exit status: 0 some shape is in it; 2 the file is no plan; 3 the table can say none of the plan's shapes.
    """
    return export_plan(file, to, out, proof)


@app.command("check")
def check(
    file: _FILE,
    force: Annotated[
        bool,
        typer.Option("--force", help="Check it although the device, a version, our kernels or a variable is another."),
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(help="New directory for what is measured.  [default: samebits-runs/DATE]", metavar="DIR"),
    ] = None,
) -> int:
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
