"""What samples say: the median's interval holds, slow clocks are set aside, readers are warned."""

import math
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels_bench.records.results import Samples
from kernels_bench.timing.median import (
    FEWEST,
    FULL_CLOCK,
    GOOD_ENOUGH,
    at_full_clock,
    known_well_enough,
    median_error,
    median_ranks,
    summarise,
)

FULL_MHZ = 1980.0
times = st.floats(0.5, 1e5)


def samples(us: list[float], clock_mhz: list[float] | None = None) -> Samples:
    return Samples(us=tuple(us), clock_mhz=tuple(clock_mhz or ()), calls=1, method="graph")


def coverage(count: int, low: int, high: int) -> Fraction:
    """Exact chance that these order statistics enclose the median of a continuous distribution."""
    # They do unless fewer than low + 1 samples fall below the median, or more than high do.
    return Fraction(sum(math.comb(count, below) for below in range(low + 1, high + 1)), 2**count)


@pytest.mark.parametrize("count", [*range(6, 80), 200, 999, 2000])
def test_ranks_enclose_the_median_with_95_percent_and_no_narrower_pair_does(count: int) -> None:
    low, high = median_ranks(count)
    assert 0 <= low < high < count
    assert high == count - 1 - low
    assert coverage(count, low, high) >= Fraction(95, 100)
    assert coverage(count, low + 1, high - 1) < Fraction(95, 100)


@pytest.mark.parametrize("count", range(1, 6))
def test_too_few_samples_give_their_extremes(count: int) -> None:
    assert median_ranks(count) == (0, count - 1)
    assert coverage(count, 0, count - 1) < Fraction(95, 100)


@pytest.mark.parametrize("count", [6, 12, 25, 60])
@pytest.mark.parametrize("distribution", ["normal", "lognormal", "bimodal"])
def test_the_interval_covers_the_median_in_simulation(count: int, distribution: str) -> None:
    draw = np.random.default_rng(count)
    shape = (20_000, count)
    drawn: dict[str, Callable[[], tuple[NDArray[np.float64], float | None]]] = {
        "normal": lambda: (draw.normal(size=shape), 0.0),
        "lognormal": lambda: (draw.lognormal(sigma=2, size=shape), 1.0),
        "bimodal": lambda: (draw.normal(size=shape) + 100 * (draw.random(shape) < 0.25), None),
    }
    values, median = drawn[distribution]()
    if median is None:
        median = float(np.median(draw.normal(size=10**6) + 100 * (draw.random(10**6) < 0.25)))
    values.sort(axis=1)
    low, high = median_ranks(count)
    share = float(((values[:, low] <= median) & (median <= values[:, high])).mean())
    assert share > 0.945
    assert abs(share - float(coverage(count, low, high))) < 0.01


@given(st.lists(times, min_size=1, max_size=60))
def test_summaries_agree_with_numpy(us: list[float]) -> None:
    found = summarise(samples(us))
    assert (found.p10_us, found.median_us, found.p90_us) == tuple(np.percentile(us, [10, 50, 90]))
    assert (found.samples, found.slowed) == (len(us), 0)
    low, high = median_ranks(len(us))
    half_width = (sorted(us)[high] - sorted(us)[low]) / 2
    assert found.error == pytest.approx(half_width / float(np.median(us)))
    assert found.error == median_error(us)


@given(st.lists(st.tuples(times, st.floats(200, 2100)), min_size=1, max_size=60))
def test_samples_below_full_clock_are_set_aside_unless_too_few_remain(
    taken: list[tuple[float, float]],
) -> None:
    us, clocks = [us for us, _ in taken], [clock for _, clock in taken]
    fast = [us for us, clock in taken if clock >= FULL_CLOCK * FULL_MHZ]
    used = at_full_clock(samples(us, clocks), FULL_MHZ)
    assert used == (fast if len(fast) >= FEWEST else us)
    assert len(used) >= min(FEWEST, len(us))
    found = summarise(samples(us, clocks), FULL_MHZ)
    assert found.samples == len(used)
    assert found.samples + found.slowed == len(us)
    assert found.median_us == float(np.percentile(used, 50))


def test_slow_samples_do_not_move_the_median() -> None:
    steady = [100.0, 100.1, 99.9, 100.0, 100.2, 99.8]
    found = summarise(samples([*steady, *[150.0] * 20], [FULL_MHZ] * 6 + [1300.0] * 20), FULL_MHZ)
    assert found.median_us == pytest.approx(100)
    assert found.slowed == 20
    assert not found.warnings


def test_without_clocks_every_sample_is_used() -> None:
    assert at_full_clock(samples([1.0, 2.0, 3.0]), FULL_MHZ) == [1.0, 2.0, 3.0]
    assert at_full_clock(samples([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), 0.0) == [1.0, 2.0, 3.0]


def test_a_median_is_known_only_with_enough_close_samples() -> None:
    close = [100.0 + 0.01 * place for place in range(12)]
    assert known_well_enough(samples(close), 0.0, 12)
    assert not known_well_enough(samples(close[:-1]), 0.0, 12)
    scattered = [100.0 + 10 * place for place in range(12)]
    assert median_error(scattered) > GOOD_ENOUGH
    assert not known_well_enough(samples(scattered), 0.0, 12)
    slowed = [FULL_MHZ] * 11 + [1000.0]
    assert not known_well_enough(samples(close, slowed), FULL_MHZ, 12)


def test_nothing_is_known_of_no_samples_or_of_times_that_are_not_positive() -> None:
    assert median_error([]) == math.inf
    assert median_error([0.0] * 20) == math.inf
    assert median_error([-1.0] * 20) == math.inf
    assert not known_well_enough(samples([0.0] * 20), 0.0, 12)
    with pytest.raises(ValueError, match="no samples"):
        summarise(samples([]))


@given(st.lists(times, min_size=1, max_size=60), st.floats(0.01, 100))
def test_the_error_does_not_depend_on_the_unit_of_time(us: list[float], unit: float) -> None:
    assert median_error([unit * value for value in us]) == pytest.approx(median_error(us), rel=1e-6, abs=1e-9)


STEADY = [100.0] * 12
WARNINGS = {
    "quiet": (STEADY, [FULL_MHZ] * 12, ()),
    "no clock": (STEADY, [], ()),
    "a few slow": ([*STEADY, 150.0], [FULL_MHZ] * 12 + [900.0], ()),
    "all slow": (STEADY, [1200.0] * 12, ("SM clock 1200 of 1980 MHz",)),
    "few": ([100.0] * 4, [FULL_MHZ] * 4, ("only 4 samples",)),
    "scattered": ([100.0 + 10 * i for i in range(12)], [FULL_MHZ] * 12, ("median known to",)),
    "few, slow and scattered": (
        [100.0, 200.0],
        [900.0, 900.0],
        ("SM clock 900 of 1980 MHz", "only 2 samples", "median known to"),
    ),
    "anything": ([1.0, 900.0] * 6, [], ("the median is not known: samples spread too much; close other programs",)),
    "not positive": ([0.0] * 12, [], ("the median is not known: ",)),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_readers_are_warned_just_when_they_must_be_and_told_the_remedy(case: str) -> None:
    us, clocks, expected = WARNINGS[case]
    found = summarise(samples(us, clocks), FULL_MHZ).warnings
    assert len(found) == len(expected)
    for warning, start in zip(found, expected, strict=True):
        assert warning.startswith(start)
        assert ": " in warning
        # A percentage that tells something, or none.
        assert all(float(share) <= 50 for share in re.findall(r"([\d.]+) %", warning))
