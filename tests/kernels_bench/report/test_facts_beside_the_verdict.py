"""What is told beside a verdict: the order of addition, timed calls with other bits, what is left to callers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.console.printing import NOTHING
from kernels_bench.records.cases import Claims
from kernels_bench.records.results import SURE, Order, RelationResult, power_of
from kernels_bench.report.sentences import breakage_text, legend, order_text, outcome, tried_text
from kernels_bench.report.summary.schema import ArmFact, RunSummary
from kernels_bench.report.summary.summarise import exit_status, summarise_run
from support.records import ENVIRONMENT, HIDDEN, QKV_PROJ, broken, case, facts, held, timed, verified
from support.summaries import arm_of, other_orders, run, same_order

OTHER_BITS = "the last of some timed calls gave other bits than the first call"


@given(st.integers(1, 10**7))
def test_what_power_names_would_have_been_seen(launches: int) -> None:
    named = power_of(launches)
    assert named >= 1
    assert 1 - (1 - 1 / named) ** launches >= SURE
    assert 1 - (1 - 1 / (named + 1)) ** launches < SURE + 1e-9
    assert power_of(launches + 1) >= named


def test_without_a_launch_nothing_would_have_been_seen() -> None:
    assert power_of(0) == 0
    assert power_of(3300) > 700  # what `repeat` is made to show


def test_the_same_order_makes_no_verdict_and_another_one_does() -> None:
    same, other = verified(case(), held(), order=same_order()), verified(case(), held(), order=other_orders())
    assert (same.verdict, other.verdict) == ("sampled", "variant")
    unread = [Order(status="unknown", reason="time was over"), Order(status="unsupported", reason="sorts"), None]
    assert {verified(case(), held(), order=order).verdict for order in unread} == {"sampled"}


def test_a_relation_that_fails_hides_no_other_order() -> None:
    failed = RelationResult(relation="large_batch", status="failed", reason="RuntimeError with 131136 rows")
    assert verified(case(), held(), failed, order=other_orders()).verdict == "variant"
    assert verified(case(), held(), failed, order=same_order()).verdict == "failed"


def test_orders_are_counted_over_the_cases_where_they_can_be_read() -> None:
    orders = [same_order(), other_orders(), Order(status="unknown"), Order(status="unsupported"), None, same_order()]
    shapes = [QKV_PROJ.model_copy(update={"n": 8 * (n + 1)}) for n in range(len(orders))]
    summary = run(*(verified(case(shape=s), held(), order=order) for s, order in zip(shapes, orders, strict=True)))
    arm = arm_of(summary, "torch", "mm")
    assert arm.orders == {"same": 2, "differs": 1, "unknown": 1}
    assert order_text(arm) == "differs 1/4, same 2/4"
    assert any(line.startswith("order of addition: ") for line in legend(summary))
    nothing = arm_of(run(verified(case(), held())), "torch")
    assert (nothing.orders, order_text(nothing)) == ({}, NOTHING)
    unknown = arm_of(run(verified(case(), held(), order=Order(status="unknown"))), "torch")
    assert order_text(unknown) == "unknown 1"
    assert not any(line.startswith("order of addition: ") for line in legend(run(verified(case(), held()))))


def timed_otherwise(claims: Claims) -> RunSummary:
    arms = (ArmFact(name="mine", claims=claims),)
    otherwise, alike = timed(case("mine"), 1, 1.0, other_bits=OTHER_BITS), timed(case("mine"), 16, 1.0)
    return summarise_run([verified(case("mine"), held()), otherwise, alike], facts(arms=arms))


@pytest.mark.parametrize(("claims", "status"), [(True, 1), (("batch_size",), 1), (False, 0)])
def test_timed_calls_with_other_bits_are_told_and_break_a_claim(claims: Claims, status: int) -> None:
    summary = timed_otherwise(claims)
    assert exit_status(summary) == status
    assert f"mine gave other bits when timed than when verified (exit status {status})" in outcome(summary)
    (notice,) = [one for one in summary.notices if one.kind == "bits"]
    assert (notice.text, notice.arms, notice.count) == (OTHER_BITS, ("mine",), 1)
    arm = arm_of(summary, "mine")
    assert (arm.timed, arm.timed_otherwise, arm.verdict) == (2, 1, "sampled")


def test_what_is_left_to_the_callers_is_told_and_makes_no_verdict() -> None:
    left = broken(16, "layout").model_copy(update={"binding": False})
    record = verified(case("mine"), held(), left)
    assert record.verdict == "sampled"
    summary = run(record, arms=(ArmFact(name="mine", claims=("repeat",)),))
    assert exit_status(summary) == 0
    arm = arm_of(summary, "mine", "mm")
    (breakage,) = arm.breakages
    assert breakage_text("mine", breakage).endswith(", which it leaves to its callers: no verdict counts it")
    assert arm.broken_claims == 0
    counted = verified(case("mine"), held(), broken(16, "layout"))
    assert counted.verdict == "variant"
    assert exit_status(run(counted, arms=(ArmFact(name="mine", claims=True),))) == 1


def test_what_only_another_process_shows_is_a_finding_without_a_counterexample() -> None:
    why = "another process, which began with M=1, gave other bits at M=16"
    elsewhere = RelationResult(relation="history", status="broken", reason=why, broken=("first:16",))
    summary = run(verified(case("mine"), held(), elsewhere), arms=(ArmFact(name="mine", claims=True),))
    (finding,) = arm_of(summary, "mine", "mm").findings
    assert (finding.kind, finding.text, finding.counterexample) == ("variant", f"history: {why}", None)
    assert finding.command == "python -m kernels_bench --op mm --arm mine --shapes 4096x4096 --dtype bf16"
    assert exit_status(summary) == 1


@pytest.mark.parametrize(("value", "said"), [("1", True), ("0", False), ("", False), (None, False)])
def test_that_triton_was_interpreted_is_said(value: str | None, said: bool) -> None:
    variables = {} if value is None else {"TRITON_INTERPRET": value}
    summary = run(verified(case("vllm"), held()), environment=ENVIRONMENT.model_copy(update={"variables": variables}))
    note = "Triton kernels ran under its interpreter, where layouts, TF32 and atomics cannot show"
    assert (note in outcome(summary)) == said


def test_how_often_something_was_tried_is_told_by_what_would_have_been_seen() -> None:
    seen = [RelationResult(relation="repeat", status="held", sizes=(1, 5), power=power) for power in (1500, 700)]
    records = [verified(case(shape=shape), one) for shape, one in zip((HIDDEN, QKV_PROJ), seen, strict=True)]
    (operator,) = run(*records).operators
    assert tried_text(operator).endswith("what changes in one call of 700 would have been seen with 99 %")
    (untold,) = run(verified(case(), held())).operators
    assert "99 %" not in tried_text(untold)
