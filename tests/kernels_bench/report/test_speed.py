"""Speeds in a summary: beside the default arm, and beside the device's ceiling."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.operators import operators
from kernels_bench.records.cases import Precision, Shape
from kernels_bench.records.results import Ceiling, Timing
from kernels_bench.report.sentences import over_ranks_text
from kernels_bench.report.summary.speed import ceiling_share, geometric_mean
from support.records import CEILING, QKV_PROJ, case, timed, verified
from support.summaries import arm_of, run

SPEEDS = st.floats(min_value=1e-3, max_value=1e6)


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


class TestOverRanks:
    """Bandwidths as NCCL's tests count them."""

    SHAPE, BF16 = Shape.of("qwen3-8b/tp4", {"ranks": 4, "hidden": 4096}), Precision.parse("bf16")

    @pytest.mark.parametrize(("operator", "share"), [("all_reduce", 1.5), ("reduce_scatter", 0.75)])
    def test_the_bus_carries_the_message_but_for_what_a_rank_has_itself(self, operator: str, share: float) -> None:
        known = operators()[operator]
        message = known.message_bytes(self.SHAPE, self.BF16, 16)
        assert message == 16 * 4096 * 2
        assert known.bus_bytes(self.SHAPE, self.BF16, 16) == share * message

    def test_the_fastest_timing_of_each_arm_is_told(self) -> None:
        known, us = operators()["all_reduce"], {1: 10.0, 256: 100.0}
        records = [
            timed(
                case("gloo", "all_reduce", self.SHAPE),
                m,
                us[m],
                message_bytes=known.message_bytes(self.SHAPE, self.BF16, m),
                bus_bytes=known.bus_bytes(self.SHAPE, self.BF16, m),
            )
            for m in us
        ]
        arm = arm_of(run(*records), "gloo")
        assert over_ranks_text([arm]) == (
            "all ranks together, the slowest counted, with a warm cache: at most gloo 21 GB/s of messages, "
            "31.5 GB/s on each rank's bus (all_reduce/4x4096/bf16 M=256).",
        )

    def test_nothing_is_told_where_no_ranks_are(self) -> None:
        assert operators()["mm"].message_bytes(QKV_PROJ, self.BF16, 16) == 0
        assert over_ranks_text([arm_of(run(timed(case("vllm"), 16, 10.0)), "vllm")]) == ()
