"""The summary of a run, from made-up records."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Case, Device, Shape
from kernels_bench.records.results import (
    Accuracy,
    AnyRecord,
    ArmStart,
    Cause,
    Ceiling,
    FoundOrder,
    Order,
    RelationResult,
    Timing,
    Verification,
)
from kernels_bench.report.sentences import sentences
from kernels_bench.report.summary.findings_text import describe
from kernels_bench.report.summary.schema import VERDICTS, ArmFact, ArmSummary, RunFacts, RunSummary
from kernels_bench.report.summary.speed import ceiling_share, geometric_mean
from kernels_bench.report.summary.summarise import broken_promises, exit_status, summarise_run
from support.records import (
    CEILING,
    HIDDEN,
    QKV_PROJ,
    broken,
    case,
    company,
    counterexample,
    ended,
    facts,
    held,
    measured,
    timed,
    verified,
)


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


SPEEDS = st.floats(min_value=1e-3, max_value=1e6)
DIGESTS = st.dictionaries(st.sampled_from([1, 16, 256, 2048]), st.sampled_from("ab"), max_size=4)


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
        "proven": verified(of, held(), order=same_order()),
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
            ("proven", 0, 0),
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


class TestSpeed:
    @given(st.dictionaries(st.integers(1, 4096), SPEEDS, min_size=1, max_size=8))
    def test_an_arm_with_the_same_times_is_exactly_as_fast(self, times: dict[int, float]) -> None:
        records = [timed(case(arm), m, us) for arm in ("torch", "vllm") for m, us in times.items()]
        for speed in (arm_of(run(*records), "vllm").warm, arm_of(run(*records), "vllm").cold):
            assert speed is not None
            assert speed.ratio == 1.0
            assert speed.by_m == dict.fromkeys(sorted(times), 1.0)
            assert (speed.cases, speed.timings) == (1, len(times))

    @given(st.lists(st.tuples(SPEEDS, SPEEDS), min_size=1, max_size=8))
    def test_swapping_the_arms_inverts_the_ratio(self, times: list[tuple[float, float]]) -> None:
        ratios = [a / b for a, b in times]
        inverse = [b / a for a, b in times]
        assert geometric_mean(ratios) * geometric_mean(inverse) == pytest.approx(1.0)
        assert min(ratios) <= geometric_mean(ratios) * (1 + 1e-9)
        assert geometric_mean(ratios) <= max(ratios) * (1 + 1e-9)

    def test_below_one_is_slower_and_m_are_kept_apart(self) -> None:
        records = [timed(case(), 1, 10.0), timed(case(), 16, 10.0), timed(case("vllm"), 1, 40.0, 20.0)]
        arm = arm_of(run(*records, timed(case("vllm"), 16, 10.0)), "vllm")
        assert arm.warm is not None
        assert arm.cold is not None
        assert arm.warm.by_m == pytest.approx({1: 0.25, 16: 1.0})
        assert arm.warm.ratio == pytest.approx(0.5)
        assert arm.cold.by_m[1] == pytest.approx(12.5 / 20.0)

    def test_only_what_both_measured_is_compared(self) -> None:
        failed = Timing(case=case(shape=QKV_PROJ), m=1, status="failed", reason="no")
        other = [timed(case("vllm", shape=QKV_PROJ), 1, 1.0), timed(case("vllm", dtype="fp16"), 1, 1.0)]
        both = [timed(case(), 1, 10.0), timed(case("vllm"), 1, 20.0), timed(case("vllm"), 16, 1.0)]
        speed = arm_of(run(failed, *other, *both), "vllm").warm
        assert speed is not None
        assert (speed.cases, speed.timings) == (1, 1)
        assert speed.by_m == pytest.approx({1: 0.5})
        assert arm_of(run(*other, failed), "vllm").warm is None

    @pytest.mark.parametrize("median", [0.0, -0.2, math.nan, math.inf])
    def test_a_median_that_is_no_time_is_left_out_and_said(self, median: float) -> None:
        summary = run(timed(case(), 1, 10.0), timed(case("vllm"), 1, median, 20.0))
        assert arm_of(summary, "vllm").warm is None
        assert arm_of(summary, "vllm").cold is not None
        assert any("not a positive time" in notice.text for notice in summary.notices)

    @pytest.mark.parametrize(
        ("sizes", "shown"),
        [
            ((1, 16, 17, 256, 2048), (1, 16, 256, 2048)),
            ((1, 2, 16), (1, 16)),
            ((5,), (5,)),
            ((3, 5, 7, 9, 11, 13), (3, 5, 9, 13)),
            ((), ()),
        ],
    )
    def test_tables_show_the_usual_m_or_else_some_that_were_timed(
        self, sizes: tuple[int, ...], shown: tuple[int, ...]
    ) -> None:
        summary = run(verified(case()), *(timed(case(), m, 1.0) for m in sizes))
        assert summary.operators[0].sizes == shown


class TestCeiling:
    def test_what_is_bound_by_bandwidth_is_judged_by_its_cold_time(self) -> None:
        # 3 MB at 3000 GB/s take 1 µs; warm, out of L2, the kernel beats that.
        timing = timed(case(), 1, 0.5, 2.0, bytes_moved=3_000_000, operations=1)
        assert ceiling_share(timing, CEILING) == pytest.approx(0.5)
        unknown = timing.model_copy(update={"cold": None})
        assert ceiling_share(unknown, CEILING) is None

    def test_what_is_bound_by_arithmetic_is_judged_by_its_inputs_peak(self) -> None:
        # 700e6 operations at 700 TFLOP/s take 1 µs.
        timing = timed(case(dtype="bf16:fp32"), 1, 4.0, 9.0, bytes_moved=1, operations=700_000_000)
        assert ceiling_share(timing, CEILING) == pytest.approx(0.25)

    def test_median_and_best_over_timings(self) -> None:
        records = [
            timed(case(), m, 1.0, cold, bytes_moved=3_000_000, operations=1)
            for m, cold in ((1, 2.0), (16, 4.0), (256, 1.25))
        ]
        share = arm_of(run(CEILING, *records), "torch", "mm").ceiling
        assert share is not None
        assert (share.median, share.best) == pytest.approx((0.5, 0.8))
        assert share.timings == 3
        assert arm_of(run(*records), "torch").ceiling is None

    def test_a_dtype_without_a_peak_has_no_share(self) -> None:
        ceiling = Ceiling(bandwidth_gb_s=3000.0, tflop_s={"fp32": 50.0})
        assert ceiling_share(timed(case(), 1, 1.0), ceiling) is None


class TestSameBits:
    @given(st.lists(st.tuples(DIGESTS, DIGESTS), min_size=1, max_size=4))
    def test_the_relation_is_symmetric_and_true(self, digests: list[tuple[dict[int, str], dict[int, str]]]) -> None:
        records = []
        for i, (ours, theirs) in enumerate(digests):
            shape = Shape(label="s", n=i + 1, k=8)
            records += [verified(case("vllm", shape=shape), digests=ours)]
            records += [verified(case("torch", shape=shape), digests=theirs)]
        vllm, torch = arm_of(run(*records), "vllm").same_bits, arm_of(run(*records), "torch").same_bits
        swapped = [same.model_copy(update={"arm": "vllm"}) for same in vllm]
        assert swapped == list(torch)
        pairs = [(m, ours[m] == theirs[m]) for ours, theirs in digests for m in ours.keys() & theirs.keys()]
        assert bool(vllm) == any(equal for _, equal in pairs)
        for same in vllm:
            assert (same.equal, same.compared) == (sum(equal for _, equal in pairs), len(pairs))
            assert set(same.sizes) == {m for m, _ in pairs} - {m for m, equal in pairs if not equal}

    def test_everywhere_at_some_m_or_at_times(self) -> None:
        def same(*digests: tuple[dict[int, str], dict[int, str]]) -> str:
            shapes = [Shape(label="s", n=i + 1, k=8) for i in range(len(digests))]
            pairs = list(zip(shapes, digests, strict=True))
            ours = [verified(case("vllm", shape=s), digests=d[0]) for s, d in pairs]
            theirs = [verified(case("torch", shape=s), digests=d[1]) for s, d in pairs]
            return "".join(s.arm + s.where for s in arm_of(run(*ours, *theirs), "vllm").same_bits)

        assert same(({1: "a", 256: "b"}, {1: "a", 256: "b"})) == "torch"
        assert same(({1: "a", 256: "b"}, {1: "x", 256: "b"})) == "torch at M=256"
        assert same(({1: "a", 256: "b"}, {1: "x", 256: "y"})) == ""
        assert same(({1: "a"}, {1: "a"}), ({1: "b"}, {1: "y"})) == "torch in 1 of 2 outputs"
        assert same(({1: "a"}, {256: "a"})) == ""

    def test_other_operators_cases_and_unmeasured_ones_do_not_count(self) -> None:
        records = [
            verified(case("vllm", dtype="bf16"), digests={1: "a"}),
            verified(case("torch", dtype="fp16"), digests={1: "a"}),
            Verification(case=case("samebits"), status="failed", reason="no", digests={1: "a"}),
        ]
        assert arm_of(run(*records), "vllm").same_bits == ()


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


class TestNotices:
    def test_alike_warnings_are_said_once_with_their_range(self) -> None:
        text = "median known to ±{} % only: close other programs and run again"
        records = [
            timed(case(arm), m, 1.0, warm=measured(1.0, [text.format(error)]))
            for arm, m, error in (("torch", 1, "2.5"), ("torch", 16, "11.0"), ("vllm", 1, "3.0"))
        ]
        (notice,) = run(*records).notices
        assert notice.text == text.format("2.5 to 11.0")
        assert (notice.count, notice.arms, notice.example) == (
            3,
            ("torch", "vllm"),
            "torch/mm/4096x4096/bf16/1",
        )

    def test_a_timing_disturbed_warm_and_cold_counts_once(self) -> None:
        slow = measured(1.0, ["SM clock 1200 of 1980 MHz: time on a cooler card"])
        (notice,) = run(timed(case(), 1, 1.0, warm=slow, cold=slow)).notices
        assert (notice.count, notice.text) == (1, slow.warnings[0])

    def test_names_with_digits_are_not_numbers(self) -> None:
        texts = ["fp16 needs 4096x4096 in v2.11.0", "fp32 needs 4096x4096 in v2.11.0"]
        records = [timed(case(), m, 1.0, warm=measured(1.0, [text])) for m, text in zip((1, 2), texts, strict=True)]
        assert {notice.text for notice in run(*records).notices} == set(texts)

    def test_every_notice_names_a_remedy(self) -> None:
        records: list[AnyRecord] = [
            timed(case(), 1, 1.0, throttle_reasons=("sw_power_cap", "unknown_0x800")),
            ended(case("vllm"), "failed", "out of memory: tried to allocate 2.00 GiB"),
            ended(case("vllm", shape=QKV_PROJ), "failed", "no answer within 60 s (--timeout)"),
            ended(case("samebits"), "failed", "killed by SIGSEGV"),
            ended(case("samebits", dtype="fp16"), "skipped", "skipped after 3 deaths in a row"),
            ended(case("torch", dtype="bf16:fp32"), "unsupported", "on CUDA only"),
            verified(
                case("torch"),
                held(),
                RelationResult(relation="graph", status="unsupported", reason="no graphs"),
            ),
        ]
        summary = run(*records, arms=(ArmFact(name="vllm", claims=True, unavailable="no CUDA GPU"),))
        assert all(notice.remedy for notice in summary.notices)
        assert {notice.kind for notice in summary.notices} == {
            "failed", "skipped", "relation", "arm", "unsupported", "throttle"
        }  # fmt: skip
        remedies = {notice.text.split()[0]: notice for notice in summary.notices if notice.kind == "failed"}
        assert "memory" in remedies["out"].remedy
        assert "--timeout" in remedies["no"].remedy
        assert "samebits.log" in remedies["killed"].remedy
        assert remedies["killed"].command.startswith("python -m kernels_bench --op mm --arm samebits")

    @pytest.mark.parametrize(
        ("reason", "cause", "remedy"),
        [
            # Runs of before causes were kept: their words are all there is.
            ("CUDA error: Out of Memory", None, "free the device's memory"),
            ("skipped after 3 deaths in a row; the last: no answer within 5 s (--timeout)", None, "raise --timeout"),
            ("TimeoutError: the ring timed out", None, "raise --timeout"),
            ("killed by SIGSEGV", None, "its worker's own words"),
            # Words that a kernel chooses are no cause.
            (
                "RuntimeError: no answer from the peer, which timed out: out of memory",
                "other",
                "its worker's own words",
            ),
            ("there was no room", "out_of_memory", "free the device's memory"),
            ("it took too long", "no_answer", "raise --timeout"),
        ],
    )
    def test_the_remedy_is_that_of_the_cause(self, reason: str, cause: Cause | None, remedy: str) -> None:
        failed = ended(case("vllm"), "failed", reason).model_copy(update={"cause": cause})
        untimed = Timing(case=case("samebits"), m=16, status="failed", reason=reason, cause=cause)
        found = run(failed, untimed).notices
        assert [notice.remedy.startswith(remedy) for notice in found] == [True, True]

    @pytest.mark.parametrize("on", [Device(type="cpu", name="AMD EPYC"), facts().device])
    @pytest.mark.parametrize("relation", ["graph", "position", "of another version"])
    def test_a_gpu_helps_only_a_relation_that_needs_one_and_has_none(self, on: Device, relation: str) -> None:
        result = RelationResult(relation=relation, status="unsupported", reason="needs a CUDA device")
        (notice,) = summarise_run([verified(case("torch"), held(), result)], facts(device=on)).notices
        assert ("NVIDIA GPU" in notice.remedy) == (on.type == "cpu" and relation == "graph")

    def test_what_a_verification_said_is_not_said_again_of_its_timings(self) -> None:
        untimed = [Timing(case=case("vllm"), m=m, status="skipped", reason="killed by SIGSEGV") for m in (1, 16, 256)]
        (notice,) = run(ended(case("vllm"), "failed", "killed by SIGSEGV"), *untimed).notices
        assert (notice.kind, notice.count) == ("failed", 1)
        assert run(verified(case("vllm"), wrong="no"), *untimed).notices == ()

    def test_an_operator_that_an_arm_does_not_offer_is_no_warning(self) -> None:
        absent = ended(case("vllm", "rms_norm", HIDDEN), "unsupported", "the arm has no rms_norm")
        summary = run(verified(case("vllm")), absent)
        assert summary.notices == ()
        assert arm_of(summary, "vllm", "rms_norm").reasons == ("the arm has no rms_norm",)


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
