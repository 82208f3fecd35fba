"""Options of a run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kernels_bench.commands.options.shared import OP
from kernels_bench.console.errors import UsageError

# What is measured.
Operators = Annotated[
    str | None, typer.Option(help=f"{OP}  [default: all; on a GPU without attention]", metavar="NAMES")
]
Batch = Annotated[
    str | None,
    typer.Option(
        help="Rows M to time, such as 1,16,256, which are verified beside all others.  [default: verified around "
        "every power of two up to 4096, timed at 1,16,256,2048, invented shapes at 16,2048; on a CPU up to 256]",
        metavar="M,…",
    ),
]
Length = Annotated[
    str | None,
    typer.Option(
        help="Attention: tokens of the sequences to time, such as 128,4096, which are verified beside all others "
        "(of a prefill up to the shape's longest).  [default: timed at 128,2048,32768, of a prefill at "
        "128,2048,8192; on a CPU at 64]",
        metavar="N,…",
    ),
]
Relations = Annotated[
    str | None, typer.Option(help="Relations, comma-separated; --list shows all.  [default: all]", metavar="NAMES")
]
Partial = Annotated[bool, typer.Option("--partial", help="Status 0 though --relation leaves out what an arm claims.")]
Quick = Annotated[bool, typer.Option("--quick", help="A short run: few shapes, one dtype.")]
VerifyOnly = Annotated[bool, typer.Option("--verify-only", help="Time nothing.")]
TimeOnly = Annotated[bool, typer.Option("--time-only", help="Verify nothing; status 0 needs --partial then.")]

# Where it is kept, and what else is done with it.
Out = Annotated[
    Path | None, typer.Option(help="New directory for the results.  [default: samebits-runs/DATE]", metavar="DIR")
]
Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this directory.", metavar="DIR")]
Replay = Annotated[
    bool, typer.Option("--replay", help="Afterwards, for a profiler: timed cases and counterexamples once more.")
]
List = Annotated[
    bool,
    typer.Option("--list", help="Show operators, arms, shapes and relations, or those of --op, --arm and --relation."),
]


def only_of(verify: bool, time: bool) -> Literal["verify", "time"] | None:
    """The half of a run that ``--verify-only`` or ``--time-only`` leaves; None where neither was given.

    Raises:
        UsageError: both were.
    """
    if verify and time:
        raise UsageError("--verify-only and --time-only: only one of them can be")
    return "verify" if verify else "time" if time else None
