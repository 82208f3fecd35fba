"""Findings in words: orders of addition, and where bits differ."""

import math
import re
from typing import Any

import pytest

from kernels_bench.records.results import Order
from kernels_bench.report.summary.findings_text import describe
from kernels_bench.report.summary.schema import ArmFact
from kernels_bench.report.summary.summarise import broken_promises, exit_status
from support.records import broken, case, counterexample, held, verified
from support.summaries import arm_of, other_orders, run, same_order


class TestOrder:
    def test_orders_that_differ_with_the_batch_break_a_claim_that_no_sample_broke(self) -> None:
        record = verified(case("vllm"), held(), order=other_orders())
        assert record.verdict == "variant"
        summary = run(record)
        assert broken_promises(summary) == ("vllm",)
        assert exit_status(summary) == 1
        (finding,) = arm_of(summary, "vllm").findings
        assert finding.kind == "order"
        assert finding.text == "M=1 to 2 (2): 2 parts; M=3 to 5 (3): 8 terms one after the other"
        assert finding.command.startswith("python -m kernels_bench order --op mm --arm vllm")
        assert finding.command.endswith("--batch 1,3")

    def test_an_order_proves_nothing_of_a_case_whose_bits_changed(self) -> None:
        assert verified(case(), held(), broken(), order=same_order()).verdict == "variant"
        assert verified(case(), held(), order=same_order(), wrong="2 is not 1").verdict == "wrong"

    def test_an_order_that_was_not_read_leaves_a_sample(self) -> None:
        unknown = Order(status="unknown", reason="at M=1: not reached in the time given to it")
        assert verified(case(), held(), order=unknown).verdict == "sampled"
        assert exit_status(run(verified(case("vllm"), held(), order=unknown))) == 0

    def test_an_arm_that_claims_no_batch_size_may_change_its_order(self) -> None:
        mine = ArmFact(name="mine", claims=("repeat",))
        summary = run(verified(case("mine"), held(), order=other_orders()), arms=(mine,))
        assert exit_status(summary) == 0


class TestDifferences:
    """ULPs are counted where their number tells something; elsewhere the values' distance does."""

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"ulp": 1, "max_ulp": 2}, "the first by 1 ulp, at most by 2 ulp: 0.125 became 0.125976562"),
            ({"ulp": 3, "max_ulp": 3}, "the first by 3 ulp: "),
            ({"ulp": 4096, "max_ulp": 4096}, "the first by 4,096 ulp: "),
            (
                {"ulp": 876609536, "max_ulp": 1809894016, "expected": 0.0, "got": 1.8e-7},
                "the first by 1.8e-07: 0 became 1.8e-07",
            ),
            (
                {"ulp": 3403776, "max_ulp": 3403776, "expected": -2.18657078e-07, "got": -1.70286512e-07},
                "the first by 4.8e-08: ",
            ),
            ({"ulp": 2, "max_ulp": 10**9}, "the first by 2 ulp, others by more than 4,096 ulp: "),
            ({"ulp": 0, "max_ulp": 0, "expected": 0.0, "got": -0.0}, "the first by the sign of zero: 0 became -0"),
            ({"ulp": None, "max_ulp": None, "got": math.nan}, "the first by NaN: 0.125 became nan"),
            ({"ulp": 10**9, "max_ulp": 10**9, "got": math.inf}, "the first by infinity: 0.125 became inf"),
        ],
    )
    def test_are_told_in_a_form_that_tells_something(self, values: dict[str, Any], said: str) -> None:
        found = counterexample(5, **values)
        assert f"3,986 elements, {said}" in describe(found)
        largest = re.findall(r"([\d,]+) ulp", describe(found))
        assert all(int(count.replace(",", "")) <= 4096 for count in largest)
