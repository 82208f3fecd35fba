"""The command line.  Options are read here and turned into a `Selection`; nothing is measured here."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from kernels_bench import cli_plan
from kernels_bench.commands import options
from kernels_bench.commands.compare_runs.comparison import compare_runs, refuse_same
from kernels_bench.commands.compare_runs.gate import USUALLY, in_words, judgement, read_gate
from kernels_bench.commands.compare_runs.gate import exit_status as gate_status
from kernels_bench.commands.compare_runs.history import history
from kernels_bench.commands.compare_runs.history import in_words as history_words
from kernels_bench.commands.order import draw, read_cases
from kernels_bench.commands.order import exit_status as order_status
from kernels_bench.commands.order import in_words as order_words
from kernels_bench.commands.published import published_schema
from kernels_bench.commands.recheck import exit_status as recheck_status
from kernels_bench.commands.recheck import in_words as recheck_words
from kernels_bench.commands.recheck import recheck
from kernels_bench.commands.report import ReportTargets, report, write
from kernels_bench.commands.reproduce import reproduce_one
from kernels_bench.commands.run.command import reporting, resume_run, start_run
from kernels_bench.commands.workload import narrowed
from kernels_bench.console.errors import timeout_of
from kernels_bench.console.printing import fitted
from kernels_bench.console.progress import display_for
from kernels_bench.console.terminal import console
from kernels_bench.device.triton_interpreter import treat_rows_alike
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import Comparison
from kernels_bench.report.catalogue_table import print_catalogue
from kernels_bench.report.terminal.render import Shown
from kernels_bench.workers.ask_catalogue import catalogue_of
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, Version, refuse_several_outputs, say
from profiles.errors import ExitStatus
from profiles.invocation import typed
from profiles.run_files.strict_json import strict_json

app = CommandLine("kernels_bench", also=(WorkerError,))
app.add_typer(cli_plan.app, name="plan")


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    op: options.run.Operators = None,
    arm: options.shared.Arms = None,
    shapes: options.shared.Shapes = None,
    batch: options.run.Batch = None,
    length: options.run.Length = None,
    dtype: options.shared.Dtypes = None,
    relation: options.run.Relations = None,
    partial: options.run.Partial = False,
    quick: options.run.Quick = False,
    verify_only: options.run.VerifyOnly = False,
    time_only: options.run.TimeOnly = False,
    seed: options.shared.Seed = 0,
    plugin: options.shared.Plugins = None,
    out: options.run.Out = None,
    resume: options.run.Resume = None,
    json: options.shared.Json = None,
    markdown: options.shared.Markdown = None,
    html: options.shared.Html = None,
    junit: options.shared.Junit = None,
    github: options.shared.Github = False,
    timeout: options.shared.CaseTimeout = 60.0,
    replay: options.run.Replay = False,
    list_: options.run.List = False,
    version: Version = False,
) -> int:
    """Time batch-invariant LLM kernels against the default ones, and check them bit for bit.

    Exit status: 0 every arm that claims batch invariance kept it; 1 one did not, or a result is wrong; 2 the command
    line is wrong; 3 something could not be measured, or was left out without --partial.
    """
    if context.invoked_subcommand is not None:
        return ExitStatus.GOOD
    targets = _targets(json, markdown, html, junit, github)
    selection = options.selection_of(
        op=op, arm=arm, shapes=shapes, batch=batch, length=length, dtype=dtype, seed=seed, plugin=plugin,
        timeout=timeout, relation=options.words("relation", relation), partial=partial, quick=quick,
        only=options.run.only_of(verify_only, time_only),
    )  # fmt: skip
    targets.refuse_unwritable()
    if list_:
        print_catalogue(narrowed(catalogue_of(selection), selection), console())
        return ExitStatus.GOOD
    return _measure(selection, resume, out, targets, replay)


def _targets(
    json: str | None, markdown: str | None, html: str | None, junit: str | None, github: bool, into: str | None = None
) -> ReportTargets:
    refuse_several_outputs(json=json, markdown=markdown, html=html, junit=junit)
    return ReportTargets(json=json, markdown=markdown, html=html, into=into, junit=junit, github=github)


def _measure(selection: Selection, resume: Path | None, out: Path | None, targets: ReportTargets, again: bool) -> int:
    if resume is not None:
        return resume_run(resume, selection, out, reporting(targets), again)
    return start_run(selection, out, typed("kernels_bench"), targets, again)


@app.command()
def reproduce(
    op: options.reproduce.Operator,
    arm: options.reproduce.Arm,
    shape: options.reproduce.Shape,
    reference: options.reproduce.Reference,
    company: options.reproduce.Company,
    dtype: options.reproduce.Dtype = "bf16",
    launch: options.reproduce.HowLaunched = "eager",
    before: options.reproduce.Before = None,
    relation: options.reproduce.Relation = "batch_size",
    seed: options.shared.Seed = 0,
    universe: options.reproduce.Universe = 4096,
    length: options.reproduce.Length = None,
    plugin: options.reproduce.Plugin = None,
    timeout: options.reproduce.Timeout = 120.0,
) -> int:
    """Compare two batches alone.

    A counterexample's command calls this.  Exit status: 0 their bits agree; 1 they differ; 2 the command line is
    wrong; 3 they could not be compared.
    """
    selection = Selection(
        op=(op,),
        arm=(arm,),
        shapes=(shape,),
        dtype=(dtype,),
        length=options.numbers("length", length),
        relation=(relation,),
        seed=options.sown(seed),
        plugin=options.plugins([plugin] if plugin else None),
        timeout_s=timeout_of(timeout),
    )
    comparison = Comparison(
        reference, company, options.reproduce.launch_of(launch), options.reproduce.before_of(before)
    )
    found = reproduce_one(selection, universe, comparison, console())
    return ExitStatus.VERDICT if found else ExitStatus.GOOD


@app.command("order")
def order_command(
    op: options.order.Operators,
    arm: options.shared.Arms = None,
    shapes: options.shared.Shapes = None,
    batch: options.order.Batch = None,
    length: options.order.Length = None,
    dtype: options.shared.Dtypes = None,
    seed: options.order.Seed = 0,
    plugin: options.shared.Plugins = None,
    svg: options.order.Svg = None,
    json: options.order.Json = None,
    timeout: options.order.Timeout = 60.0,
) -> int:
    """Read out in which order kernels add.

    It is read at every M, and told whether it is always the same.

    Exit status: 0 it is; 1 it depends on M; 2 the command line is wrong; 3 some order could not be read.
    """
    selection = options.selection_of(
        op=op, arm=arm, shapes=shapes, batch=batch, length=length, dtype=dtype, seed=seed, plugin=plugin,
        timeout=timeout,
    )  # fmt: skip
    with display_for(console(stderr=True)) as display:
        found, scope = read_cases(selection, svg is not None, display)
    if json != "-":
        say(order_words(found, scope))
    if svg is not None:
        say(f"drawn: {path}" for path in draw(found, svg))
    if json is not None:
        write(json, json_module.dumps([one.model_dump(mode="json", exclude={"read": {"pictures"}}) for one in found]))
    return order_status(found)


@app.command("faults")
def faults_command(
    fault: Annotated[str | None, typer.Option(help="Faults, comma-separated.  [default: all]", metavar="NAMES")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from --seed on.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    json: Annotated[
        str | None, typer.Option(help="Write the scores as JSON (- for standard output).", metavar="FILE")
    ] = None,
) -> int:
    """Run the detector over planted faults.

    Exit status: 0 every fault was flagged and no control; 1 otherwise; 2 the command line is wrong.
    """
    from kernels_bench.faults import run_all, score_in_words  # they import torch, which a run's parent need not

    with display_for(console(stderr=True)) as display:
        scores = run_all(options.words("fault", fault), range(options.sown(seed), seed + seeds), display)
    if json is not None:
        write(json, json_module.dumps([one.model_dump() for one in scores]))
    if json != "-":
        say(score_in_words(scores))
    return ExitStatus.GOOD if all(one.right for one in scores) else ExitStatus.VERDICT


@app.command("report")
def report_command(
    directory: options.shared.RunDirectory,
    json: options.shared.Json = None,
    markdown: options.shared.Markdown = None,
    html: options.shared.Html = None,
    junit: options.shared.Junit = None,
    github: options.shared.Github = False,
    into: Annotated[
        str | None,
        typer.Option(
            help="Draw one small table between the lines <!-- table NAME: begin --> and <!-- table NAME: end --> of "
            "this document; NAME is the run directory's.",
            metavar="FILE",
        ),
    ] = None,
    op: Annotated[
        str | None,
        typer.Option("--op", help="Operators to show in full, with commas.  [default: one screen]", metavar="NAMES"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show everything; else a run of several on one screen.")] = False,
) -> int:
    """Draw the tables of a run again.

    Here or on another machine. Exit status: as that of the run; 2 the directory is no run; 3 a file cannot be written.
    """
    targets = _targets(json, markdown, html, junit, github, into)
    return report(directory, targets, Shown(full, tuple(options.words("op", op) or ())))


@app.command("compare")
def compare_command(
    first: options.shared.RunDirectory,
    second: Annotated[Path, typer.Argument(help="Another one.")],
    worst: Annotated[int, typer.Option(help="How many of the largest changes to show.")] = 5,
    fail_on: Annotated[
        str,
        typer.Option(
            help="What gives status 1: verdict-worse, variant, missing, bits, slower=N%; or none.", metavar="LIST"
        ),
    ] = USUALLY,
    across: Annotated[bool, typer.Option("--across", help="Judge speed across cards, drivers and versions.")] = False,
    json: options.shared.Json = None,
    html: options.shared.Html = None,
) -> int:
    """Say whether a second run may replace a first one.

    Compared are verdicts, cases, bits and, on one card with the same driver, versions and settings, speed: each case is
    slow, fast, same or unsure.
    Exit status: 0 nothing that --fail-on names was found; 1 some was; 3 something it names cannot be judged, no case
    was verified in both, or a file cannot be written.
    """
    refuse_several_outputs(json=json, html=html)
    gate = read_gate(fail_on)
    refuse_same(first, second)
    found = compare_runs(first, second, across)
    if json is not None:
        write(json, strict_json(judgement(found, gate, first, second)))
    if html is not None:
        from kernels_bench.commands.compare_runs.page import compare_page  # the template engine is for who wants a page

        write(html, compare_page(found, gate, first, second))
    if "-" not in (json, html):
        say(fitted(in_words(found, gate, max(0, worst)), console().width))
    return gate_status(found, gate)


@app.command("history")
def history_command(
    directories: Annotated[list[Path], typer.Argument(help="Run directories, in any order.", metavar="DIR…")],
    json: options.shared.Json = None,
    html: options.shared.Html = None,
) -> int:
    """Show many runs over time, and what changed from each to the next.

    Exit status: 0 whatever changed; 2 a directory is no run; 3 a file cannot be written.
    """
    refuse_several_outputs(json=json, html=html)
    entries = history(directories)
    if json is not None:
        write(json, strict_json(entries))
    if html is not None:
        from kernels_bench.commands.compare_runs.history_page import history_page  # as for a comparison's page

        write(html, history_page(entries))
    if "-" not in (json, html):
        say(fitted(history_words(entries, console().width), console().width))
    return ExitStatus.GOOD


@app.command("recheck")
def recheck_command(
    directory: options.shared.RunDirectory,
    arm: Annotated[
        str | None, typer.Option(help="Arms of the run, comma-separated.  [default: all]", metavar="NAMES")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each counterexample.")] = 120.0,
) -> int:
    """Make every counterexample of a run again.

    Each arm's in a fresh process.

    Exit status: 0 all came out the same; 1 one came out otherwise; 3 one could not be tried.
    """
    with display_for(console(stderr=True)) as display:
        found = recheck(directory, options.words("arm", arm), timeout_of(timeout), display)
    say(recheck_words(found))
    return recheck_status(found)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of all JSON that is written.

    A run's files, a plan, and what report, compare and history write with --json.
    """
    print(json_module.dumps(published_schema(), indent=2))


def main() -> NoReturn:
    """Entry point."""
    treat_rows_alike()
    app.main()
