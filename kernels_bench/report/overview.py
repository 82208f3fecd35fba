"""A whole run on one screen: its answer, operators by arms, the gravest findings, and where the rest is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from kernels_bench.console.printing import NOTHING
from kernels_bench.console.screen import Column, Remark, Screen, inert_part
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.report.columns import not_offered
from kernels_bench.report.sentences import (
    WORDS,
    cases,
    compared_text,
    device_text,
    finding_text,
    kind_of,
    notice_text,
    outcome,
    ratio_text,
)
from kernels_bench.report.summary.schema import (
    GRAVE_WARNINGS,
    SIGNS,
    ArmSummary,
    Finding,
    OperatorSummary,
    RunSummary,
    RunWarning,
    ShapeGroup,
)
from kernels_bench.report.summary.summarise import exit_status

FINDINGS, WARNINGS = 3, 3
"""How many of each are shown, at most."""

INVENTED, TYPED = "  invented", "  typed"
"""Begin the rows of an operator's invented shapes and of sizes that a user gave, below that of models' shapes."""


def overview_of(summary: RunSummary, signs: bool = True) -> Screen:
    """The overview of a run; without ``signs`` the verdicts are words only."""
    rows = rows_of(summary)
    shown = [arm for arm in summary.arms if not not_offered(arm)]
    overview = Screen(
        outcome=outcome(summary),
        good=exit_status(summary) == 0,
        rows=Column(("", "operator"), tuple(name for name, _ in rows), "left"),
        columns=tuple(_column(arm, [arms for _, arms in rows], is_default(arm.arm, summary), signs) for arm in shown),
        legend=f"cases in which an arm kept its bits, of all; speed against {summary.default_arm}, geometric mean",
        findings=tuple(_gravest(summary)),
        unmeasured=tuple(_unmeasured(summary.notices)),
        where=tuple(_where(summary)),
        rest=tuple(_rest(summary)),
    )
    made_inert = inert_part(overview)
    assert isinstance(made_inert, Screen)
    return made_inert


def rows_of(summary: RunSummary) -> list[tuple[str, Sequence[ArmSummary]]]:
    """The matrix's rows: each one's head, and its arms; those of all operators together come last."""
    rows = [row for operator in summary.operators for row in _rows(operator)]
    return rows + ([("all", summary.arms)] if not summary.groups else _totals(summary.groups))


def _rows(operator: OperatorSummary) -> Iterator[tuple[str, Sequence[ArmSummary]]]:
    if not operator.groups:
        yield operator.operator, operator.arms
    for number, group in enumerate(operator.groups):
        kind = INVENTED if group.invented else TYPED if group.typed else ""
        # The first row bears the operator's name, of whatever kind its shapes are.
        yield (kind if number else f"{operator.operator}{kind and ','}{kind[1:]}"), group.arms


def _totals(groups: Sequence[ShapeGroup]) -> list[tuple[str, Sequence[ArmSummary]]]:
    return [(f"all {kind_of(group)} shapes", group.arms) for group in groups]


def is_default(arm: str, summary: RunSummary) -> bool:
    """Whether the others' speeds are multiples of this arm's in every operator."""
    return all(operator.default_arm == arm for operator in summary.operators)


def _column(arm: ArmSummary, rows: Sequence[Sequence[ArmSummary]], default: bool, signs: bool) -> Column:
    """An arm's cells, one for each row's arms; the default arm has no speed, since the others' are multiples of it."""
    mine = [next((one for one in arms if one.arm == arm.arm), None) for arms in rows]
    parts = [(_sign(one, signs), *counts_and_speed(one, default)) for one in mine]
    widths = [max(len(part[place]) for part in parts) for place in range(3)]
    cells = (
        f"{sign}{'' if not sign else ' '}{kept:>{widths[1]}} {speed:>{widths[2]}}".rstrip()
        for sign, kept, speed in parts
    )
    claims = "" if arm.claims else "claims nothing"
    return Column((arm.arm, claims), tuple(cells), "left")


def _sign(arm: ArmSummary | None, signs: bool) -> str:
    if arm is None or not judged(arm):
        return ""
    assert arm.verdict is not None
    return SIGNS.get(arm.verdict, "") if signs else WORDS.get(arm.verdict, arm.verdict)


def judged(arm: ArmSummary) -> bool:
    """Whether an arm has anything to say in a cell."""
    return arm.verdict is not None and not not_offered(arm)


def counts_and_speed(arm: ArmSummary | None, default: bool) -> tuple[str, str]:
    """In how many cases an arm kept its bits, such as ``3/4``, and its speed, which the default arm has none of."""
    if arm is None or not judged(arm):
        return NOTHING, ""
    speed = "" if default or arm.warm is None else ratio_text(arm.warm.ratio)
    if arm.verdict == "defined":
        return WORDS["defined"], speed
    return f"{arm.verdicts.get('sampled', 0)}/{arm.examined or arm.cases}", speed


def _gravest(summary: RunSummary) -> list[Remark]:
    """One finding an arm: results that are wrong first, then claims that were not kept, then what nobody claimed."""
    found = [(arm, finding) for arm in summary.arms for finding in arm.findings[:1]]
    ranked = sorted(found, key=lambda one: _gravity(*one))
    return [Remark(finding_text(arm.arm, finding), finding.command) for arm, finding in ranked[:FINDINGS]]


def _gravity(arm: ArmSummary, finding: Finding) -> int:
    kinds = ("wrong", "variant", "order")
    unclaimed = finding.kind != "wrong" and not arm.broken_claims
    return kinds.index(finding.kind) + len(kinds) * unclaimed


def _unmeasured(notices: Sequence[RunWarning]) -> Iterator[Remark]:
    """What failed, the gravest first; arms that cannot run here and times that are not known well in a line each."""
    grave = [notice for notice in notices if notice.kind in GRAVE_WARNINGS]
    yield from (Remark(notice_text(notice), notice.command) for notice in grave[:WARNINGS])
    if len(grave) > WARNINGS:
        yield Remark(f"{len(grave) - WARNINGS} more warnings like these")
    if absent := _arms(notices, "arm"):
        yield Remark(f"cannot run here: {', '.join(absent)}; --list says what each needs", aside=True)
    if doubtful := sum(notice.count for notice in notices if notice.kind in ("timing", "throttle")):
        yield Remark(f"{doubtful} timings are known badly, or of a card that was held back", aside=True)


def _arms(notices: Sequence[RunWarning], kind: str) -> Collection[str]:
    return dict.fromkeys(arm for notice in notices if notice.kind == kind for arm in notice.arms)


def _where(summary: RunSummary) -> Iterator[str]:
    yield device_text(summary)
    yield f"{cases(sum(arm.cases for arm in summary.arms))}; {compared_text(summary)}"
    yield f"results in {summary.facts.directory}"


def _rest(summary: RunSummary) -> Iterator[tuple[str, str]]:
    directory = summary.facts.directory
    if summary.facts.missing:
        yield command_line(options={"resume": directory}), f"goes on with {summary.facts.missing} measurements"
    first = summary.operators[0].operator if summary.operators else ""
    yield command_line("report", directory, options={"op": first}), "an operator in full, or several"
    yield command_line("report", directory, "--full", options={}), "everything"
