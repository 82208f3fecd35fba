"""What a run says first, on one screen: its answer, a table, the gravest, what is lacking, and where the rest is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from kernels_bench.console.printing import aligned, say, show_command, show_lines, widths_of
from profiles.text import inert

GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heads: the two lines of its head.
        cells: one a row.
        justify: to which side its cells are set.
        in_words: lines that say the same where there is no room for it; none of a column that is always there.
    """

    heads: tuple[str, str]
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "right"
    in_words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Remark:
    """A line.

    Attributes:
        text: the line.
        command: shows more of it; empty where there is none.
        aside: whether it is said in passing, since nothing is wrong.
    """

    text: str
    command: str = ""
    aside: bool = False


@dataclass(frozen=True)
class Screen:
    """What a run says first.

    Attributes:
        outcome: its answer in one sentence.
        good: whether the exit status is 0.
        rows: heads of the table's rows.
        columns: its columns.
        legend: what a cell means.
        findings: the gravest, each with the command that shows it again.
        unmeasured: what could not be measured, or only badly.
        where: device, size and directory of the run, a line each.
        rest: commands that show more, and what they show.
    """

    outcome: str
    good: bool
    rows: Column
    columns: tuple[Column, ...]
    legend: str
    findings: tuple[Remark, ...]
    unmeasured: tuple[Remark, ...]
    where: tuple[str, ...]
    rest: tuple[tuple[str, str], ...]


def inert_part(part: Any) -> Any:
    """A part of a report, every text of which can be shown: what records hold may be anybody's."""
    if isinstance(part, str):
        return inert(part)
    if isinstance(part, (tuple, list)):
        return tuple(map(inert_part, part))
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(part, **{field.name: inert_part(getattr(part, field.name)) for field in fields(part)})


def show_screen(screen: Screen, console: Console) -> None:
    """Print a run's answer, its table, the gravest findings, what was not measured, and where the rest is."""
    say(console, screen.outcome, style="bold green" if screen.good else "bold red")
    for columns in _fitting(screen.rows, screen.columns, console.width):
        console.print()
        show_lines(_table(columns), console)
    say(console, screen.legend, style="dim")
    for title, remarks in (("gravest", screen.findings), ("not measured", screen.unmeasured)):
        if remarks:
            console.print()
            say(console, title, style="bold")
            say_remarks(console, remarks, bullet="- ")
    console.print()
    for line in screen.where:
        say(console, line, indent=2)
    for command, what in screen.rest:
        say(console, f"{what}:")
        show_command(console, command)


def say_remarks(console: Console, remarks: Sequence[Remark], bullet: str = "") -> None:
    """Print remarks, each with its command below it."""
    for remark in remarks:
        say(console, f"{bullet}{remark.text}", style="dim" if remark.aside else "", indent=2)
        if remark.command:
            show_command(console, remark.command)


def column_widths(columns: Sequence[Column]) -> list[int]:
    """How wide each column is."""
    return widths_of([(*column.heads, *column.cells) for column in columns])


def row_of(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], gap: int) -> Text:
    """One row of some columns, without blanks at its end."""
    return aligned(cells, [column.justify for column in columns], widths, gap)


def heads_of(columns: Sequence[Column], widths: Sequence[int], gap: int) -> list[Text]:
    """The lines of some columns' heads, without those that are empty."""
    heads = [row_of(columns, [column.heads[place] for column in columns], widths, gap) for place in (0, 1)]
    return [Text(head.plain, style="bold") for head in heads if head.plain]


def _fitting(rows: Column, columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """The columns side by side, as many as there is room for; the others in further tables below."""
    taken: list[Column] = []
    for column in columns:
        if taken and _width([rows, *taken, column]) > width:
            yield [rows, *taken]
            taken = []
        taken.append(column)
    if taken:
        yield [rows, *taken]


def _width(columns: Sequence[Column]) -> int:
    return sum(column_widths(columns)) + GAP * (len(columns) - 1)


def _table(columns: Sequence[Column]) -> list[Text]:
    widths = column_widths(columns)
    rows = [row_of(columns, list(cells), widths, GAP) for cells in zip(*(c.cells for c in columns), strict=True)]
    return [*heads_of(columns, widths, GAP), *rows]
