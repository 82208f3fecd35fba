"""Options of ``reproduce`` alone: one case and two batches of it."""

from __future__ import annotations

from typing import Annotated

import typer

from kernels_bench.console.errors import UsageError
from kernels_bench.records.cases import LAUNCHES, Launch

_LAUNCH_NAMES = f"{', '.join(LAUNCHES[:-1])} or {LAUNCHES[-1]}"

# The case.
Operator = Annotated[str, typer.Option(help="The operator.")]
Arm = Annotated[str, typer.Option(help="The arm.")]
Shape = Annotated[str, typer.Option(help="The operator's sizes, such as 4096x12288.")]
Dtype = Annotated[str, typer.Option(help="bf16, fp16, fp32, bf16:fp32 or fp16:fp32.")]
Universe = Annotated[int, typer.Option(help="Number of rows that batches are chosen from.")]
Length = Annotated[
    str | None, typer.Option(help="Attention: tokens that the run's --length named.  [default: none]", metavar="N,…")
]
Plugin = Annotated[str | None, typer.Option(help="The file that the arm comes from.", metavar="FILE")]

# The batches.
Reference = Annotated[str, typer.Option(help="The batch that gives the expected bits, such as first:4096.")]
Company = Annotated[str, typer.Option("--batch", "--company", help="The batch under test, such as first:16.")]
HowLaunched = Annotated[str, typer.Option(help=f"How the batch under test is launched: {_LAUNCH_NAMES}.")]
Before = Annotated[
    str | None,
    typer.Option(
        help="Batches to launch first, in a fresh process, such as first:4096,first:16, or nothing: then the one "
        "under test comes before its reference.  [default: the reference comes first]",
        metavar="BATCHES",
    ),
]
Relation = Annotated[str, typer.Option(help="The relation, for the record.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the answer.")]


def launch_of(text: str) -> Launch:
    """The way to launch of that name.

    Raises:
        UsageError: there is none.
    """
    found = next((launch for launch in LAUNCHES if launch == text), None)
    if found is None:
        raise UsageError(f"--launch {text}: expected {_LAUNCH_NAMES}")
    return found


def before_of(text: str | None) -> tuple[str, ...] | None:
    """Specs of the batches to launch first; none of them where ``nothing`` is to come before, None where no matter."""
    return None if text is None else () if text == "nothing" else tuple(text.split(","))
