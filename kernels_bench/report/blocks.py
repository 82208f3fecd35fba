"""What a report consists of: typed blocks in the order in which they are told, on a terminal and in Markdown alike.

A new block is made here and then has to be rendered by both: mypy tells where one is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from kernels_bench.console.screen import Column, Remark, inert_part
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.report.columns import columns_by_length, columns_of, not_offered, shown_arms
from kernels_bench.report.sentences import (
    breakage_text,
    ceiling_text,
    device_text,
    finding_text,
    legend,
    not_offered_text,
    notice_text,
    outcome,
    over_ranks_text,
    sentences,
    shapes_text,
    tried_text,
)
from kernels_bench.report.summary.schema import ArmSummary, OperatorSummary, RunSummary
from kernels_bench.report.summary.summarise import exit_status


@dataclass(frozen=True)
class Heading:
    """Begins what is told of one operator, and of how many cases."""

    operator: str
    cases: int


@dataclass(frozen=True)
class Sentences:
    """What was found out of one operator, and what that rests on; ``tried`` is empty where nothing was examined."""

    texts: tuple[str, ...]
    tried: str


@dataclass(frozen=True)
class Table:
    """An operator's arms in rows.

    Attributes:
        columns: as text.
        arms: the rows; none where no arm offers the operator.
        title: of which shapes, where those of models and invented ones have a table each.
    """

    columns: tuple[Column, ...]
    arms: tuple[ArmSummary, ...]
    title: str = ""


@dataclass(frozen=True)
class LengthTable:
    """Speed and share of the ceiling at each length of sequences, the timed arms in rows."""

    columns: tuple[Column, ...]
    arms: tuple[ArmSummary, ...]


@dataclass(frozen=True)
class Breakage:
    """A relation that an arm broke, and where in each case: pairs of the case and where."""

    text: str
    by_case: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Findings:
    """Ends what is told of one operator: what broke, and for each arm a case of it that can be made again."""

    breakages: tuple[Breakage, ...]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Legend:
    """What the words and columns of the tables mean, a line each."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Notices:
    """Warnings; the block is left out where there are none."""

    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Outcome:
    """The run's answer in one sentence.

    Attributes:
        text: the answer.
        good: whether the exit status is 0.
        sentences: what was found out over all operators, where there are several.
    """

    text: str
    good: bool
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Whereabouts:
    """Of what the report is, and where the results are.

    Attributes:
        device: with versions.
        ceilings: as measured.
        provenance: pairs of an arm and the version and path that it used.
        command: that made the run.
        companies: how many were compared.
        rows: how many rows' results were.
        directory: of the run.
        seconds: wall time; None if nobody watched the clock.
        missing: measurements that were planned and not reached.
        resume: the command that goes on with them.
    """

    device: str
    ceilings: str
    provenance: tuple[tuple[str, str], ...]
    command: str
    companies: int
    rows: int
    directory: str
    seconds: float | None
    missing: int
    resume: str


Block = Heading | Sentences | Table | LengthTable | Findings | Legend | Notices | Outcome | Whereabouts


def blocks_of(summary: RunSummary, signs: bool = True, operators: Collection[str] = ()) -> tuple[Block, ...]:
    """The report of a run, whose texts steer nothing; without ``signs`` the verdicts are words only.

    Args:
        summary: of the run.
        signs: whether verdicts have one.
        operators: those to tell of; all if there are none.
    """
    return tuple(map(inert_part, _blocks(summary, signs, operators)))


def _blocks(summary: RunSummary, signs: bool, operators: Collection[str]) -> Iterator[Block]:
    """All of a report, of the operators that were named."""
    for operator in summary.operators:
        if not operators or operator.operator in operators:
            yield from _operator(operator, signs)
    yield Legend(tuple(legend(summary, signs)))
    if summary.notices:
        yield Notices(tuple(Remark(notice_text(notice), notice.command) for notice in summary.notices))
    several = len(summary.operators) > 1
    overall = sentences(summary.arms, summary.default_arm, summary.groups) if several else ()
    yield Outcome(outcome(summary), good=exit_status(summary) == 0, sentences=tuple(overall))
    yield _whereabouts(summary)


def _operator(operator: OperatorSummary, signs: bool) -> Iterator[Block]:
    """One operator's part of it."""
    offering = tuple(shown_arms(operator))
    yield Heading(operator.operator, operator.cases)
    said = (*sentences(offering, operator.default_arm, operator.groups), *over_ranks_text(offering))
    yield Sentences(said, tried_text(operator))
    if not operator.groups:
        yield Table(tuple(columns_of(operator, signs)), offering)
    for group in operator.groups:
        of_these = operator.model_copy(update={"arms": group.arms})
        yield Table(tuple(columns_of(of_these, signs)), tuple(shown_arms(of_these)), shapes_text(group))
    if operator.lengths:
        yield LengthTable(tuple(columns_by_length(operator)), tuple(arm for arm in operator.arms if arm.timed))
    breakages = (
        Breakage(breakage_text(arm.arm, breakage), tuple(breakage.by_case.items()))
        for arm in operator.arms
        for breakage in arm.breakages
    )
    yield Findings(tuple(breakages), tuple(remark for arm in operator.arms for remark in _remarks(arm)))


def _remarks(arm: ArmSummary) -> Iterator[Remark]:
    if not_offered(arm):
        yield Remark(not_offered_text(arm), aside=True)
    yield from (Remark(finding_text(arm.arm, finding), finding.command) for finding in arm.findings)


def _whereabouts(summary: RunSummary) -> Whereabouts:
    """Where it ran, and where its results are."""
    facts = summary.facts
    return Whereabouts(
        device=device_text(summary),
        ceilings=ceiling_text(summary),
        provenance=tuple(summary.provenance.items()),
        command=facts.command,
        companies=sum(arm.companies for arm in summary.arms),
        rows=sum(arm.rows for arm in summary.arms),
        directory=facts.directory,
        seconds=facts.seconds,
        missing=facts.missing,
        resume=command_line(options={"resume": facts.directory}),
    )
