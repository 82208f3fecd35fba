"""The overview of a run on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from kernels_bench.report.columns import Column
from kernels_bench.report.overview import Overview
from kernels_bench.report.terminal.printing import (
    aligned,
    heads_of,
    say,
    say_remarks,
    show_command,
    show_lines,
    widths_of,
)

GAP = 2
"""Columns between two arms."""


def show_overview(overview: Overview, console: Console) -> None:
    """Print a run's answer, its matrix, the gravest findings, what was not measured, and where the rest is."""
    found = overview.outcome
    say(console, found.text, style="bold green" if found.good else "bold red")
    for columns in _fitting(overview.rows, overview.arms, console.width):
        console.print()
        show_lines(_matrix(columns), console)
    say(console, overview.legend, style="dim")
    for title, remarks in (("gravest", overview.findings), ("not measured", overview.unmeasured)):
        if remarks:
            console.print()
            say(console, title, style="bold")
            say_remarks(console, remarks, bullet="- ")
    console.print()
    for line in overview.where:
        say(console, line, indent=2)
    for command, what in overview.rest:
        say(console, f"{what}:")
        show_command(console, command)


def _fitting(rows: Column, arms: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """The arms side by side, as many as there is room for; the others in further matrices below."""
    taken: list[Column] = []
    for arm in arms:
        if taken and _width([rows, *taken, arm]) > width:
            yield [rows, *taken]
            taken = []
        taken.append(arm)
    if taken:
        yield [rows, *taken]


def _width(columns: Sequence[Column]) -> int:
    return sum(widths_of(columns)) + GAP * (len(columns) - 1)


def _matrix(columns: Sequence[Column]) -> list[Text]:
    widths = widths_of(columns)
    rows = [aligned(columns, list(cells), widths, GAP) for cells in zip(*(c.cells for c in columns), strict=True)]
    return [*heads_of(columns, widths, GAP), *rows]
