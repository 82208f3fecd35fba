"""Options of ``order`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kernels_bench.commands.options.shared import OP

Operators = Annotated[str, typer.Option(help=OP, metavar="NAMES")]
Batch = Annotated[
    str | None,
    typer.Option(
        help="Rows M at which to read it, such as 1,16,17,256.  [default: around every power of two up to 4096, "
        "on a CPU up to 256; of attention 1,16,256 and the largest]",
        metavar="M,…",
    ),
]
Length = Annotated[
    str | None,
    typer.Option(
        help="Attention: keys of every sequence, such as 129,1025.  [default: 129,1025; on a CPU 17,65]",
        metavar="N,…",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of questions and checks.")]
Svg = Annotated[Path | None, typer.Option(help="Draw every order into this directory.", metavar="DIR")]
Json = Annotated[str | None, typer.Option(help="Write what was found as JSON (- for standard output).", metavar="FILE")]
Timeout = Annotated[float, typer.Option(help="Seconds for each case.")]
