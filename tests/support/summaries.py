"""Summaries of made-up runs, for the tests."""

from typing import Any

from kernels_bench.records.results import AnyRecord, FoundOrder, Order
from kernels_bench.report.summary.schema import ArmSummary, RunSummary
from kernels_bench.report.summary.summarise import summarise_run
from support.records import facts


def same_order() -> Order:
    return Order(status="proven", found=(FoundOrder(digest="a", words="8 terms", sizes=(1, 2)),), terms=8, columns=1)


def other_orders() -> Order:
    found = (
        FoundOrder(digest="a", words="2 parts", sizes=(1, 2)),
        FoundOrder(digest="b", words="8 terms one after the other", sizes=(3, 4, 5)),
    )
    return Order(status="variant", found=found, witness="terms 0 and 4 meet elsewhere", terms=8, columns=1)


def run(*records: AnyRecord, **changes: Any) -> RunSummary:
    return summarise_run(records, facts(**changes))


def arm_of(summary: RunSummary, name: str, operator: str | None = None) -> ArmSummary:
    arms = next((o.arms for o in summary.operators if o.operator == operator), summary.arms)
    return next(arm for arm in arms if arm.arm == name)
