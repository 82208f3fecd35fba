"""The flags of the commands, by what they are about: what each is called and says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from e2e.checkpoints.resolve import DEFAULT, EMBEDDED
from e2e.workload.options import PREFIX, VARIABLES, Options


def _of_options(field: str, text: str, usual: str = "") -> Any:
    """A flag for one of `Options`, with the variable that it overrides, if any, and what holds without both."""
    variable = next((f"env var: {PREFIX}{name}; " for name, (of, _) in VARIABLES.items() if of == field), "")
    usual = usual or str(Options.model_fields[field].default)
    return typer.Option(help=f"{text}  [{variable}default: {usual}]")


# The engine.
Model = Annotated[
    str | None,
    _of_options(
        "model",
        "A name or path that vLLM takes, smollm2, or synthetic:PRESET.",
        f"{DEFAULT}, or {EMBEDDED} where that is neither cached nor reachable",
    ),
]
TpSize = Annotated[int | None, _of_options("tp_size", "GPUs that share the model.")]
GpuMemoryUtilization = Annotated[
    float | None, _of_options("gpu_memory_utilization", "Share of the GPU's memory that an engine takes.")
]
MaxModelLen = Annotated[int | None, _of_options("max_model_len", "Most tokens of a sequence, prompt and answer.")]
Backend = Annotated[
    str | None,
    _of_options("backend", "vLLM's attention backend.", f"{Options().backend}; on a CPU vLLM's only one"),
]
Eager = Annotated[bool, typer.Option("--eager", help="No compilation, no CUDA graphs.")]
PrefixCaching = Annotated[bool, typer.Option("--prefix-caching", help="Reuse the cache of prefixes.")]
ChunkedPrefill = Annotated[
    bool | None, _of_options("chunked_prefill", "Whether long prefills are cut.", "vLLM's own choice")
]
Mode = Annotated[str | None, _of_options("mode", "offline (a library) or online (a server on loopback).")]
Server = Annotated[str | None, typer.Option(help="Check the server that listens at this URL already.", metavar="URL")]

# What it is asked.
BatchSize = Annotated[int | None, _of_options("batch_size", "Sequences in a batch, at most.")]
NumTrials = Annotated[int | None, _of_options("num_trials", "Trials that are timed.")]
MinPrompt = Annotated[int | None, _of_options("min_prompt", "Fewest tokens of a filler's prompt.")]
MaxPrompt = Annotated[int | None, _of_options("max_prompt", "Most tokens of a filler's prompt.")]
MaxTokens = Annotated[int | None, _of_options("max_tokens", "Tokens generated for every prompt.")]
Temperature = Annotated[float | None, _of_options("temperature", "Of sampling; 0 is greedy.")]
Seed = Annotated[int | None, _of_options("seed", "Of prompts, batches and places.")]
Needles = Annotated[
    int | None,
    _of_options("needles", "Sequences compared in every trial.", "a quarter of a batch, at least 1 and at most 8"),
]
StopAtEos = Annotated[
    bool, typer.Option("--stop-at-eos", help="Let answers end early; without it, all have --max-tokens.")
]

# Which arms and trials, and how they take turns.
Arms = Annotated[
    str | None,
    typer.Option(
        help="baseline, batch-invariant, planned, serial, server; comma-separated.  [default: "
        "baseline,batch-invariant; on a CPU baseline,serial; with --server server]",
        metavar="NAMES",
    ),
]
Plan = Annotated[
    str | None,
    typer.Option(
        help="Of the arm planned: a plan's file, made by kernels_bench plan, or default: each shape has one kernel "
        "at every M.  [default: default]",
        metavar="FILE",
    ),
]
Interleave = Annotated[
    bool | None,
    typer.Option(
        "--interleave/--no-interleave",
        help="All arms' engines together, each trial in turn; else one arm after the other.  [default: together "
        "where memory is known to suffice]",
    ),
]
GpuTime = Annotated[
    bool, typer.Option("--gpu-time", help="Also the time in which the GPU computes: each trial once more, recorded.")
]
Trial = Annotated[
    str | None, typer.Option(help="Run this trial alone: its number, or staggered.  [default: all]", metavar="TRIAL")
]
Timeout = Annotated[float, typer.Option(help="Seconds after which a trial, or --server, has failed.")]

# Where a run is kept, and what is shown and written of it.
Out = Annotated[
    Path | None, typer.Option(help="New directory for the results.  [default: samebits-runs/DATE]", metavar="DIR")
]
Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this directory.", metavar="DIR")]
RunDirectory = Annotated[Path, typer.Argument(help="A run directory.")]
Full = Annotated[
    bool, typer.Option("--full", help="Show everything, in the form and with the labels of vLLM's script.")
]
Html = Annotated[
    str | None, typer.Option(help="Write a page with pictures, one HTML file (- for standard output).", metavar="FILE")
]
Json = Annotated[str | None, typer.Option(help="Write the summary as JSON (- for standard output).", metavar="FILE")]

# Of locate and replay.
DivergedRun = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="A run that has found a divergence.", show_default=False)
]
LocatedArm = Annotated[
    str | None,
    typer.Option(
        help="baseline, batch-invariant or planned.  [default: baseline; with RUN the gravest]", metavar="NAME"
    ),
]
LocatedTrial = Annotated[
    str | None, typer.Option(help="In this trial: its number, or staggered.  [default: the first that differs]")
]
LocatedNeedle = Annotated[
    int | None,
    typer.Option(help="This needle, counted from 1.  [default: the first that differs; with --against the longest]"),
]
Causes = Annotated[
    str, typer.Option(help="all: put each right and go on, for all independent ones; first: stop at the first.")
]
Against = Annotated[
    str | None,
    typer.Option(
        help="Where the needle alone parts from another engine's of the same model: transformers, "
        "transformers=ATTENTION, backend=NAME, tp=N or an arm.  [default: the same engine in company]",
        metavar="OTHER",
    ),
]
LocateTimeout = Annotated[float, typer.Option(help="Seconds after which looking into an engine has failed.")]
SavedCall = Annotated[Path, typer.Argument(help="A call that locate has saved.", metavar="FILE")]
ReplayTimeout = Annotated[float, typer.Option(help="Seconds after which it has failed.")]

# Of tp-sizes.
Sizes = Annotated[str, typer.Argument(help="Two sizes or more, such as 1,2.", metavar="SIZES", show_default=False)]
SizesArm = Annotated[str, typer.Option(help="In whose mode: baseline or batch-invariant.", metavar="NAME")]
SizesTimeout = Annotated[float, typer.Option(help="Seconds after which an answer has failed.")]
