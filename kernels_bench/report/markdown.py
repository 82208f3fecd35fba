"""A run's summary as Markdown, for GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from kernels_bench.console.screen import Column, Remark
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
from kernels_bench.report.sentences import cases
from kernels_bench.report.summary.schema import RunSummary


def markdown(summary: RunSummary) -> str:
    """The tables for GitHub, with device, versions and the command that made them."""
    # A document says first what it is about; on a terminal that stands where the eye is: at the end.
    blocks = sorted(blocks_of(summary), key=lambda block: not isinstance(block, Whereabouts))
    paragraphs = ("\n".join(_lines(block)) for block in blocks)
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _lines(block: Block) -> Iterable[str]:
    """A block as Markdown."""
    lines: Iterable[str]
    match block:
        case Heading(operator, count):
            lines = [f"### {operator} ({cases(count)})"]
        case Sentences(texts, tried):
            lines = _list((*texts, tried) if tried else texts)
        case Table(columns, arms, title):
            lines = [*([f"{title}:", ""] if title else []), *_table(columns)] if arms else ()
        case LengthTable(columns):
            lines = _table(columns)
        case Findings():
            lines = _findings(block)
        case Legend(texts):
            lines = _list(texts)
        case Notices(remarks):
            lines = ["Warnings:", "", *(_remark(remark, " ") for remark in remarks)]
        case Outcome(text):
            lines = [f"In short: {_escape(text)}"]
        case Whereabouts():
            lines = _whereabouts(block)
        case _:
            assert_never(block)
    return lines


def _findings(found: Findings) -> Iterator[str]:
    for breakage in found.breakages:
        yield f"- {_escape(breakage.text)}"
        yield from (f"  - {_escape(case)}: {_escape(where)}" for case, where in breakage.by_case)
    yield from (_remark(remark, ": ") for remark in found.remarks)


def _whereabouts(found: Whereabouts) -> Iterator[str]:
    yield f"**{_escape(found.device)}**"
    yield ""
    yield f"Ceilings measured in the same run: {found.ceilings}."
    yield from (f"`{name}`: {_escape(provenance)}.  " for name, provenance in found.provenance)
    yield from ("", "```sh", found.command, "```")


def _list(texts: Iterable[str]) -> Iterator[str]:
    return (f"- {_escape(text)}" for text in texts)


def _remark(remark: Remark, before_command: str) -> str:
    return f"- {_escape(remark.text)}" + (f"{before_command}`{remark.command}`" if remark.command else "")


def _table(columns: Sequence[Column]) -> Iterator[str]:
    yield _row([" ".join(column.heads).strip() for column in columns])
    yield _row(["---:" if column.justify == "right" else ":---" for column in columns])
    yield from (_row([_escape(cell) for cell in cells]) for cells in zip(*(c.cells for c in columns), strict=True))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKS.sub(r"\\\g<0>", text)


# Underscores within a word mean nothing to GitHub, and would only make the source hard to read.
_MARKS = re.compile(r"[\\|*<`\[]|(?<!\w)_|_(?!\w)")
