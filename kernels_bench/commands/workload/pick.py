"""Names that were typed, looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion

T = TypeVar("T")


def pick(option: str, wanted: Sequence[str] | None, known: dict[str, T]) -> list[T]:
    """What some names stand for, once each; all that is known where none was typed.

    Raises:
        UsageError: an unknown name; the message suggests others.
    """
    if wanted is None:
        return list(known.values())
    for name in wanted:
        if name not in known:
            raise UsageError(f"--{option} {name}: unknown{suggestion(name, known)}")
    return [known[name] for name in dict.fromkeys(wanted)]
