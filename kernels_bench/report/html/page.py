"""A run as a page for people who would rather look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from kernels_bench.records.latest_records import LatestRecords
from kernels_bench.report.blocks import (
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
from kernels_bench.report.html.cases import CaseView, cases_of
from kernels_bench.report.html.frame import render
from kernels_bench.report.html.order_picture import WIDTH, order_pictures
from kernels_bench.report.html.plot import mark
from kernels_bench.report.overview import INVENTED, TYPED, counts_and_speed, is_default, judged, overview_of, rows_of
from kernels_bench.report.sentences import WORDS, cases, compared_text
from kernels_bench.report.summary.schema import VERDICTS, ArmSummary, RunSummary, Verdict

FEW = 3
"""Cases of which all are shown at once."""


@dataclass(frozen=True)
class Cell:
    """An arm in a row of the matrix.

    Attributes:
        arm: its name.
        verdict: None where it has nothing to say.
        counts: in how many cases it kept its bits.
        speed: against the default arm.
        speeds: whether the arm has one in any row.
    """

    arm: str
    verdict: Verdict | None
    counts: str
    speed: str
    speeds: bool


@dataclass(frozen=True)
class MatrixRow:
    """A row of the matrix.

    Attributes:
        name: an operator, or what the row is of.
        operator: whose section it leads to; empty for sums over operators.
        part: whether it is of an operator's invented shapes alone, or of its typed sizes.
        cells: one an arm.
    """

    name: str
    operator: str
    part: bool
    cells: tuple[Cell, ...]


@dataclass
class Section:
    """What is told of one operator."""

    operator: str
    cases: int
    views: Sequence[CaseView]
    sentences: tuple[str, ...] = ()
    tried: str = ""
    tables: list[Table | LengthTable] = field(default_factory=list)
    findings: Findings = field(default_factory=lambda: Findings((), ()))


def page(summary: RunSummary, found: LatestRecords) -> str:
    """The page.

    Args:
        summary: of the run.
        found: the records that it was made from.
    """
    views = cases_of(found, summary)
    sections: list[Section] = []
    told: dict[str, Legend | Notices | Outcome | Whereabouts] = {}
    for block in blocks_of(summary, signs=False):
        match block:
            case Heading(operator, count):
                sections.append(Section(operator, count, views[operator]))
            case Sentences(texts, tried):
                sections[-1].sentences, sections[-1].tried = texts, tried
            case Table() | LengthTable():
                sections[-1].tables.append(block)
            case Findings():
                sections[-1].findings = block
            case Legend() | Notices() | Outcome() | Whereabouts():
                told[type(block).__name__] = block
            case _:
                assert_never(block)
    overview = overview_of(summary, signs=False)
    shown = [arm for arm in summary.arms if judged(arm)]
    return render(
        "run.html",
        title=f"samebits on {summary.facts.device.name}",
        device=summary.facts.device.name,
        looks_of={arm.arm: number for number, arm in enumerate(summary.arms)},
        marks={arm.arm: mark(number) for number, arm in enumerate(summary.arms)},
        arms=shown,
        matrix=_matrix(summary, shown),
        overview=overview,
        sections=sections,
        legend=told["Legend"],
        notices=told.get("Notices"),
        outcome=told["Outcome"],
        about=told["Whereabouts"],
        facts=_facts(summary, len(shown)),
        opened=_opened(views),
        words=WORDS,
        orders=order_pictures(order for each in views.values() for view in each for order in view.orders_in_words),
        order_width=WIDTH,
        verdicts=[verdict for verdict in VERDICTS if any(verdict in arm.verdicts for arm in shown)],
    )


def _facts(summary: RunSummary, arms: int) -> str:
    """How much was compared, in a line."""
    by = f"{cases(sum(operator.cases for operator in summary.operators))} by {arms} arm{'' if arms == 1 else 's'}"
    return f"{by}; {compared_text(summary)}"


def _opened(views: Mapping[str, Sequence[CaseView]]) -> set[str]:
    """The cases that a reader finds open: all of a few, and of many the first, which shows what the others hold."""
    anchors = [view.anchor for each in views.values() for view in each]
    return set(anchors if len(anchors) <= FEW else anchors[:1])


def _matrix(summary: RunSummary, shown: Sequence[ArmSummary]) -> list[MatrixRow]:
    rows, operator = [], ""
    known = {one.operator for one in summary.operators}
    for name, arms in rows_of(summary):
        if name not in (INVENTED, TYPED):
            operator = next((one for one in known if name in (one, f"{one}, typed")), "")
        cells = tuple(_cell(arm.arm, arms, is_default(arm.arm, summary)) for arm in shown)
        rows.append(MatrixRow(name.strip(), operator, name in (INVENTED, TYPED), cells))
    return rows


def _cell(name: str, arms: Sequence[ArmSummary], default: bool) -> Cell:
    arm = next((one for one in arms if one.arm == name), None)
    verdict = arm.verdict if arm is not None and judged(arm) else None
    return Cell(name, verdict, *counts_and_speed(arm, default), speeds=not default)
