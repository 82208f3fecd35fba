"""The command line of ``python -m e2e``.  Options are read here; nothing is measured here."""

from __future__ import annotations

import json as json_module
import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from e2e.checkpoints.resolve import DEFAULT, EMBEDDED, cache_directory, checkpoint, default_model
from e2e.records import FORMAT, Manifest, RunDirectory, read_state
from e2e.report.screen import screen_of
from e2e.report.summary import EngineSummary, summarise
from e2e.report.text import header, report
from e2e.run.processes import describe_device
from e2e.run.run_arms import run_all
from e2e.workload.arms import check_engine, check_room, default_arms
from e2e.workload.options import (
    PREFIX,
    VARIABLES,
    ArmName,
    Mode,
    Options,
    OptionsError,
    check_backend,
    known_backends,
    read_options,
)
from e2e.workload.room import free_memory, why_apart
from e2e.workload.trials import arms_with, trial_name, trial_named, trials_of
from kernels_bench.commands.report import write
from kernels_bench.console.errors import timeout_of
from kernels_bench.console.printing import draw
from kernels_bench.console.progress import display_for
from kernels_bench.console.screen import show_screen
from kernels_bench.console.terminal import console
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import Device
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


def _option(field: str, text: str, usual: str = "") -> Any:
    """A flag for one of `Options`, with the variable that it overrides, if any, and what holds without both."""
    variable = next((f"env var: {PREFIX}{name}; " for name, (of, _) in VARIABLES.items() if of == field), "")
    usual = usual or str(Options.model_fields[field].default)
    return typer.Option(help=f"{text}  [{variable}default: {usual}]")


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    model: Annotated[
        str | None,
        _option(
            "model",
            "A name or path that vLLM takes, smollm2, or synthetic:PRESET.",
            f"{DEFAULT}, or {EMBEDDED} where that is neither cached nor reachable",
        ),
    ] = None,
    tp_size: Annotated[int | None, _option("tp_size", "GPUs that share the model.")] = None,
    batch_size: Annotated[int | None, _option("batch_size", "Sequences in a batch, at most.")] = None,
    num_trials: Annotated[int | None, _option("num_trials", "Trials that are timed.")] = None,
    min_prompt: Annotated[int | None, _option("min_prompt", "Fewest tokens of a filler's prompt.")] = None,
    max_prompt: Annotated[int | None, _option("max_prompt", "Most tokens of a filler's prompt.")] = None,
    max_tokens: Annotated[int | None, _option("max_tokens", "Tokens generated for every prompt.")] = None,
    temperature: Annotated[float | None, _option("temperature", "Of sampling; 0 is greedy.")] = None,
    gpu_memory_utilization: Annotated[
        float | None, _option("gpu_memory_utilization", "Share of the GPU's memory that an engine takes.")
    ] = None,
    max_model_len: Annotated[
        int | None, _option("max_model_len", "Most tokens of a sequence, prompt and answer.")
    ] = None,
    backend: Annotated[
        str | None,
        _option("backend", "vLLM's attention backend.", f"{Options().backend}; on a CPU vLLM's only one"),
    ] = None,
    seed: Annotated[int | None, _option("seed", "Of prompts, batches and places.")] = None,
    needles: Annotated[
        int | None,
        _option("needles", "Sequences compared in every trial.", "a quarter of a batch, at least 1 and at most 8"),
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="No compilation, no CUDA graphs.")] = False,
    prefix_caching: Annotated[bool, typer.Option("--prefix-caching", help="Reuse the cache of prefixes.")] = False,
    chunked_prefill: Annotated[
        bool | None, _option("chunked_prefill", "Whether long prefills are cut.", "vLLM's own choice")
    ] = None,
    stop_at_eos: Annotated[
        bool, typer.Option("--stop-at-eos", help="Let answers end early; without it, all have --max-tokens.")
    ] = False,
    mode: Annotated[str | None, _option("mode", "offline (a library) or online (a server on loopback).")] = None,
    server: Annotated[
        str | None, typer.Option(help="Check the server that listens at this URL already.", metavar="URL")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="baseline, batch-invariant, serial, server; comma-separated.  [default: baseline,batch-invariant; "
            "on a CPU baseline,serial; with --server server]",
            metavar="NAMES",
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
    flags = {name: value for name, value in locals().items() if name in Options.model_fields}
    flags = {name: value for name, value in flags.items() if value is not False}
    if stop_at_eos:
        flags["ignore_eos"] = False
    timeout_s = timeout_of(timeout)
    if resume is not None:
        _refuse_others(context, resume)
        return _go_on(resume, timeout_s, full)
    options = _options(flags)
    return _begin(options, _arms(arms, options), _trials(trial, options), interleave, out, timeout_s, full)


def _refuse_others(context: typer.Context, resume: Path) -> None:
    """Only --resume, --timeout and --full may stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if given - {"resume", "timeout", "full"}:
        raise OptionsError(f"--resume {resume} takes its options from the run itself; leave the others out")


def _options(flags: Mapping[str, Any]) -> Options:
    mode = flags.get("mode")
    if mode not in (None, *get_args(Mode)):
        raise OptionsError(f"--mode {mode}: expected {' or '.join(get_args(Mode))}")
    options = read_options(flags, os.environ)
    if options.server is None:
        check_backend(options.backend, known_backends())
    return options


def _arms(text: str | None, options: Options) -> tuple[ArmName, ...] | None:
    if text is None:
        return ("server",) if options.server is not None else None
    known: tuple[ArmName, ...] = get_args(ArmName)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise OptionsError(f"--arms {text}: expected one or more of {', '.join(known)}")
    for word in words:
        if word not in known:
            raise OptionsError(f"--arms {word}: unknown{suggestion(word, known)}")
    if ("server" in words) != (options.server is not None):
        raise OptionsError("--arms server and --server URL belong together")
    # The baseline goes first: the others are judged by what it shows.
    return tuple(arm for arm in known if arm in words)


def _trials(only: str | None, options: Options) -> tuple[int, ...]:
    if only is None:
        return trials_of(options)
    trial = trial_named(only)
    if trial not in trials_of(options):
        raise OptionsError(f"--trial {only}: expected 1 to --num-trials {options.num_trials}, or staggered")
    return (trial,)


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
        options, note = _settled(options, device)
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


def _settled(options: Options, device: Device) -> tuple[Options, str]:
    """The options as this machine can have them, and what a reader must know of it."""
    note = ""
    if "model" not in options.model_fields_set:  # neither a flag nor a variable names one
        model, note = default_model()
        options = options.model_copy(update={"model": model})
    if device.type != "cuda":
        return options.model_copy(update={"backend": None}), note
    return options, note


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
    try:
        with display_for(console(stderr=True)) as display:
            run_all(run_directory, model, timeout_s, display, lambda text: say([text]))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        run_directory.close()
    say([""])
    status = _report(run_directory.path, _Targets(full))
    if interrupted:
        app.warn(f"interrupted; go on with {shlex.join([*called('e2e'), '--resume', str(run_directory.path)])}")
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


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of all JSON that is written.

    A run's files, and what report writes with --json.
    """
    summary = described(EngineSummary.model_json_schema(mode="serialization"))
    print(json_module.dumps(FORMAT.schema() | {"summary": summary}, indent=2))


def main() -> NoReturn:
    """Entry point."""
    app.main()
