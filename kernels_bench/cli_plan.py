"""The command line of ``plan``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kernels_bench.commands import options
from kernels_bench.commands.plan import (
    USUAL_OPERATORS,
    USUAL_SIZES,
    check_against,
    check_status,
    check_words,
    exit_status,
    plan_of,
    read_plan,
    refuse_elsewhere,
    what_to_check,
)
from kernels_bench.commands.report import ReportTargets, write
from kernels_bench.commands.run.command import measure
from kernels_bench.console.errors import UsageError
from kernels_bench.device.detect import expected_gpu
from kernels_bench.plan.record import Plan
from kernels_bench.plan.weights import NAMED
from kernels_bench.plan.words import in_words
from kernels_bench.records.selection import Selection
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, refuse_several_outputs, say
from profiles.errors import ExitStatus
from profiles.invocation import typed

app = CommandLine("kernels_bench", also=(WorkerError,))

PLAN_FILE = "plan.json"
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
            help="Rows M to choose kernels at.  [default: every power of two up to 4096; on a CPU 1,4,16,64,256]",
            metavar="M,…",
        ),
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
        op=op, arm=arm, shapes=shapes, batch=batch, dtype=dtype, seed=seed, plugin=plugin, timeout=timeout
    )
    finish = partial(_finish, weighting=weights, today=today, out=out, html=html)
    if run is not None and run.exists():
        only = Selection(op=selection.op, arm=selection.arm, shapes=selection.shapes, dtype=selection.dtype)
        if selection != only.model_copy(update={"timeout_s": selection.timeout_s}):
            raise UsageError(f"--run {run}: it has measured already; leave --batch, --seed and --plugin out")
        return finish(run, only=only)
    return measure(_completed(selection), run, typed("kernels_bench"), finish)


def _completed(selection: Selection) -> Selection:
    """With the operators and the M of a plan where none were named."""
    device = "cpu" if expected_gpu() is None else "cuda"
    usual = {"op": USUAL_OPERATORS, "batch": USUAL_SIZES[device]}
    return selection.model_copy(update={key: usual[key] for key in usual if getattr(selection, key) is None})


def _finish(
    directory: Path,
    weighting: str,
    today: str,
    out: str | None,
    html: str | None,
    only: Selection = Selection(),  # noqa: B008 - immutable
) -> int:
    made = plan_of(directory, weighting, only, today)
    target = out or str(directory / PLAN_FILE)
    write(target, made.model_dump_json(indent=2))
    _show(made, html, quiet="-" in (out, html))
    if "-" not in (out, html):
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


@app.command("check")
def check(
    file: _FILE,
    force: Annotated[
        bool, typer.Option("--force", help="Check it although the device or some version is another.")
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

    return measure(
        what_to_check(made), run, typed("kernels_bench"), finish, allow=partial(refuse_elsewhere, made, force=force)
    )
