"""Printing on a terminal: lines that wrap between words, commands that never do, and rows of cells."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

NOTHING = "\N{EN DASH}"
"""What stands where there is no number: an empty place must not look like a zero."""

TIMES = "\N{MULTIPLICATION SIGN}"

# For output that cannot hold anything but ASCII; every other character becomes a question mark.
_ASCII = str.maketrans({NOTHING: "-", TIMES: "x", "±": "+-", "…": "...", "·": ";", "─": "-", "→": "->"})


def draw(console: Console, drawn: Callable[[Console, bool], None]) -> None:
    """Draw on a console; where that can hold ASCII alone, what comes nearest to it.

    Args:
        console: where to.
        drawn: draws on the console that it is given; its second argument says whether verdicts may have signs.
    """
    if console.encoding.lower().startswith("utf"):
        drawn(console, True)
        return
    plain = Console(file=StringIO(), width=console.width, color_system=None, force_terminal=False)
    drawn(plain, False)
    assert isinstance(plain.file, StringIO)
    text = plain.file.getvalue().translate(_ASCII).encode("ascii", "replace").decode("ascii")
    console.out(text, end="", highlight=False)


def widths_of(columns: Iterable[Iterable[str]]) -> list[int]:
    """How wide each column's widest text is."""
    return [max(map(cell_len, texts)) for texts in columns]


def aligned(cells: Sequence[str], sides: Sequence[str], widths: Sequence[int], gap: int) -> Text:
    """One row: each cell set to its side, ``left`` or ``right``, without blanks at the row's end."""
    padded = []
    for cell, side, width in zip(cells, sides, widths, strict=True):
        blanks = " " * (width - cell_len(cell))
        padded.append(cell + blanks if side == "left" else blanks + cell)
    return Text((" " * gap).join(padded).rstrip())


def show_lines(lines: Sequence[Text], console: Console) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, soft_wrap=True)


def say_each(console: Console, texts: Iterable[str], style: str = "") -> None:
    """Print texts, each on lines of its own."""
    for text in texts:
        say(console, text, style=style, indent=2)


def say(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """Print text, wrapped between words only; continued lines are indented by so many columns."""
    lines = textwrap.wrap(
        text,
        max(40, console.width),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines or [""]:
        console.print(Text(line, style=style), soft_wrap=True)


def fitted(lines: Iterable[str], width: int) -> Iterator[str]:
    """Lines wrapped between words, continued two columns further in; rows of cells and commands are left whole.

    Args:
        lines: each with its own indentation.
        width: of the terminal, in columns.
    """
    for line in lines:
        text = line.lstrip()
        if cell_len(line) <= width or "  " in text or "python -m" in text:
            yield line
            continue
        indent = line[: len(line) - len(text)]
        yield from textwrap.wrap(
            text, width, initial_indent=indent, subsequent_indent=f"{indent}  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def show_command(console: Console, command: str) -> None:
    """A command on a line of its own, never broken, so that it can be copied."""
    console.print(Text(f"    {command}", style="cyan"), soft_wrap=True)
