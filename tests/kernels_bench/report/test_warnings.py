"""What a reader is warned of."""

import pytest

from kernels_bench.records.cases import Device
from kernels_bench.records.results import AnyRecord, Cause, RelationResult, Timing
from kernels_bench.report.summary.schema import ArmFact
from kernels_bench.report.summary.summarise import summarise_run
from support.records import HIDDEN, QKV_PROJ, case, ended, facts, held, measured, timed, verified
from support.summaries import arm_of, run


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
            ("the worker of vllm was killed by SIGTERM", "killed", "--resume "),
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
