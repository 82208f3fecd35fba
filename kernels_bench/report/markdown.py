"""A run's summary as Markdown, for GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kernels_bench.report.columns import Column, columns_by_length, columns_of, not_offered, shown_arms
from kernels_bench.report.sentences import (
    breakage_text,
    cases,
    ceiling_text,
    device_text,
    finding_text,
    legend,
    notice_text,
    outcome,
    sentences,
    tried_text,
)
from kernels_bench.report.summary.schema import OperatorSummary, RunSummary


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
    offering = shown_arms(operator)
    yield f"### {operator.operator} ({cases(operator.cases)})"
    yield ""
    if offering:
        yield from _markdown_table(columns_of(operator))
    if operator.lengths:
        yield from _markdown_table(columns_by_length(operator))
    yield from (f"- {_escape(text)}" for text in sentences(offering, operator.default_arm))
    if tried := tried_text(operator):
        yield f"- {_escape(tried)}"
    for arm in offering:
        for breakage in arm.breakages:
            yield f"- {_escape(breakage_text(arm.arm, breakage))}"
            yield from (f"  - {_escape(case)}: {_escape(where)}" for case, where in breakage.by_case.items())
    for arm in operator.arms:
        if not_offered(arm):
            yield f"- {_escape(arm.arm)} unsupported: {_escape('; '.join(arm.reasons[:2]))}"
        for finding in arm.findings:
            yield f"- {_escape(finding_text(arm.arm, finding))}: `{finding.command}`"


def _markdown_table(columns: Sequence[Column]) -> Iterator[str]:
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
