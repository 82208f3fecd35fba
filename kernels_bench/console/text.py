"""Text that can be shown: printable, on one line, with the nearest known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from profiles.text import inert


def printable(text: str) -> str:
    """Text from a kernel or a plugin, without what could steer a terminal."""
    return inert(text).strip()


def first_line(error: BaseException) -> str:
    """An error's own first line, or its type where it has none."""
    return next((line for text in str(error).splitlines() if (line := printable(text))), type(error).__name__)


def kind_and_reason(error: BaseException) -> str:
    """Of an error its type, the note that was added to it last, and the first line of what it says."""
    notes = [printable(note.partition("\n")[0]) for note in getattr(error, "__notes__", ())]
    return f"{' '.join((type(error).__name__, *notes[-1:]))}: {first_line(error)}"


def suggestion(name: str, known: Iterable[str], most: int = 3, listed: Iterable[str] | None = None) -> str:
    """The nearest known names, at most so many, as the end of a sentence; where none is near, ``listed`` or all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=0.5)
    others = names if listed is None else listed
    return f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(others)}"


def microseconds(us: float) -> str:
    """A time with three digits, or all before the point."""
    return f"{us:,.0f}" if us >= 99.95 else f"{us:.1f}" if us >= 9.995 else f"{us:.2f}" if us >= 0.01 else f"{us:.1g}"
