"""The summary of operators over sequences."""

from collections.abc import Sequence

import pytest

from kernels_bench.records.cases import Case, Shape
from kernels_bench.records.results import AnyRecord, Timing
from kernels_bench.report.sentences import sentences
from kernels_bench.report.summary.schema import ArmFact, RunFacts, RunSummary
from kernels_bench.report.summary.summarise import broken_promises, exit_status, summarise_run
from support.records import CEILING, broken, case, facts, held, timed, verified


class TestAttention:
    """What only operators over sequences have."""

    LAYOUT = Shape(label="qwen3-8b/attention", heads=32, kv_heads=8, k=128, page=16, tokens=4097)

    def decode(self, arm: str) -> Case:
        return case(arm, "attention_decode", self.LAYOUT)

    def facts(self, *more: ArmFact) -> RunFacts:
        own = ArmFact(name="flash-attn3", claims=False, default_for=("attention_decode",))
        return facts(arms=(ArmFact(name="torch", claims=False), own, *more))

    def at(self, arm: str, m: int, length: int, us: float) -> Timing:
        return timed(self.decode(arm), m, us, length=length)

    def summary(self, *records: AnyRecord, arms: Sequence[ArmFact] = ()) -> RunSummary:
        return summarise_run(records, self.facts(*arms))

    def test_an_operators_own_default_is_what_speeds_are_compared_with(self) -> None:
        times = {"torch": 40.0, "flash-attn3": 10.0, "samebits": 20.0}
        records = [r for arm, us in times.items() for r in (verified(self.decode(arm)), self.at(arm, 1, 128, us))]
        summary = self.summary(*records)
        (operator,) = summary.operators
        assert (operator.default_arm, summary.default_arm) == ("flash-attn3", "flash-attn3")
        assert {arm.arm: arm.warm.ratio for arm in operator.arms if arm.warm} == pytest.approx(
            {"torch": 0.25, "flash-attn3": 1.0, "samebits": 0.5}
        )

    def test_without_it_torch_is_the_default_and_both_together_have_no_single_name(self) -> None:
        attention: list[AnyRecord] = [verified(self.decode("torch")), self.at("torch", 1, 128, 1.0)]
        assert self.summary(*attention).operators[0].default_arm == "torch"
        both = self.summary(verified(self.decode("flash-attn3")), verified(case("torch")))
        assert both.default_arm == "the default arms"

    def test_lengths_are_kept_apart(self) -> None:
        records: list[AnyRecord] = [verified(self.decode(arm)) for arm in ("flash-attn3", "samebits")]
        records += [self.at("flash-attn3", m, n, 10.0) for m in (1, 16) for n in (128, 4096)]
        slower = {(1, 128): 20.0, (1, 4096): 40.0, (16, 128): 80.0, (16, 4096): 40.0}
        records += [self.at("samebits", m, n, us) for (m, n), us in slower.items()]
        (operator,) = self.summary(*records, CEILING).operators
        assert operator.lengths == (128, 4096)
        ours = next(arm for arm in operator.arms if arm.arm == "samebits")
        assert ours.warm is not None
        assert ours.warm.by_length == pytest.approx({128: 0.25, 4096: 0.25})
        assert ours.warm.by_m == pytest.approx({1: 8**-0.5, 16: 32**-0.5})
        assert ours.ceiling is not None
        assert set(ours.ceiling.by_length) == {128, 4096}

    @pytest.mark.parametrize(
        ("claims", "promises", "status"),
        [(True, 1, 1), (("chunking", "batch_size"), 1, 1), (("batch_size",), 0, 0), ((), 0, 0), (False, 0, 0)],
    )
    def test_only_what_an_arm_claims_is_a_promise(
        self, claims: bool | tuple[str, ...], promises: int, status: int
    ) -> None:
        record = verified(self.decode("mine"), held("batch_size"), broken(relation="chunking"))
        summary = self.summary(record, arms=[ArmFact(name="mine", claims=claims)])
        (arm,) = summary.arms
        assert arm.verdict == "variant"
        assert arm.broken_claims == promises
        assert broken_promises(summary) == (("mine",) if promises else ())
        assert exit_status(summary) == status
        words = sentences(summary.arms, "torch")[0]
        assert ("yet" in words) == (promises > 0)
        assert ("claims only batch_size" in words) == (claims == ("batch_size",))
