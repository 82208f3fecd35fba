"""The columns of an operator's table, as text, alike on a terminal and in Markdown."""

from __future__ import annotations

from kernels_bench.console.printing import NOTHING, TIMES
from kernels_bench.console.screen import Column
from kernels_bench.report.sentences import (
    order_text,
    orders_line,
    percent,
    ratio_text,
    same_bits,
    same_bits_lines,
    share_text,
    verdict_text,
)
from kernels_bench.report.summary.schema import ArmSummary, OperatorSummary, Speed


def columns_of(operator: OperatorSummary, signs: bool = True) -> list[Column]:
    """Everything that is said of an operator's arms, as text."""
    arms = shown_arms(operator)
    columns = [
        Column(("", "arm"), tuple(arm.arm for arm in arms), "left"),
        Column(("bits", "(cases)"), tuple(verdict_text(arm, signs) for arm in arms), "left"),
    ]
    if any(arm.orders for arm in arms):
        orders = tuple(order_text(arm) for arm in arms)
        columns.append(Column(("order of", "addition"), orders, "left", (orders_line(arms),)))
    if any(arm.timed for arm in arms):
        columns += _speed_columns(operator)
    alike = tuple(same_bits(arm) for arm in arms)
    return [*columns, Column(("", "same bits as"), alike, "left", tuple(same_bits_lines(arms)))]


def _speed_columns(operator: OperatorSummary) -> list[Column]:
    default, arms = operator.default_arm, shown_arms(operator)
    columns = [Column(("vs", default), tuple(_mean(arm, arm.warm, default) for arm in arms))]
    columns += [Column(("", f"M={m}"), tuple(_mean(arm, arm.warm, default, m) for arm in arms)) for m in operator.sizes]
    columns += [
        Column(("", "cold"), tuple(_mean(arm, arm.cold, default) for arm in arms)),
        Column(("%", "ceiling"), tuple(share_text(arm) for arm in arms)),
    ]
    return columns


def columns_by_length(operator: OperatorSummary) -> list[Column]:
    """Speed and share of the ceiling at each length of sequences, as text."""
    default, arms = operator.default_arm, [arm for arm in operator.arms if arm.timed]
    columns = [Column(("", "arm"), tuple(arm.arm for arm in arms), "left")]
    for number, length in enumerate(operator.lengths):
        cells = tuple(_mean_at(arm, default, length) for arm in arms)
        columns.append(Column((f"vs {default}" if not number else "", f"KV {length:,}"), cells))
    for number, length in enumerate(operator.lengths):
        shares = [arm.ceiling.by_length.get(length) if arm.ceiling is not None else None for arm in arms]
        cells = tuple(NOTHING if share is None else percent(share) for share in shares)
        columns.append(Column(("% ceiling" if not number else "", f"{length:,}"), cells))
    return columns


def _mean_at(arm: ArmSummary, default: str, length: int) -> str:
    ratio = None if arm.warm is None else arm.warm.by_length.get(length)
    return f"1{TIMES}" if ratio is not None and arm.arm == default else ratio_text(ratio)


def _mean(arm: ArmSummary, speed: Speed | None, default: str, m: int | None = None) -> str:
    ratio = None if speed is None else speed.ratio if m is None else speed.by_m.get(m)
    # The default arm is what the others are measured by: no result of a measurement.
    return f"1{TIMES}" if ratio is not None and arm.arm == default else ratio_text(ratio)


def shown_arms(operator: OperatorSummary) -> list[ArmSummary]:
    """The arms that have a row in the operator's table: those that offer it."""
    return [arm for arm in operator.arms if not not_offered(arm)]


def not_offered(arm: ArmSummary) -> bool:
    """Whether an arm does not have the operator at all."""
    return arm.verdict == "unsupported" and not arm.timed
