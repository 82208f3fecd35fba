"""Options that several commands have: their help, and what is read from what was typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kernels_bench.console.errors import UsageError, timeout_of
from kernels_bench.records.selection import Selection

OP = "Operators or families of them (gemm, reductions, attention), comma-separated; --list shows all."
ARM = "Arms, comma-separated; --list shows all.  [default: all that can run here]"
SHAPES = (
    "Models (qwen3-8b), shapes (qwen3-8b/o_proj, unaligned/0), or sizes N,K; comma-separated, --list shows all.  "
    "[default: an operator's usual ones; on a CPU small ones]"
)
DTYPE = (
    "bf16, fp16, fp32, or bf16:fp32 and fp16:fp32 for an fp32 result; comma-separated.  "
    "[default: an operator's first at every shape, its others at two, in a suite such as fp8 at one]"
)
PLUGIN = "A Python file with arms or operators of your own, or FILE:OPERATOR=FUNCTION; may be repeated."

Html = Annotated[
    str | None, typer.Option(help="Write a page with pictures, one HTML file (- for standard output).", metavar="FILE")
]


def words(option: str, text: str | None) -> tuple[str, ...] | None:
    """A comma list; None where the option was not given.

    Raises:
        UsageError: the list is empty.
    """
    if text is None:
        return None
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    if not found:
        raise UsageError(f"--{option}: a comma list was expected, and it is empty")
    return found


def numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """A comma list of whole numbers; None where the option was not given.

    Raises:
        UsageError: it is something else.
    """
    found = words(option, text)
    wrong = next((word for word in found or () if not word.removeprefix("-").isdecimal()), None)
    if wrong is not None:
        raise UsageError(f"--{option} {wrong}: expected whole numbers, such as --{option} 1,16,256")
    return tuple(int(word) for word in found) if found is not None else None


def sown(seed: int) -> int:
    """A seed.

    Raises:
        UsageError: it is negative: NumPy makes no generator of it, and no order of addition could be read.
    """
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a whole number from 0 on")
    return seed


def selection_of(  # noqa: PLR0913 - one argument an option
    *,
    op: str | None,
    arm: str | None,
    shapes: str | None,
    batch: str | None,
    dtype: str | None,
    seed: int,
    plugin: Sequence[str] | None,
    timeout: float,
    length: str | None = None,
    **more: object,
) -> Selection:
    """What the options of a command that chooses among cases ask for, with ``more`` of it as it is.

    Raises:
        UsageError: one of them makes no sense.
    """
    return Selection.model_validate({
        "op": words("op", op),
        "arm": words("arm", arm),
        "shapes": words("shapes", shapes),
        "batch": numbers("batch", batch),
        "length": numbers("length", length),
        "dtype": words("dtype", dtype),
        "seed": sown(seed),
        "plugin": tuple(plugin or ()),
        "timeout_s": timeout_of(timeout),
        **more,
    })  # fmt: skip
