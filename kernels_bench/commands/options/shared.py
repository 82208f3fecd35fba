"""Options that several commands have, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OP = "Operators or families of them (gemm, reductions, attention), comma-separated; --list shows all."
"""What ``--op`` says in each command, before what holds without it."""

# Which cases.
Arms = Annotated[
    str | None,
    typer.Option(help="Arms, comma-separated; --list shows all.  [default: all that can run here]", metavar="NAMES"),
]
Shapes = Annotated[
    str | None,
    typer.Option(
        help="Models (qwen3-8b), shapes (qwen3-8b/o_proj, unaligned/0), or sizes N,K; comma-separated, --list shows "
        "all.  [default: an operator's usual ones; on a CPU small ones]",
        metavar="NAMES|N,K",
    ),
]
Dtypes = Annotated[
    str | None,
    typer.Option(
        help="bf16, fp16, fp32, or bf16:fp32 and fp16:fp32 for an fp32 result; comma-separated.  "
        "[default: an operator's first at every shape, its others at two, in a suite such as fp8 at one]",
        metavar="NAMES",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        help="A Python file with arms or operators of your own, or FILE:OPERATOR=FUNCTION; may be repeated.",
        metavar="FILE",
    ),
]

# How they are measured.
Seed = Annotated[int, typer.Option(help="Seed of all data.")]
CaseTimeout = Annotated[float, typer.Option(help="Seconds after which a case has failed.")]

# Where a report comes from and goes.
RunDirectory = Annotated[Path, typer.Argument(help="A run directory.")]
Json = Annotated[str | None, typer.Option(help="Write the summary as JSON (- for standard output).", metavar="FILE")]
Markdown = Annotated[
    str | None, typer.Option(help="Write the tables as Markdown (- for standard output).", metavar="FILE")
]
Html = Annotated[
    str | None, typer.Option(help="Write a page with pictures, one HTML file (- for standard output).", metavar="FILE")
]
Junit = Annotated[
    str | None, typer.Option(help="Write each case as a JUnit test (- for standard output).", metavar="FILE")
]
Github = Annotated[
    bool, typer.Option("--github", help="Annotate a workflow of GitHub, and append to its step's summary.")
]
