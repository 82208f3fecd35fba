"""The command line of ``python -m e2e``.  Options are read here; nothing is measured here."""

from __future__ import annotations

import inspect
import json as json_module
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from e2e.checkpoints.resolve import DEFAULT, EMBEDDED, cache_directory, checkpoint
from e2e.cli_locate import (
    CAUSES,
    directory_for,
    locate,
    refuse_unsupported,
    run_again,
    wanted_of_run,
    wanted_of_words,
)
from e2e.cli_options import arms_of, given, option, options_of, settled, trials_asked, with_plan
from e2e.cli_tp_sizes import arm_of, compare_sizes, sizes_of
from e2e.locate.records import Located
from e2e.records import FORMAT, Manifest, RunDirectory, TpSizes, read_state
from e2e.report.screen import screen_of
from e2e.report.summary import EngineSummary, summarise
from e2e.report.text import header, report
from e2e.run.processes import describe_device
from e2e.run.run_arms import run_all
from e2e.workload.arms import check_engine, check_room, default_arms
from e2e.workload.options import ArmName, Options, OptionsError
from e2e.workload.other import read_other
from e2e.workload.room import free_memory, why_apart
from e2e.workload.trials import arms_with, trial_name
from kernels_bench.commands.report import write
from kernels_bench.console.errors import timeout_of
from kernels_bench.console.printing import draw
from kernels_bench.console.progress import display_for
from kernels_bench.console.screen import show_screen
from kernels_bench.console.terminal import console
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, Version, refuse_several_outputs, say
from profiles.errors import ExitStatus
from profiles.instruments.environment import differences, read_environment_with
from profiles.invocation import called, typed
from profiles.run_files.published_schema import described
from profiles.run_files.run_directory import default_directory, timestamp
from profiles.run_files.strict_json import strict_json

# Engines leave files in the temporary directory, which go when the process ends in order.
app = CommandLine("e2e", also=(WorkerError,), end_in_order=(signal.SIGTERM, signal.SIGHUP))


Full = Annotated[
    bool, typer.Option("--full", help="Show everything, in the form and with the labels of vLLM's script.")
]


@dataclass(frozen=True)
class _Targets:
    """What is shown and written of a run.

    Attributes:
        full: everything; else one screen.
        html: for the page with pictures; ``-`` is standard output.
        json: for the summary as JSON.
    """

    full: bool = False
    html: str | None = None
    json: str | None = None


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    model: Annotated[
        str | None,
        option(
            "model",
            "A name or path that vLLM takes, smollm2, or synthetic:PRESET.",
            f"{DEFAULT}, or {EMBEDDED} where that is neither cached nor reachable",
        ),
    ] = None,
    tp_size: Annotated[int | None, option("tp_size", "GPUs that share the model.")] = None,
    batch_size: Annotated[int | None, option("batch_size", "Sequences in a batch, at most.")] = None,
    num_trials: Annotated[int | None, option("num_trials", "Trials that are timed.")] = None,
    min_prompt: Annotated[int | None, option("min_prompt", "Fewest tokens of a filler's prompt.")] = None,
    max_prompt: Annotated[int | None, option("max_prompt", "Most tokens of a filler's prompt.")] = None,
    max_tokens: Annotated[int | None, option("max_tokens", "Tokens generated for every prompt.")] = None,
    temperature: Annotated[float | None, option("temperature", "Of sampling; 0 is greedy.")] = None,
    gpu_memory_utilization: Annotated[
        float | None, option("gpu_memory_utilization", "Share of the GPU's memory that an engine takes.")
    ] = None,
    max_model_len: Annotated[
        int | None, option("max_model_len", "Most tokens of a sequence, prompt and answer.")
    ] = None,
    backend: Annotated[
        str | None,
        option("backend", "vLLM's attention backend.", f"{Options().backend}; on a CPU vLLM's only one"),
    ] = None,
    seed: Annotated[int | None, option("seed", "Of prompts, batches and places.")] = None,
    needles: Annotated[
        int | None,
        option("needles", "Sequences compared in every trial.", "a quarter of a batch, at least 1 and at most 8"),
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="No compilation, no CUDA graphs.")] = False,
    prefix_caching: Annotated[bool, typer.Option("--prefix-caching", help="Reuse the cache of prefixes.")] = False,
    chunked_prefill: Annotated[
        bool | None, option("chunked_prefill", "Whether long prefills are cut.", "vLLM's own choice")
    ] = None,
    stop_at_eos: Annotated[
        bool, typer.Option("--stop-at-eos", help="Let answers end early; without it, all have --max-tokens.")
    ] = False,
    mode: Annotated[str | None, option("mode", "offline (a library) or online (a server on loopback).")] = None,
    server: Annotated[
        str | None, typer.Option(help="Check the server that listens at this URL already.", metavar="URL")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="baseline, batch-invariant, planned, serial, server; comma-separated.  [default: "
            "baseline,batch-invariant; on a CPU baseline,serial; with --server server]",
            metavar="NAMES",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Of the arm planned: a plan's file, made by kernels_bench plan, or default: each shape has one kernel "
            "at every M.  [default: default]",
            metavar="FILE",
        ),
    ] = None,
    interleave: Annotated[
        bool | None,
        typer.Option(
            "--interleave/--no-interleave",
            help="All arms' engines together, each trial in turn; else one arm after the other.  [default: together "
            "where memory is known to suffice]",
        ),
    ] = None,
    gpu_time: Annotated[
        bool,
        typer.Option("--gpu-time", help="Also the time in which the GPU computes: each trial once more, recorded."),
    ] = False,
    trial: Annotated[
        str | None,
        typer.Option(help="Run this trial alone: its number, or staggered.  [default: all]", metavar="TRIAL"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New directory for the results.  [default: samebits-runs/DATE]", metavar="DIR")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory.", metavar="DIR")] = None,
    full: Full = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which a trial, or --server, has failed.")] = 1800.0,
    version: Version = False,
) -> int:
    """Measure what batch invariance costs in vLLM, and whether a needle's bits depend on its batch.

    The upstream script's variables, such as VLLM_BENCH_BATCH_SIZE, count where their flag is not given.

    Exit status: 0 every arm but the baseline kept the needles' bits; 1 one did not; 2 the command line is wrong;
    3 something could not be measured or decided.
    """
    if context.invoked_subcommand is not None:
        return ExitStatus.GOOD
    flags = given(locals())
    timeout_s = timeout_of(timeout)
    if resume is not None:
        _refuse_others(context, resume)
        return _go_on(resume, timeout_s, full)
    options = options_of(flags)
    chosen = arms_of(arms, options)
    return _begin(with_plan(options, chosen), chosen, trials_asked(trial, options), interleave, out, timeout_s, full)


def _refuse_others(context: typer.Context, resume: Path) -> None:
    """Only --resume, --timeout and --full may stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if given - {"resume", "timeout", "full"}:
        raise OptionsError(f"--resume {resume} takes its options from the run itself; leave the others out")


def _with_trials(arms: tuple[ArmName, ...], trials: tuple[int, ...]) -> tuple[ArmName, ...]:
    """The arms that have any of the trials; one that has none would only seem to have been forgotten."""
    found = arms_with(trials, arms)
    for arm in arms:
        if arm not in found:
            told = f"--trial {trial_name(trials[0])}: {arm} answers one request at a time and has none"
            if not found:
                raise OptionsError(told)
            app.warn(told)
    return found


def _begin(
    options: Options,
    arms: tuple[ArmName, ...] | None,
    trials: tuple[int, ...],
    interleave: bool | None,
    out: Path | None,
    timeout_s: float,
    full: bool,
) -> int:
    device = describe_device()
    arms = _with_trials(arms or default_arms(device), trials)
    if arms == ("server",):
        options, note, path = options.model_copy(update={"model": "the server's"}), options.server or "", ""
    else:
        check_engine(device)
        options, note = settled(options, device)
        check_room(options, arms, device)
        path = checkpoint(options.model, cache_directory(), app.warn)
    apart = ""
    if len(arms) > 1 and not options.interleave:
        unwanted = interleave is False
        apart = "--no-interleave" if unwanted else why_apart(options, arms, device, path, free_memory(device))
        options = options.model_copy(update={"interleave": not apart})
    manifest = Manifest(
        created=timestamp(),
        command=typed("e2e"),
        options=options,
        model=options.model,
        arms=arms,
        trials=trials,
        device=device,
        environment=read_environment_with(device.uuid, app.warn),
        apart=apart or None,
    )
    say(header(manifest, note))
    return _run(RunDirectory.create(out or default_directory(), manifest), path, timeout_s, full)


def _go_on(directory: Path, timeout_s: float, full: bool) -> int:
    run_directory = RunDirectory.resume(directory)
    manifest = run_directory.manifest
    # Where another card is, or none, this one's facts are missing, which is a difference too.
    now = read_environment_with(manifest.device.uuid, app.warn)
    run_directory.refuse(differences(manifest.environment, now))
    path = ""
    if manifest.arms != ("server",):
        check_engine(manifest.device)
        path = checkpoint(manifest.options.model, cache_directory(), app.warn)
    return _run(run_directory, path, timeout_s, full)


def _run(run_directory: RunDirectory, model: str, timeout_s: float, full: bool) -> int:
    interrupted = False
    go_on = shlex.join([*called("e2e"), "--resume", str(run_directory.path)])
    try:
        with display_for(console(stderr=True)) as display:
            run_all(run_directory, model, timeout_s, display, lambda text: say([text]))
    except KeyboardInterrupt:
        interrupted = True
    except SystemExit:  # a signal of others, see `CommandLine`
        app.warn(f"ended by a signal; go on with {go_on}")
        raise
    finally:
        run_directory.close()
    say([""])
    status = _report(run_directory.path, _Targets(full))
    if interrupted:
        app.warn(f"interrupted; go on with {go_on}")
    return ExitStatus.INTERRUPTED if interrupted else status


def _report(directory: Path, targets: _Targets = _Targets()) -> int:
    """Write the files that are asked for, and show the run unless one of them is standard output."""
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


@app.command("report")
def report_command(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    full: Full = False,
    html: Annotated[
        str | None,
        typer.Option(help="Write a page with pictures, one HTML file (- for standard output).", metavar="FILE"),
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the summary as JSON (- for standard output).", metavar="FILE")
    ] = None,
) -> int:
    """Show a run again: one screen, or everything.

    Here or on another machine. Exit status: as that of the run; 2 the directory is no run; 3 a file cannot be written.
    """
    refuse_several_outputs(html=html, json=json)
    return _report(directory, _Targets(full, html, json))


_OF_SPEEDS = ("server", "interleave", "gpu_time")
"""Options that engines are not looked into with."""


def _with_engine_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of the main one that decide what an engine is given and asked, after its own."""
    theirs = inspect.signature(run, eval_str=True).parameters
    engine = [one for name, one in theirs.items() if name in Options.model_fields or name in ("stop_at_eos", "out")]
    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.kind != one.VAR_KEYWORD]
    command.__signature__ = inspect.Signature(own + [one for one in engine if one.name not in _OF_SPEEDS])  # type: ignore[attr-defined]
    return command


@app.command("locate")
@_with_engine_options
def locate_command(
    run_directory: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run that has found a divergence.", show_default=False)
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option(
            help="baseline, batch-invariant or planned.  [default: baseline; with RUN the gravest]", metavar="NAME"
        ),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(help="In this trial: its number, or staggered.  [default: the first that differs]"),
    ] = None,
    needle: Annotated[
        int | None,
        typer.Option(
            help="This needle, counted from 1.  [default: the first that differs; with --against the longest]"
        ),
    ] = None,
    causes: Annotated[
        str, typer.Option(help="all: put each right and go on, for all independent ones; first: stop at the first.")
    ] = "all",
    against: Annotated[
        str | None,
        typer.Option(
            help="Where the needle alone parts from another engine's of the same model: transformers, "
            "transformers=ATTENTION, backend=NAME or an arm.  [default: the same engine in company]",
            metavar="OTHER",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which looking into an engine has failed.")] = 1800.0,
    **flags: Any,
) -> int:
    """Find the first operator that changed a needle's bits.

    One engine answers the needle alone and in company; of every operator and module the needle's rows are compared,
    before and after, and of a compiled model the parts between its attention.  Exit status: 0 nothing differs; 1 a
    cause was found; 2 the command line is wrong; 3 the engine could not be looked into, or something differs and no
    cause was seen.  With --against 0 as well where the two part: no promise is broken there.
    """
    if causes not in CAUSES:
        raise OptionsError(f"--causes {causes}: expected {' or '.join(CAUSES)}")
    timeout_s, out = timeout_of(timeout), flags.pop("out")
    words = given(flags)
    if run_directory is not None:
        if trial or needle or set(words) - {"eager"}:
            raise OptionsError(f"locate {run_directory} takes its options from the run; leave others than --eager out")
        device = describe_device()
        wanted = wanted_of_run(run_directory, arm, words)
    else:
        options = options_of(words)
        device = describe_device()
        wanted = wanted_of_words(options, arm, trial, needle, device)
    if against is not None:
        if trial is not None:
            raise OptionsError("--trial: with --against the needle is alone in both engines; leave it out")
        wanted = wanted._replace(other=read_other(against, wanted.arm, wanted.options, device))
    refuse_unsupported(wanted, device)
    if run_directory is None:
        wanted = wanted._replace(options=settled(with_plan(wanted.options, wanted.arms), device)[0])
    directory = directory_for(run_directory, out)
    return locate(wanted, directory, causes == "all", timeout_s, device, app.warn)


@app.command("tp-sizes")
@_with_engine_options
def tp_sizes_command(
    sizes: Annotated[str, typer.Argument(help="Two sizes or more, such as 1,2.", metavar="SIZES", show_default=False)],
    arm: Annotated[str, typer.Option(help="In whose mode: baseline or batch-invariant.", metavar="NAME")] = "baseline",
    timeout: Annotated[float, typer.Option(help="Seconds after which an answer has failed.")] = 1800.0,
    **flags: Any,
) -> int:
    """Ask engines of several TP sizes for the same needles.

    Alone, twice. No engine promises the same bits: what differs is told, and fails nothing. Exit status: 0 compared;
    2 the command line is wrong; 3 one could not be.
    """
    timeout_s, out = timeout_of(timeout), flags.pop("out")
    words = given(flags)
    if "tp_size" in words:
        raise OptionsError(f"--tp-size {words['tp_size']}: the sizes are named already; leave it out")
    wanted, chosen = sizes_of(sizes), arm_of(arm)
    options = with_plan(options_of(words), (chosen,))
    device = describe_device()
    options = settled(options, device)[0]
    return compare_sizes(wanted, chosen, options, device, directory_for(None, out), timeout_s, app.warn)


@app.command("replay")
def replay_command(
    file: Annotated[Path, typer.Argument(help="A call that locate has saved.", metavar="FILE")],
    timeout: Annotated[float, typer.Option(help="Seconds after which it has failed.")] = 600.0,
) -> int:
    """Run a call that locate has saved alone, without an engine.

    With the neighbours' rows taken away and altered. Exit status: 0 the needle's bits do not change; 1 they do; 2 there
    is no such file; 3 the call cannot be run here.
    """
    return run_again(file, timeout_of(timeout))


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of all JSON that is written.

    A run's files, what report writes with --json, and what locate keeps.
    """
    summary = described(EngineSummary.model_json_schema(mode="serialization"))
    located = described(Located.model_json_schema(mode="serialization"))
    sizes = described(TpSizes.model_json_schema(mode="serialization"))
    found = {"summary": summary, "located": located, "tp_sizes": sizes}
    print(json_module.dumps(FORMAT.schema() | found, indent=2))


def main() -> NoReturn:
    """Entry point."""
    app.main()
