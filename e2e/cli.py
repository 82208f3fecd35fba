"""The command line of ``python -m e2e``.  Options are read here; nothing is measured here."""

from __future__ import annotations

import inspect
import json as json_module
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer

from e2e import cli_flags as flag
from e2e.cli_locate import (
    CAUSES,
    directory_for,
    locate,
    refuse_unsupported,
    run_again,
    wanted_of_run,
    wanted_of_words,
)
from e2e.cli_options import arms_of, given, options_of, settled, trials_asked, with_plan
from e2e.cli_run import Targets, WantedRun, begin, go_on, show
from e2e.cli_tp_sizes import arm_of, compare_sizes, sizes_of
from e2e.locate.records import Located
from e2e.records import FORMAT, TpSizes
from e2e.report.summary import EngineSummary
from e2e.run.processes import describe_device
from e2e.workload.options import Options, OptionsError
from e2e.workload.other import read_other
from kernels_bench.console.errors import timeout_of
from kernels_bench.workers.process import WorkerError
from profiles.command_line import CommandLine, Version, refuse_several_outputs
from profiles.errors import ExitStatus
from profiles.run_files.published_schema import described

# Engines leave files in the temporary directory, which go when the process ends in order.
app = CommandLine("e2e", also=(WorkerError,), end_in_order=(signal.SIGTERM, signal.SIGHUP))


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    model: flag.Model = None,
    tp_size: flag.TpSize = None,
    batch_size: flag.BatchSize = None,
    num_trials: flag.NumTrials = None,
    min_prompt: flag.MinPrompt = None,
    max_prompt: flag.MaxPrompt = None,
    max_tokens: flag.MaxTokens = None,
    temperature: flag.Temperature = None,
    gpu_memory_utilization: flag.GpuMemoryUtilization = None,
    max_model_len: flag.MaxModelLen = None,
    backend: flag.Backend = None,
    seed: flag.Seed = None,
    needles: flag.Needles = None,
    eager: flag.Eager = False,
    prefix_caching: flag.PrefixCaching = False,
    chunked_prefill: flag.ChunkedPrefill = None,
    stop_at_eos: flag.StopAtEos = False,
    mode: flag.Mode = None,
    server: flag.Server = None,
    arms: flag.Arms = None,
    plan: flag.Plan = None,
    interleave: flag.Interleave = None,
    gpu_time: flag.GpuTime = False,
    trial: flag.Trial = None,
    out: flag.Out = None,
    resume: flag.Resume = None,
    full: flag.Full = False,
    timeout: flag.Timeout = 1800.0,
    version: Version = False,
) -> int:
    """Measure what batch invariance costs in vLLM, and whether a needle's bits depend on its batch.

    The upstream script's variables, such as VLLM_BENCH_BATCH_SIZE, count where their flag is not given.

    Exit status: 0 every arm but the baseline kept the needles' bits; 1 one did not; 2 the command line is wrong;
    3 something could not be measured or decided.
    """
    if context.invoked_subcommand is not None:
        return ExitStatus.GOOD
    words = given(locals())
    timeout_s = timeout_of(timeout)
    if resume is not None:
        _refuse_others(context, resume)
        return go_on(resume, timeout_s, full, app.warn)
    options = options_of(words)
    chosen = arms_of(arms, options)
    wanted = WantedRun(with_plan(options, chosen), chosen, trials_asked(trial, options), interleave)
    return begin(wanted, out, timeout_s, full, app.warn)


def _refuse_others(context: typer.Context, resume: Path) -> None:
    """Only --resume, --timeout and --full may stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if given - {"resume", "timeout", "full"}:
        raise OptionsError(f"--resume {resume} takes its options from the run itself; leave the others out")


@app.command("report")
def report_command(
    directory: flag.RunDirectory,
    full: flag.Full = False,
    html: flag.Html = None,
    json: flag.Json = None,
) -> int:
    """Show a run again: one screen, or everything.

    Here or on another machine. Exit status: as that of the run; 2 the directory is no run; 3 a file cannot be written.
    """
    refuse_several_outputs(html=html, json=json)
    return show(directory, Targets(full, html, json))


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
    run_directory: flag.DivergedRun = None,
    arm: flag.LocatedArm = None,
    trial: flag.LocatedTrial = None,
    needle: flag.LocatedNeedle = None,
    causes: flag.Causes = "all",
    against: flag.Against = None,
    timeout: flag.LocateTimeout = 1800.0,
    **engine: Any,
) -> int:
    """Find the first operator that changed a needle's bits.

    One engine answers the needle alone and in company; of every operator and module the needle's rows are compared,
    before and after, and of a compiled model the parts between its attention.  Exit status: 0 nothing differs; 1 a
    cause was found; 2 the command line is wrong; 3 the engine could not be looked into, or something differs and no
    cause was seen.  With --against 0 as well where the two part: no promise is broken there.
    """
    if causes not in CAUSES:
        raise OptionsError(f"--causes {causes}: expected {' or '.join(CAUSES)}")
    timeout_s, out = timeout_of(timeout), engine.pop("out")
    words = given(engine)
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
    sizes: flag.Sizes,
    arm: flag.SizesArm = "baseline",
    timeout: flag.SizesTimeout = 1800.0,
    **engine: Any,
) -> int:
    """Ask engines of several TP sizes for the same needles.

    Alone, twice. No engine promises the same bits: what differs is told, and fails nothing. Exit status: 0 compared;
    2 the command line is wrong; 3 one could not be.
    """
    timeout_s, out = timeout_of(timeout), engine.pop("out")
    words = given(engine)
    if "tp_size" in words:
        raise OptionsError(f"--tp-size {words['tp_size']}: the sizes are named already; leave it out")
    wanted, chosen = sizes_of(sizes), arm_of(arm)
    options = with_plan(options_of(words), (chosen,))
    device = describe_device()
    options = settled(options, device)[0]
    return compare_sizes(wanted, chosen, options, device, directory_for(None, out), timeout_s, app.warn)


@app.command("replay")
def replay_command(file: flag.SavedCall, timeout: flag.ReplayTimeout = 600.0) -> int:
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
