"""Options of ``plan`` and its commands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kernels_bench.commands.options.shared import OP
from kernels_bench.console.errors import UsageError
from kernels_bench.plan.weights import NAMED

_MOST_SECONDS = 1e6

# What a plan is for.
Operators = Annotated[str | None, typer.Option(help=f"{OP}  [default: linear]", metavar="NAMES")]
Batch = Annotated[
    str | None,
    typer.Option(
        help="Rows M to choose kernels at.  [default: every power of two up to 4096; on a CPU 1,4,16,64,256; of "
        "sequences as many as a run times]",
        metavar="M,…",
    ),
]
Length = Annotated[
    str | None, typer.Option(help="Attention: tokens of every sequence.  [default: as a run times]", metavar="N,…")
]

# How it is chosen.
Weights = Annotated[
    str,
    typer.Option(
        help=f'How much each M counts: {", ".join(NAMED)}, or a JSON file such as {{"1": 3, "16": 1}}.',
        metavar="NAME|FILE",
    ),
]
Today = Annotated[
    str,
    typer.Option(
        help="The arm whose kernels you use now: the plan is compared with them too.  [default: none]", metavar="ARM"
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="Seconds, about, for the search among arms' candidates: all are timed roughly, the fastest verified "
        "and timed. 0 leaves out all but those that --arm names.  [default: 240; on a CPU 20]",
    ),
]

# Where it comes from and goes.
Run = Annotated[
    Path | None,
    typer.Option(
        help="New directory for what is measured, or that of a run to choose from, of which nothing is measured "
        "again: --op, --arm, --shapes and --dtype name its parts.  [default: samebits-runs/DATE]",
        metavar="DIR",
    ),
]
Resume = Annotated[
    Path | None, typer.Option(help="Go on with a plan that was interrupted, in its directory.", metavar="DIR")
]
Out = Annotated[
    str | None,
    typer.Option(help="Write the plan as JSON (- for standard output).  [default: DIR/plan.json]", metavar="FILE"),
]

# Of a plan that is there already.
File = Annotated[Path, typer.Argument(help="A plan's file.", metavar="FILE")]
ExportTo = Annotated[
    str, typer.Option(help="Whose table: vllm, of 0.33's batch-invariant GEMM; samebits, of its own arm.")
]
ExportOut = Annotated[
    str, typer.Option(help="Write the table (samebits' as JSON) to a file (- for standard output).", metavar="FILE")
]
Proof = Annotated[
    str | None,
    typer.Option(
        help="Write what is proven of it as JSON.  [default: beside the table, FILE.proof.json]", metavar="FILE"
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Check it although the device, a version, our kernels or a variable is another."),
]
CheckRun = Annotated[
    Path | None,
    typer.Option(help="New directory for what is measured.  [default: samebits-runs/DATE]", metavar="DIR"),
]


def budget_s(budget: float | None) -> float | None:
    """Seconds for the search; None where the option was not given.

    Raises:
        UsageError: no number of seconds.
    """
    if budget is not None and not 0 <= budget < _MOST_SECONDS:
        raise UsageError(f"--budget {budget:g}: expected seconds from 0 on, below {_MOST_SECONDS:,.0f}")
    return budget
