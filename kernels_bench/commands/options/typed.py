"""What is read from options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import machinery

from kernels_bench.arms.plugins import file_of
from kernels_bench.console.errors import UsageError, timeout_of
from kernels_bench.records.selection import Selection


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


def plugins(typed: Sequence[str] | None) -> tuple[str, ...]:
    """The plugins that were named.

    Raises:
        UsageError: one of them is no Python file; what else is wrong with it, its import tells.
    """
    for plugin in typed or ():
        file = file_of(plugin)
        if not os.path.isfile(file):  # which no name can upset
            raise UsageError(f"plugin {plugin}: no such file")
        if not file.endswith(tuple(machinery.SOURCE_SUFFIXES)):
            raise UsageError(f"plugin {plugin}: not a Python file; its name must end in .py")
    return tuple(typed or ())


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
        "plugin": plugins(plugin),
        "timeout_s": timeout_of(timeout),
        **more,
    })  # fmt: skip
