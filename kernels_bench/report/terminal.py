"""A run's summary for people, on a terminal; and as JSON for programs."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, assert_never

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kernels_bench.report.blocks import (
    Block,
    Findings,
    Heading,
    Legend,
    LengthTable,
    Notices,
    Outcome,
    Remark,
    Sentences,
    Table,
    Whereabouts,
    blocks_of,
)
from kernels_bench.report.columns import Column
from kernels_bench.report.sentences import NOTHING, TIMES, cases, duration
from kernels_bench.report.summary.schema import ArmSummary, RunSummary, Verdict

_STYLES: dict[Verdict, str] = {
    "wrong": "bold red",
    "variant": "yellow",
    "failed": "magenta",
    "inconclusive": "yellow",
    "sampled": "green",
    "unsupported": "dim",
    "skipped": "magenta",
}
# For output that cannot hold anything but ASCII; every other character becomes a question mark.
_ASCII = str.maketrans({NOTHING: "-", TIMES: "x", "±": "+-", "…": "...", "·": ";", "─": "-", "→": "->"})


def render(summary: RunSummary, console: Console) -> None:
    """Print a run's tables, findings, warnings and whereabouts."""
    if console.encoding.lower().startswith("utf"):
        _show_all(blocks_of(summary), console)
        return
    plain = Console(file=StringIO(), width=console.width, color_system=None, force_terminal=False)
    _show_all(blocks_of(summary, signs=False), plain)
    assert isinstance(plain.file, StringIO)
    text = plain.file.getvalue().translate(_ASCII).encode("ascii", "replace").decode("ascii")
    console.out(text, end="", highlight=False)


def _show_all(blocks: Iterable[Block], console: Console) -> None:
    for block in blocks:
        _show(block, console)


def to_json(summary: RunSummary) -> str:
    """The summary as strict JSON; what it cannot hold becomes ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    return json.dumps(_finite(summary.model_dump(mode="python")), indent=2, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """A copy that strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


# --- the table --------------------------------------------------------------------------------------------


def _table(columns: Sequence[Column], arms: Sequence[ArmSummary], gap: int) -> list[Text]:
    """Head, rule and rows as lines without trailing blanks; nothing is ever cut off."""
    # No `rich.table`: it fills every line up with blanks, and cuts or folds what is wider than the console.
    widths = [max(cell_len(text) for text in (*column.heads, *column.cells)) for column in columns]
    heads = [_line(columns, [column.heads[i] for column in columns], widths, gap) for i in (0, 1)]
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (sum(widths) + gap * (len(widths) - 1))
    rows = []
    for number, arm in enumerate(arms):
        row = _line(columns, [column.cells[number] for column in columns], widths, gap)
        if arm.verdict is not None:
            start = widths[0] + gap
            style = "bold red" if arm.broken_claims and arm.verdict == "variant" else _STYLES[arm.verdict]
            row.stylize(style, start, start + widths[1])
        rows.append(row)
    return [*(Text(head.plain, style="bold") for head in heads if head.plain), Text(rule, style="dim"), *rows]


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], gap: int) -> Text:
    padded = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        blanks = " " * (width - cell_len(cell))
        padded.append(cell + blanks if column.justify == "left" else blanks + cell)
    return Text((" " * gap).join(padded).rstrip())


# --- the terminal -----------------------------------------------------------------------------------------


def _show(block: Block, console: Console) -> None:
    match block:
        case Heading(operator, count):
            _say(console, f"{operator}, {cases(count)}", style="bold")
        case Sentences(texts, tried):
            _say_each(console, texts)
            _say_each(console, (tried,) if tried else (), style="dim")
        case Table():
            console.print()
            _show_table(block, console)
        case LengthTable(columns, arms):
            console.print()
            _show_lines(_table(columns, arms, gap=2), console)
            console.print()
        case Findings(breakages, remarks):
            _say_each(console, [breakage.text for breakage in breakages])
            _say_remarks(console, remarks)
            console.print()
        case Legend(lines):
            _say_each(console, lines, style="dim")
        case Notices(remarks):
            console.print()
            _say(console, "warnings", style="bold")
            _say_remarks(console, remarks, bullet="- ")
        case Outcome(text, good, overall):
            console.print()
            _say(console, "in short", style="bold")
            _say_each(console, [f"- {sentence}" for sentence in overall])
            _say(console, f"- {text}", style="bold green" if good else "bold red", indent=2)
            console.print()
        case Whereabouts():
            _show_whereabouts(block, console)
        case _:
            assert_never(block)


def _show_table(table: Table, console: Console) -> None:
    """Show the table as airy as fits, and if need be some columns in words below it, the last ones first."""
    if not table.arms:
        return
    tellable = [column for column in table.columns if column.in_words is not None]
    layouts = [(tellable[place:], gap) for place in range(len(tellable), -1, -1) for gap in (2, 1)]
    drawn = [
        (_table([column for column in table.columns if column not in told], table.arms, gap), told)
        for told, gap in layouts
    ]
    fitting = (pair for pair in drawn if max(line.cell_len for line in pair[0]) <= console.width)
    # Where nothing fits, the terminal breaks the lines: better than numbers cut short.
    lines, told = next(fitting, drawn[-1])
    _show_lines(lines, console)
    for column in told:
        _say_each(console, column.in_words or ())


def _show_lines(lines: Sequence[Text], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _show_whereabouts(found: Whereabouts, console: Console) -> None:
    time = f" ({duration(found.seconds)})" if found.seconds is not None else ""
    lines = [
        f"device    {found.device}",
        f"ceilings  {found.ceilings}",
        *(f"arm       {name}: {provenance}" for name, provenance in found.provenance),
        f"compared  {found.companies:,} companies, {found.rows:,} rows' results, bit for bit",
        f"results   {found.directory}{time}",
    ]
    for line in lines:
        _say(console, line, indent=10)
    if found.missing:
        _say(console, f"missing   {found.missing} measurements; go on with", indent=10)
        _command(console, found.resume)


def _say_remarks(console: Console, remarks: Iterable[Remark], bullet: str = "") -> None:
    for remark in remarks:
        _say(console, f"{bullet}{remark.text}", style="dim" if remark.aside else "", indent=2)
        if remark.command:
            _command(console, remark.command)


def _say_each(console: Console, texts: Iterable[str], style: str = "") -> None:
    for text in texts:
        _say(console, text, style=style, indent=2)


def _say(console: Console, text: str, style: str = "", indent: int = 0) -> None:
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


def _command(console: Console, command: str) -> None:
    """A command on a line of its own, never broken, so that it can be copied."""
    console.print(Text(f"    {command}", style="cyan"), soft_wrap=True)
