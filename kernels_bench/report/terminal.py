"""A run's summary for people: tables for the terminal and for GitHub; and as JSON for programs."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kernels_bench.records.rerun_commands import command_line
from kernels_bench.report.columns import Column, columns_by_length, columns_of, not_offered, shown_arms
from kernels_bench.report.sentences import (
    NOTHING,
    TIMES,
    breakage_text,
    cases,
    ceiling_text,
    device_text,
    duration,
    finding_text,
    legend,
    notice_text,
    outcome,
    same_bits_lines,
    sentences,
    tried_text,
)
from kernels_bench.report.summary.schema import ArmSummary, OperatorSummary, RunSummary, Verdict
from kernels_bench.report.summary.summarise import exit_status

_STYLES: dict[Verdict, str] = {
    "wrong": "bold red",
    "variant": "yellow",
    "failed": "magenta",
    "inconclusive": "yellow",
    "sampled": "green",
    "proven": "bold green",
    "unsupported": "dim",
    "skipped": "magenta",
}
# For output that cannot hold anything but ASCII; every other character becomes a question mark.
_ASCII = str.maketrans({NOTHING: "-", TIMES: "x", "±": "+-", "…": "...", "·": ";", "─": "-", "→": "->"})


def render(summary: RunSummary, console: Console) -> None:
    """Print a run's tables, findings, warnings and whereabouts."""
    if console.encoding.lower().startswith("utf"):
        _print(summary, console, signs=True)
        return
    plain = Console(file=StringIO(), width=console.width, color_system=None, force_terminal=False)
    _print(summary, plain, signs=False)
    assert isinstance(plain.file, StringIO)
    text = plain.file.getvalue().translate(_ASCII).encode("ascii", "replace").decode("ascii")
    console.out(text, end="", highlight=False)


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


def _print(summary: RunSummary, console: Console, signs: bool) -> None:
    for operator in summary.operators:
        _print_operator(operator, console, signs)
    for line in legend(summary, signs):
        _say(console, line, style="dim", indent=2)
    if summary.notices:
        console.print()
        _say(console, "warnings", style="bold")
    for notice in summary.notices:
        _say(console, f"- {notice_text(notice)}", indent=2)
        if notice.command:
            _command(console, notice.command)
    console.print()
    _say(console, "in short", style="bold")
    if len(summary.operators) > 1:
        for text in sentences(summary.arms, summary.default_arm):
            _say(console, f"- {text}", indent=2)
    good = exit_status(summary) == 0
    _say(console, f"- {outcome(summary)}", style="bold green" if good else "bold red", indent=2)
    console.print()
    _print_whereabouts(summary, console)


def _print_operator(operator: OperatorSummary, console: Console, signs: bool) -> None:
    _say(console, f"{operator.operator}, {cases(operator.cases)}", style="bold")
    offering = shown_arms(operator)
    for text in sentences(offering, operator.default_arm):
        _say(console, text, indent=2)
    if tried := tried_text(operator):
        _say(console, tried, style="dim", indent=2)
    console.print()
    if not _print_table(columns_of(operator, signs), offering, console):
        for text in same_bits_lines(offering):
            _say(console, text, indent=2)
    if operator.lengths:
        console.print()
        for line in _table(columns_by_length(operator), [arm for arm in operator.arms if arm.timed], gap=2):
            console.print(line, soft_wrap=True)
        console.print()
    _print_findings(operator, console)


def _print_findings(operator: OperatorSummary, console: Console) -> None:
    """What broke and where, and for each arm one case of it that can be made again."""
    for arm in operator.arms:
        for breakage in arm.breakages:
            _say(console, breakage_text(arm.arm, breakage), indent=2)
    for arm in operator.arms:
        if not_offered(arm):
            _say(console, f"{arm.arm} unsupported: {'; '.join(arm.reasons[:2])}", style="dim", indent=2)
        for finding in arm.findings:
            _say(console, finding_text(arm.arm, finding), indent=2)
            _command(console, finding.command)
    console.print()


def _print_table(columns: list[Column], arms: Sequence[ArmSummary], console: Console) -> bool:
    """Print the table as airy as fits, without its last column if need be; tell whether that was shown."""
    if not arms:
        return True
    layouts = [(columns, 2), (columns[:-1], 2), (columns[:-1], 1)]
    tables = [(_table(chosen, arms, gap), chosen is columns) for chosen, gap in layouts]
    fitting = (pair for pair in tables if max(line.cell_len for line in pair[0]) <= console.width)
    # Where nothing fits, the terminal breaks the lines: better than numbers cut short.
    lines, whole = next(fitting, tables[-1])
    for line in lines:
        console.print(line, soft_wrap=True)
    return whole


def _print_whereabouts(summary: RunSummary, console: Console) -> None:
    facts = summary.facts
    _say(console, f"device    {device_text(summary)}", indent=10)
    _say(console, f"ceilings  {ceiling_text(summary)}", indent=10)
    for name, provenance in summary.provenance.items():
        _say(console, f"arm       {name}: {provenance}", indent=10)
    compared = [sum(getattr(arm, what) for arm in summary.arms) for what in ("companies", "rows")]
    _say(console, f"compared  {compared[0]:,} companies, {compared[1]:,} rows' results, bit for bit", indent=10)
    time = f" ({duration(facts.seconds)})" if facts.seconds is not None else ""
    _say(console, f"results   {facts.directory}{time}", indent=10)
    if facts.missing:
        _say(console, f"missing   {facts.missing} measurements; go on with", indent=10)
        _command(console, command_line(options={"resume": facts.directory}))


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


# --- Markdown ---------------------------------------------------------------------------------------------
