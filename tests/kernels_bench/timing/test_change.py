"""Slow, fast, same or unsure: real runs by pairs, as they are and by what is planted in them."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Case
from kernels_bench.records.latest_records import STATES, LatestRecords, State, measured_in
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Ceiling, Samples, SampleSummary, Timing
from kernels_bench.timing.change import ONE_M, CaseChange, Cycles, Scatter, TimedRun, case_changes, drift_of
from support import BASELINES, DATA, ROOT
from support.records import O_PROJ, case

THE_PAGE = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())

KEPT = BASELINES / "h100-80gb-hbm3"
TWICE = ("once", "again")

TWO_MODES = "vllm/bmm_heads/7x131x193/fp16"
"""Took a quarter longer in two of the six runs than in the four others, in all its timings."""

Planted = Callable[[Case, int, State], float]


def nothing(_: Case, __: int, ___: State) -> float:
    return 0.0


@cache
def six_runs() -> tuple[TimedRun, ...]:
    """Six default runs of the same kernels on six cards, which differ by no less than two runs on one card."""
    cases = TimedRun.of(read_records(KEPT)).records.timings
    told = json.loads(gzip.decompress((DATA / "h100" / "six-runs.json.gz").read_bytes()))
    return tuple(_run(one, cases) for one in told["runs"])


def _run(told: dict[str, Any], cases: dict[str, Timing]) -> TimedRun:
    timings, cycles = {}, {}
    for key, loads in told["timings"].items():
        for m, rows in loads.items():
            name, measured = f"{key}/{m}", dict[str, SampleSummary | None]()
            for state, row in zip(STATES, rows, strict=True):
                measured[state] = None
                if row is not None:
                    us, error, *counted = row
                    measured[state] = SampleSummary(median_us=us, p10_us=us, p90_us=us, error=error, samples=9)
                    if counted:
                        cycles[name, state] = Cycles(*counted)
            timings[name] = cases[name].model_copy(update=measured)
    ceiling = Ceiling(bandwidth_gb_s=told["bandwidth_gb_s"], tflop_s=told["tflop_s"])
    return TimedRun(LatestRecords(timings=timings, ceiling=ceiling), cycles)


def longer(run: TimedRun, planted: Planted) -> TimedRun:
    """A run whose times and cycles are longer by what is planted."""
    timings, cycles = {}, dict(run.cycles)
    for name, timing in run.records.timings.items():
        update: dict[str, SampleSummary] = {}
        for state in STATES:
            measured, share = measured_in(timing, state), planted(timing.case, timing.m, state)
            if measured is not None and share:
                update[state] = measured.model_copy(update={"median_us": measured.median_us * (1 + share)})
                if (name, state) in cycles:
                    one = cycles[name, state]
                    cycles[name, state] = replace(one, median=one.median * (1 + share))
        timings[name] = timing.model_copy(update=update)
    return TimedRun(LatestRecords(timings=timings, ceiling=run.records.ceiling), cycles)


def pair(planted: Planted = nothing) -> tuple[TimedRun, TimedRun]:
    """Two runs on two cards, the second with what is planted."""
    first, *_, last = six_runs()
    return first, longer(last, planted)


def moved(runs: tuple[TimedRun, TimedRun], arm: str = "") -> Counter[tuple[str, str]]:
    changes, _ = case_changes(*runs)
    return Counter((one.moved, one.where) for one in changes if one.key.startswith(arm) and one.key != TWO_MODES)


def words(found: Counter[tuple[str, str]]) -> Counter[str]:
    return Counter({word: sum(n for (one, _), n in found.items() if one == word) for word, _ in found})


@cache
def by_pairs() -> tuple[tuple[TimedRun, TimedRun, tuple[CaseChange, ...], Scatter], ...]:
    return tuple((a, b, *case_changes(a, b)) for a, b in itertools.combinations(six_runs(), 2))


def test_of_1000_cases_of_real_runs_of_the_same_kernels_at_most_one_is_told_to_have_moved() -> None:
    found = [change for *_, changes, _ in by_pairs() for change in changes]
    gone = [change for change in found if change.moved in ("slow", "fast")]
    # Two runs alone cannot tell this one from a kernel that became slower.
    assert [change for change in gone if change.key == TWO_MODES] == gone
    assert f"({len(found)} cases)" in THE_PAGE
    assert f"without a cause {len(gone)} cases were called slow or fast, all {len(gone)} of them" in THE_PAGE
    assert len(found) > 3500
    assert sum(change.moved == "same" for change in found) >= 0.99 * len(found)


def test_of_two_runs_of_one_card_no_case_is_told_to_have_moved() -> None:
    once, again = (TimedRun.of(read_records(BASELINES / "twice" / f"h200-timed-{run}", samples=True)) for run in TWICE)
    found, _ = case_changes(once, again)
    assert {change.moved for change in found} == {"same"}
    assert f"all {len(found)} cases were called same" in THE_PAGE


def tenth(number: int, case: str) -> int:
    """Which tenth of all cases this is in, another for each number."""
    return zlib.crc32(f"{number} {case}".encode()) % 10


def of_case(shares: Mapping[str, float]) -> Planted:
    return lambda of, _, __: shares[of.key]


def planted_in_a_tenth(share: Callable[[Scatter], float]) -> tuple[Counter[str], Counter[str]]:
    """What became of a tenth of all cases made slower by a share, and of another made faster."""
    slower, faster = Counter[str](), Counter[str]()
    for number, (a, b, _, scatter) in enumerate(by_pairs()):
        grown = {0: share(scatter), 1: 1 / (1 + share(scatter)) - 1}
        planted = {key: grown.get(tenth(number, key), 0.0) for key in {t.case.key for t in b.records.timings.values()}}
        changes, _ = case_changes(a, longer(b, of_case(planted)))
        chosen = [(tenth(number, change.key), change.moved) for change in changes if change.key != TWO_MODES]
        slower.update(moved for at, moved in chosen if at == 0)
        faster.update(moved for at, moved in chosen if at == 1)
    return slower, faster


def test_three_percent_planted_in_real_runs_are_found_in_95_of_100_cases() -> None:
    slower, faster = planted_in_a_tenth(lambda _: 0.03)
    assert min(slower.total(), faster.total()) > 300
    assert slower["slow"] + faster["fast"] >= 0.95 * (slower + faster).total(), (slower, faster)
    assert slower["fast"] == faster["slow"] == 0
    share = (slower["slow"] + faster["fast"]) / (slower + faster).total()
    assert f"either way, were found in {100 * share:.1f} of 100" in THE_PAGE


def test_what_moved_at_few_rows_and_with_a_cold_cache_alone_may_lie_elsewhere_in_memory() -> None:
    """As of two runs on one H200, where a case did by 4 to 9 % at M of 1, 16 and 256, and at 2048 by nothing."""
    chosen = "cublas-restricted/linear/24576x4096/bf16"
    first, last = pair(lambda case, m, state: 0.06 if (case.key, state) == (chosen, "cold") and m < 2048 else 0.0)
    (change,) = [one for one in case_changes(first, last)[0] if one.key == chosen]
    assert change.moved == "unsure"
    assert "cold moved by" in change.reason
    whole = pair(lambda case, _, state: 0.06 if (case.key, state) == (chosen, "cold") else 0.0)
    (change,) = [one for one in case_changes(*whole)[0] if one.key == chosen]
    assert (change.moved, change.where) == ("slow", "cold")


def test_what_two_runs_are_said_to_show_they_show_in_95_of_100_cases() -> None:
    slower, faster = planted_in_a_tenth(lambda scatter: scatter.shows or 0.0)
    assert slower["slow"] + faster["fast"] >= 0.95 * (slower + faster).total(), (slower, faster)
    shown = [scatter.shows or math.inf for *_, scatter in by_pairs()]
    assert 0.025 < min(shown) < 0.03 < max(shown) < 0.036


def test_an_arm_that_became_slower_as_a_whole_is_found_and_no_other() -> None:
    runs = pair(lambda of, _, __: 0.03 if of.arm == "vllm" else 0.0)
    found = words(moved(runs, "vllm/"))
    assert found["slow"] >= 0.95 * found.total() > 60
    assert {*words(moved(runs, "torch/"))} <= {"same", "unsure"}


def test_a_build_in_which_every_kernel_became_slower_does_not_hide_that() -> None:
    found = words(moved(pair(lambda *_: 0.05)))
    assert found["slow"] >= 0.95 * found.total()
    assert found["fast"] == 0


def test_what_became_slower_with_a_warm_cache_alone_is_said_to() -> None:
    found = moved(pair(lambda _, __, state: 0.1 if state == "warm" else 0.0))
    assert sum(n for (word, where), n in found.items() if word == "slow" and where in ("", "warm")) > 200
    assert not any(word == "fast" for word, _ in found)


def test_one_m_that_became_much_slower_is_named() -> None:
    found = moved(pair(lambda of, m, _: 0.5 if of.arm == "vllm" and m == 16 else 0.0), "vllm/")
    assert found["slow", "M=16"] >= 0.9 * found.total()


def test_one_m_that_moved_as_far_as_its_place_in_the_cache_may_move_it_is_nothing_certain() -> None:
    found = words(moved(pair(lambda of, m, _: 0.12 if of.arm == "torch" and m == 16 else 0.0), "torch/"))
    assert found["unsure"] >= 0.9 * found.total()
    assert found["slow"] == 0, found


@pytest.mark.parametrize("ceilings", [{"bandwidth_gb_s"}, {"tflop_s"}])
def test_on_a_machine_that_became_slower_itself_nothing_is_said_of_kernels(ceilings: set[str]) -> None:
    first, second = pair(lambda *_: 0.25)
    assert first.records.ceiling is not None
    slower = {
        "bandwidth_gb_s": first.records.ceiling.bandwidth_gb_s / 1.25,
        "tflop_s": {name: speed / 1.25 for name, speed in first.records.ceiling.tflop_s.items()},
    }
    second.records.ceiling = first.records.ceiling.model_copy(update={name: slower[name] for name in ceilings})
    found = words(moved((first, second)))
    assert found["unsure"] >= 0.98 * found.total() > 200
    assert found["slow"] == 0


def few(run: TimedRun, cases: int) -> TimedRun:
    """A run of its first cases, without the clocks."""
    kept = [*dict.fromkeys(timing.case.key for timing in run.records.timings.values())][:cases]
    timings = {name: timing for name, timing in run.records.timings.items() if timing.case.key in kept}
    return TimedRun(LatestRecords(timings=timings, ceiling=run.records.ceiling), {})


def test_without_clocks_a_few_cases_do_not_tell_how_far_runs_differ() -> None:
    first, second = pair(lambda *_: 0.1)
    assert {*words(moved((few(first, 3), few(second, 3))))} == {"unsure"}
    assert {*words(moved((first, second)))} == {"slow"}


MM = case("torch", "mm", O_PROJ)


def one_timing(us: float, error: float, mhz: float | None = None) -> TimedRun:
    """A run of a single timing; where a clock is given, of samples that tell it."""
    measured = SampleSummary(median_us=us, p10_us=us, p90_us=us, error=error, samples=9)
    samples = None if mhz is None else Samples(us=(us,) * 9, clock_mhz=(mhz,) * 9, calls=1, method="graph")
    timing = Timing(case=MM, m=1, status="measured", warm=measured, warm_samples=samples)
    return TimedRun.of([timing, Ceiling(bandwidth_gb_s=1.0, tflop_s={})])


@given(st.floats(0.0, 3.0), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_one_timing_alone_is_never_enough_to_call_a_case_slow_within_its_intervals(
    growth: float, one: float, other: float
) -> None:
    (change,), _ = case_changes(one_timing(100.0, one), one_timing(100.0 * (1 + growth), other))
    if change.moved == "slow":
        assert math.log1p(growth) > max(one + other, ONE_M)
    assert change.moved != "fast"
    assert change.share == pytest.approx(growth)


def test_longer_times_at_a_lower_clock_are_no_slower_kernel() -> None:
    quick, same_cycles = one_timing(100.0, 0.001, mhz=1900.0), one_timing(130.0, 0.001, mhz=1900.0 / 1.3)
    more_cycles = one_timing(130.0, 0.001, mhz=1900.0)
    assert judged(quick, more_cycles).moved == "slow"
    told = judged(quick, same_cycles)
    assert told.moved == "unsure"
    assert told.reason == "it moved by +30.0 %, but only 0 of 1 timings beyond their medians' intervals"


def judged(first: TimedRun, second: TimedRun) -> CaseChange:
    (change,), _ = case_changes(first, second)
    return change


def test_a_machine_drifts_by_its_bandwidth_and_by_no_more_of_its_flops_than_all_cases_did() -> None:
    ceiling = Ceiling(bandwidth_gb_s=100.0, tflop_s={"bf16": 1.0})
    hot = Ceiling(bandwidth_gb_s=99.0, tflop_s={"bf16": 0.9})
    assert drift_of(None, ceiling, 0.5) is None
    assert drift_of(ceiling, Ceiling(bandwidth_gb_s=0.0, tflop_s={"fp8": 1.0}), 0.5) is None
    assert drift_of(ceiling, ceiling, 0.5) == 0.0
    assert drift_of(ceiling, hot, 0.05) == 0.05
    assert drift_of(ceiling, hot, 0.5) == pytest.approx(math.log(1 / 0.9))
    assert drift_of(ceiling, hot, -0.5) == pytest.approx(math.log(1 / 0.99)), "the cases became faster"
