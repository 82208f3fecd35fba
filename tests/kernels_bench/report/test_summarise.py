"""The summary of a run, from made-up records: verdicts, exit status, and in which order arms stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Case, Shape
from kernels_bench.records.results import Accuracy, ArmStart, RelationResult, Timing, Verification
from kernels_bench.report.summary.schema import VERDICTS, ArmFact
from kernels_bench.report.summary.summarise import exit_status
from support.records import QKV_PROJ, broken, case, company, ended, held, timed, verified
from support.summaries import arm_of, run


class TestVerdicts:
    @given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=8))
    def test_an_arm_has_the_worst_of_its_cases(self, verdicts: list[str]) -> None:
        shapes = [Shape(label=f"s/{i}", n=i + 1, k=8) for i in range(len(verdicts))]
        records = [of_verdict(verdict, case(shape=s)) for verdict, s in zip(verdicts, shapes, strict=True)]
        arm = arm_of(run(*records), "torch", "mm")
        assert arm.verdict == min(verdicts, key=VERDICTS.index)
        assert arm.cases == sum(arm.verdicts.values()) == len(verdicts)
        assert arm.verdicts[arm.verdict] == verdicts.count(arm.verdict)

    def test_companies_and_rows_are_added_up(self) -> None:
        arm = arm_of(run(verified(case(), held(), held("position"), broken())), "torch", "mm")
        assert (arm.companies, arm.rows) == (82, 78000)

    def test_the_worst_error_is_kept(self) -> None:
        accuracy = Accuracy(worst=0.9, row=1, company="first:1", index=0, expected=1.0, got=1.0, rows=1)
        records = [
            verified(case()),
            verified(case(dtype="fp16"), accuracy=accuracy),
            ended(case(dtype="fp32"), "failed"),
        ]
        assert arm_of(run(*records), "torch").worst_error == 0.9

    def test_the_last_record_of_a_case_counts(self) -> None:
        first, last = verified(case(), broken()), verified(case(), held())
        assert arm_of(run(first, last), "torch").verdict == "sampled"
        assert arm_of(run(last, first), "torch").verdict == "variant"
        slow, fast = timed(case("vllm"), 1, 20.0), timed(case("vllm"), 1, 5.0)
        speed = arm_of(run(timed(case(), 1, 10.0), slow, fast), "vllm").warm
        assert speed is not None
        assert speed.ratio == pytest.approx(2.0)

    def test_the_smallest_company_gives_the_counterexample(self) -> None:
        records = [
            verified(case(), broken(17)),
            verified(case(shape=QKV_PROJ), broken(64), broken(3, "position")),
        ]
        (finding,) = arm_of(run(*records), "torch", "mm").findings
        assert finding.counterexample is not None
        assert (finding.counterexample.company.size, finding.case.shape) == (3, QKV_PROJ)
        assert finding.command == finding.counterexample.command
        assert "position: row 0 differs at M=3 vs M=4096" in finding.text

    def test_what_the_verdict_counts_goes_before_what_is_left_to_callers(self) -> None:
        left = broken(1, relation="tensor_parallel").model_copy(update={"binding": False})
        (finding,) = arm_of(run(verified(case(), left, broken(64))), "torch", "mm").findings
        assert finding.counterexample is not None
        assert (finding.counterexample.relation, finding.counterexample.company.size) == ("batch_size", 64)

    def test_a_doubtful_difference_is_no_counterexample(self) -> None:
        """Where a kernel is not repeatable, only the repetition counts."""
        doubtful = broken(1).model_copy(update={"status": "inconclusive"})
        repeat = broken(64, "repeat", company=company(64), reference=company(64))
        (finding,) = arm_of(run(verified(case(), repeat, doubtful)), "torch").findings
        assert "repeat: row 0 differs from one call to the next at M=64" in finding.text

    def test_a_wrong_kernel_is_found_beside_its_counterexample(self) -> None:
        summary = run(verified(case("vllm"), broken(), wrong="element 3: 2 where float64 gives 1"))
        wrong, variant = arm_of(summary, "vllm").findings
        assert (wrong.kind, variant.kind) == ("wrong", "variant")
        assert wrong.command == ("python -m kernels_bench --op mm --arm vllm --shapes 4096x4096 --dtype bf16")

    def test_a_plugin_is_named_in_the_command(self) -> None:
        plugged = (ArmFact(name="mine", claims=True, plugin="my kernels.py"),)
        summary = run(verified(case("mine"), wrong="no"), arms=plugged)
        assert arm_of(summary, "mine").findings[0].command.endswith("--plugin 'my kernels.py'")


def of_verdict(verdict: str, of: Case) -> Verification:
    made = {
        "wrong": verified(of, wrong="2 where float64 gives 1"),
        "variant": verified(of, held(), broken()),
        "failed": ended(of, "failed"),
        "inconclusive": verified(of, RelationResult(relation="repeat", status="inconclusive")),
        "sampled": verified(of, held()),
        "defined": verified(of, held(), broken().model_copy(update={"status": "defined"})),
        "unsupported": ended(of, "unsupported"),
        "skipped": ended(of, "skipped"),
    }[verdict]
    assert made.verdict == verdict
    return made


class TestExitStatus:
    @pytest.mark.parametrize(
        ("verdict", "claiming", "claiming_nothing"),
        [
            ("wrong", 1, 1),
            ("variant", 1, 0),
            ("failed", 3, 3),
            ("inconclusive", 3, 0),
            ("sampled", 0, 0),
            ("defined", 0, 0),
            ("unsupported", 0, 0),
            ("skipped", 3, 3),
        ],
    )
    def test_of_each_verdict(self, verdict: str, claiming: int, claiming_nothing: int) -> None:
        assert exit_status(run(of_verdict(verdict, case("vllm")))) == claiming
        assert exit_status(run(of_verdict(verdict, case("torch")))) == claiming_nothing

    @given(st.lists(st.tuples(st.sampled_from(["torch", "vllm"]), st.sampled_from(VERDICTS)), max_size=6))
    def test_1_wins_over_3_and_3_over_0(self, found: list[tuple[str, str]]) -> None:
        cases = [case(arm, shape=Shape(label="s", n=i + 1, k=8)) for i, (arm, _) in enumerate(found)]
        records = [of_verdict(verdict, of) for (_, verdict), of in zip(found, cases, strict=True)]
        alone = {exit_status(run(record)) for record in records}
        assert exit_status(run(*records)) == (1 if 1 in alone else 3 if 3 in alone else 0)

    def test_a_failed_timing_or_relation_or_an_unfinished_run_is_3(self) -> None:
        fine = verified(case("vllm"), held())
        crashed = Timing(case=case("vllm"), m=1, status="failed", reason="killed by SIGSEGV")
        assert exit_status(run(fine, crashed)) == 3
        assert exit_status(run(fine, missing=1)) == 3
        broke = RelationResult(relation="graph", status="failed", reason="no")
        assert exit_status(run(verified(case("torch"), broken(), broke))) == 3

    def test_a_plugin_of_which_nothing_was_examined_is_3(self) -> None:
        """Its kernels may have another operator's name."""
        plugged = (ArmFact(name="mine", claims=True, plugin="my.py"), ArmFact(name="torch", claims=False, plugin=None))
        nothing = ended(case("mine"), "unsupported")
        assert exit_status(run(nothing, arms=plugged)) == 3
        other = verified(case("mine", shape=QKV_PROJ), held())
        assert exit_status(run(nothing, other, arms=plugged)) == 0
        assert exit_status(run(ended(case("torch"), "unsupported"), arms=plugged)) == 0

    def test_a_claim_that_stays_undecided_is_3(self) -> None:
        """A kernel that is not repeatable, whose arm claims other relations only."""
        doubt = RelationResult(relation="batch_size", status="inconclusive", reason="not repeatable")
        record = verified(case("mine"), broken(64, "repeat"), doubt)
        for claims, status in ((("batch_size",), 3), (("position",), 3), (True, 1), (False, 0)):
            start = ArmStart(arm="mine", claims=claims, provenance="", pid=1, seconds=1.0)
            summary = run(start, record)
            assert exit_status(summary) == status
            told = [notice.text for notice in summary.notices]
            wanted = ["relation batch_size is claimed and stays undecided: not repeatable"]
            absent = ["what it claims (position) was not examined"]
            assert told == (wanted if claims is True or claims == ("batch_size",) else absent if claims else [])

    def test_what_an_arm_leaves_open_is_told_though_nobody_introduced_it(self) -> None:
        """As in a run whose worker died first: the status and the notices hold it to the same claims."""
        doubt = RelationResult(relation="batch_size", status="inconclusive", reason="not repeatable")
        summary = run(verified(case("mine"), held("position"), doubt))
        assert exit_status(summary) == 3
        assert [n.text for n in summary.notices] == [
            "relation batch_size is claimed and stays undecided: not repeatable"
        ]

    def test_an_arm_that_nobody_introduced_is_held_to_its_claim(self) -> None:
        assert exit_status(run(verified(case("mine"), broken()))) == 1
        start = ArmStart(arm="mine", claims=False, provenance="", pid=1, seconds=1.0)
        assert exit_status(run(start, verified(case("mine"), broken()))) == 0


def test_arms_stand_in_the_order_of_the_run_and_operators_in_that_of_the_list() -> None:
    records = [
        verified(case(arm, op))
        for op in ("of_another_version", "softmax", "mm")
        for arm in ("samebits", "vllm", "torch")
    ]
    summary = run(*records)
    assert [o.operator for o in summary.operators] == ["mm", "softmax", "of_another_version"]
    assert [arm.arm for arm in summary.operators[0].arms] == ["torch", "vllm", "samebits"]
    assert summary.operators[0].cases == 1


def test_an_empty_run_is_summarised() -> None:
    summary = run()
    assert (summary.operators, summary.arms, exit_status(summary)) == ((), (), 0)
