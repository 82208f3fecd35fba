"""A run's summary for people: tables for the terminal and for GitHub; and as JSON for programs."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kernels_bench.records.rerun_commands import command_line
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
    percent,
    ratio_text,
    same_bits,
    same_bits_lines,
    sentences,
    share_text,
    tried_text,
    verdict_text,
)
from kernels_bench.report.summary.schema import ArmSummary, OperatorSummary, RunSummary, Speed, Verdict
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


@dataclass(frozen=True)
class _Column:
    heads: tuple[str, str]
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "right"


def _columns(operator: OperatorSummary, signs: bool = True) -> list[_Column]:
    """Everything that is said of an operator's arms, as text."""
    arms = _offering(operator)
    columns = [
        _Column(("", "arm"), tuple(arm.arm for arm in arms), "left"),
        _Column(("verdict", "(cases)"), tuple(verdict_text(arm, signs) for arm in arms), "left"),
    ]
    if any(arm.timed for arm in arms):
        columns += _speed_columns(operator)
    return [*columns, _Column(("", "same bits as"), tuple(same_bits(arm) for arm in arms), "left")]


def _speed_columns(operator: OperatorSummary) -> list[_Column]:
    default, arms = operator.default_arm, _offering(operator)
    columns = [_Column(("vs", default), tuple(_mean(arm, arm.warm, default) for arm in arms))]
    columns += [
        _Column(("", f"M={m}"), tuple(_mean(arm, arm.warm, default, m) for arm in arms)) for m in operator.sizes
    ]
    columns += [
        _Column(("", "cold"), tuple(_mean(arm, arm.cold, default) for arm in arms)),
        _Column(("%", "ceiling"), tuple(share_text(arm) for arm in arms)),
    ]
    return columns


def _columns_by_length(operator: OperatorSummary) -> list[_Column]:
    """Speed and share of the ceiling at each length of sequences, as text."""
    default, arms = operator.default_arm, [arm for arm in operator.arms if arm.timed]
    columns = [_Column(("", "arm"), tuple(arm.arm for arm in arms), "left")]
    for number, length in enumerate(operator.lengths):
        cells = tuple(_mean_at(arm, default, length) for arm in arms)
        columns.append(_Column((f"vs {default}" if not number else "", f"KV {length:,}"), cells))
    for number, length in enumerate(operator.lengths):
        shares = [arm.ceiling.by_length.get(length) if arm.ceiling is not None else None for arm in arms]
        cells = tuple(NOTHING if share is None else percent(share) for share in shares)
        columns.append(_Column(("% ceiling" if not number else "", f"{length:,}"), cells))
    return columns


def _mean_at(arm: ArmSummary, default: str, length: int) -> str:
    ratio = None if arm.warm is None else arm.warm.by_length.get(length)
    return f"1{TIMES}" if ratio is not None and arm.arm == default else ratio_text(ratio)


def _mean(arm: ArmSummary, speed: Speed | None, default: str, m: int | None = None) -> str:
    ratio = None if speed is None else speed.ratio if m is None else speed.by_m.get(m)
    # The default arm is what the others are measured by: no result of a measurement.
    return f"1{TIMES}" if ratio is not None and arm.arm == default else ratio_text(ratio)


def _offering(operator: OperatorSummary) -> list[ArmSummary]:
    return [arm for arm in operator.arms if not _not_offered(arm)]


def _not_offered(arm: ArmSummary) -> bool:
    return arm.verdict == "unsupported" and not arm.timed


def _table(columns: Sequence[_Column], arms: Sequence[ArmSummary], gap: int) -> list[Text]:
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


def _line(columns: Sequence[_Column], cells: Sequence[str], widths: Sequence[int], gap: int) -> Text:
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
    offering = _offering(operator)
    for text in sentences(offering, operator.default_arm):
        _say(console, text, indent=2)
    if tried := tried_text(operator):
        _say(console, tried, style="dim", indent=2)
    console.print()
    if not _print_table(_columns(operator, signs), offering, console):
        for text in same_bits_lines(offering):
            _say(console, text, indent=2)
    if operator.lengths:
        console.print()
        for line in _table(_columns_by_length(operator), [arm for arm in operator.arms if arm.timed], gap=2):
            console.print(line, soft_wrap=True)
        console.print()
    _print_findings(operator, console)


def _print_findings(operator: OperatorSummary, console: Console) -> None:
    """What broke and where, and for each arm one case of it that can be made again."""
    for arm in operator.arms:
        for breakage in arm.breakages:
            _say(console, breakage_text(arm.arm, breakage), indent=2)
    for arm in operator.arms:
        if _not_offered(arm):
            _say(console, f"{arm.arm} unsupported: {'; '.join(arm.reasons[:2])}", style="dim", indent=2)
        for finding in arm.findings:
            _say(console, finding_text(arm.arm, finding), indent=2)
            _command(console, finding.command)
    console.print()


def _print_table(columns: list[_Column], arms: Sequence[ArmSummary], console: Console) -> bool:
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


def markdown(summary: RunSummary) -> str:
    """The tables for GitHub, with device, versions and the command that made them."""
    facts = summary.facts
    lines = [
        f"**{_escape(device_text(summary))}**",
        "",
        f"Ceilings measured in the same run: {ceiling_text(summary)}.",
        *(f"`{name}`: {_escape(provenance)}.  " for name, provenance in summary.provenance.items()),
        "",
        "```sh",
        facts.command,
        "```",
    ]
    for operator in summary.operators:
        lines += ["", *_markdown_operator(operator)]
    lines += ["", *(f"- {_escape(line)}" for line in legend(summary))]
    if summary.notices:
        lines += ["", "Warnings:", ""]
    for notice in summary.notices:
        command = f" `{notice.command}`" if notice.command else ""
        lines.append(f"- {_escape(notice_text(notice))}{command}")
    lines += ["", f"In short: {_escape(outcome(summary))}"]
    return "\n".join(lines)


def _markdown_operator(operator: OperatorSummary) -> Iterator[str]:
    offering = _offering(operator)
    yield f"### {operator.operator} ({cases(operator.cases)})"
    yield ""
    if offering:
        yield from _markdown_table(_columns(operator))
    if operator.lengths:
        yield from _markdown_table(_columns_by_length(operator))
    yield from (f"- {_escape(text)}" for text in sentences(offering, operator.default_arm))
    if tried := tried_text(operator):
        yield f"- {_escape(tried)}"
    for arm in offering:
        for breakage in arm.breakages:
            yield f"- {_escape(breakage_text(arm.arm, breakage))}"
            yield from (f"  - {_escape(case)}: {_escape(where)}" for case, where in breakage.by_case.items())
    for arm in operator.arms:
        if _not_offered(arm):
            yield f"- {_escape(arm.arm)} unsupported: {_escape('; '.join(arm.reasons[:2]))}"
        for finding in arm.findings:
            yield f"- {_escape(finding_text(arm.arm, finding))}: `{finding.command}`"


def _markdown_table(columns: Sequence[_Column]) -> Iterator[str]:
    yield _row([" ".join(column.heads).strip() for column in columns])
    yield _row(["---:" if column.justify == "right" else ":---" for column in columns])
    yield from (_row([_escape(cell) for cell in cells]) for cells in zip(*(c.cells for c in columns), strict=True))
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKS.sub(r"\\\g<0>", text)


# Underscores within a word mean nothing to GitHub, and would only make the source hard to read.
_MARKS = re.compile(r"[\\|*<`\[]|(?<!\w)_|_(?!\w)")
