"""A run's summary for people, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from rich.console import Console
from rich.text import Text

from kernels_bench.console.printing import draw, say, say_each, show_command, show_lines
from kernels_bench.console.screen import Column, column_widths, heads_of, row_of, say_remarks, show_screen
from kernels_bench.report.blocks import (
    Block,
    Findings,
    Heading,
    Legend,
    LengthTable,
    Notices,
    Outcome,
    Sentences,
    Table,
    Whereabouts,
    blocks_of,
)
from kernels_bench.report.overview import overview_of
from kernels_bench.report.sentences import cases, duration
from kernels_bench.report.summary.schema import ArmSummary, RunSummary, Verdict

_STYLES: dict[Verdict, str] = {
    "wrong": "bold red",
    "variant": "yellow",
    "failed": "magenta",
    "inconclusive": "yellow",
    "sampled": "green",
    "defined": "dim",
    "unsupported": "dim",
    "skipped": "magenta",
}


@dataclass(frozen=True)
class Shown:
    """What of a run is shown.

    Attributes:
        full: everything; else a run of several operators on one screen.
        operators: those that are shown in full.
    """

    full: bool = False
    operators: tuple[str, ...] = ()


OVERVIEW = Shown()
"""A run of several operators on one screen."""


def render(summary: RunSummary, console: Console, shown: Shown = OVERVIEW) -> None:
    """Print a run's overview, or tables, findings, warnings and whereabouts."""
    draw(console, lambda on, signs: _show_chosen(summary, on, shown, signs))


def _show_chosen(summary: RunSummary, console: Console, shown: Shown, signs: bool) -> None:
    if len(summary.operators) > 1 and not shown.full and not shown.operators:
        show_screen(overview_of(summary, signs), console)
        return
    for block in blocks_of(summary, signs, shown.operators):
        _show(block, console)


def _table(columns: Sequence[Column], arms: Sequence[ArmSummary], gap: int) -> list[Text]:
    """Head, rule and rows as lines without trailing blanks; nothing is ever cut off."""
    # No `rich.table`: it fills every line up with blanks, and cuts or folds what is wider than the console.
    widths = column_widths(columns)
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (sum(widths) + gap * (len(widths) - 1))
    rows = []
    for number, arm in enumerate(arms):
        row = row_of(columns, [column.cells[number] for column in columns], widths, gap)
        if arm.verdict is not None:
            start = widths[0] + gap
            style = "bold red" if arm.broken_claims and arm.verdict == "variant" else _STYLES[arm.verdict]
            row.stylize(style, start, start + widths[1])
        rows.append(row)
    return [*heads_of(columns, widths, gap), Text(rule, style="dim"), *rows]


def _show(block: Block, console: Console) -> None:
    """Print a block."""
    match block:
        case Heading(operator, count):
            say(console, f"{operator}, {cases(count)}", style="bold")
        case Sentences(texts, tried):
            say_each(console, texts)
            say_each(console, (tried,) if tried else (), style="dim")
        case Table():
            console.print()
            _show_table(block, console)
        case LengthTable(columns, arms):
            console.print()
            show_lines(_table(columns, arms, gap=2), console)
            console.print()
        case Findings(breakages, remarks):
            say_each(console, [breakage.text for breakage in breakages])
            say_remarks(console, remarks)
            console.print()
        case Legend(lines):
            say_each(console, lines, style="dim")
        case Notices(remarks):
            console.print()
            say(console, "warnings", style="bold")
            say_remarks(console, remarks, bullet="- ")
        case Outcome(text, good, overall):
            console.print()
            say(console, "in short", style="bold")
            say_each(console, [f"- {sentence}" for sentence in overall])
            say(console, f"- {text}", style="bold green" if good else "bold red", indent=2)
            console.print()
        case Whereabouts():
            _show_whereabouts(block, console)
        case _:
            assert_never(block)


def _show_table(table: Table, console: Console) -> None:
    """Show the table as airy as fits, and if need be some columns in words below it, the last ones first."""
    if not table.arms:
        return
    if table.title:
        say(console, table.title)
    tellable = [column for column in table.columns if column.in_words is not None]
    layouts = [(tellable[place:], gap) for place in range(len(tellable), -1, -1) for gap in (2, 1)]
    drawn = [
        (_table([column for column in table.columns if column not in told], table.arms, gap), told)
        for told, gap in layouts
    ]
    fitting = (pair for pair in drawn if max(line.cell_len for line in pair[0]) <= console.width)
    # Where nothing fits, the terminal breaks the lines: better than numbers cut short.
    lines, told = next(fitting, drawn[-1])
    show_lines(lines, console)
    for column in told:
        say_each(console, column.in_words or ())


def _show_whereabouts(found: Whereabouts, console: Console) -> None:
    time = f" ({duration(found.seconds)})" if found.seconds is not None else ""
    lines = [
        f"device    {found.device}",
        f"ceilings  {found.ceilings}",
        *(f"arm       {name}: {provenance}" for name, provenance in found.provenance),
        f"compared  {found.companies:,} batches, {found.rows:,} rows' results, bit for bit",
        f"results   {found.directory}{time}",
    ]
    for line in lines:
        say(console, line, indent=10)
    if found.missing:
        say(console, f"missing   {found.missing} measurements; go on with", indent=10)
        show_command(console, found.resume)
