"""Printing on a terminal: lines that wrap between words, commands that never do, and rows of columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kernels_bench.report.blocks import Remark
from kernels_bench.report.columns import Column


def widths_of(columns: Sequence[Column]) -> list[int]:
    """How wide each column is."""
    return [max(cell_len(text) for text in (*column.heads, *column.cells)) for column in columns]


def heads_of(columns: Sequence[Column], widths: Sequence[int], gap: int) -> list[Text]:
    """The lines of some columns' heads, without those that are empty."""
    heads = [aligned(columns, [column.heads[place] for column in columns], widths, gap) for place in (0, 1)]
    return [Text(head.plain, style="bold") for head in heads if head.plain]


def aligned(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], gap: int) -> Text:
    """One row of some columns, without blanks at its end."""
    padded = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        blanks = " " * (width - cell_len(cell))
        padded.append(cell + blanks if column.justify == "left" else blanks + cell)
    return Text((" " * gap).join(padded).rstrip())


def show_lines(lines: Sequence[Text], console: Console) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, soft_wrap=True)


def say_remarks(console: Console, remarks: Iterable[Remark], bullet: str = "") -> None:
    """Print remarks, each with its command below it."""
    for remark in remarks:
        say(console, f"{bullet}{remark.text}", style="dim" if remark.aside else "", indent=2)
        if remark.command:
            show_command(console, remark.command)


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


def show_command(console: Console, command: str) -> None:
    """A command on a line of its own, never broken, so that it can be copied."""
    console.print(Text(f"    {command}", style="cyan"), soft_wrap=True)
