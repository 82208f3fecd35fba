"""Speeds and overheads, an arm's verdict from its records, and the exit status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.records import Answer
from e2e.report.speeds import beside_baseline, overhead, paired_overheads, price, speed, verdicts
from e2e.report.text import report
from e2e.workload.arms import CLAIMING
from e2e.workload.trials import STAGGERED
from support.e2e_answers import OTHER_BITS, SMALL, answer, ledger, manifest, started, status_of, trial


def test_overheads_compare_trials_of_the_same_sequences() -> None:
    """Also where an arm has lost some; the staggered one is not timed."""
    usual = [trial(0, seconds=1.0), trial(1, seconds=4.0), trial(2, seconds=2.0), trial(STAGGERED, seconds=1.0)]
    other = [trial(2, seconds=3.0), trial(1, seconds=3.0), trial(STAGGERED, seconds=9.0)]
    assert paired_overheads(usual, other) == (-25.0, 50.0)
    assert paired_overheads(usual, usual) == (0.0, 0.0, 0.0)
    assert paired_overheads(usual, [trial(3)]) == ()


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1))
def test_the_mean_overhead_lies_between_those_of_the_trials(seconds: list[tuple[float, float]]) -> None:
    base = [trial(number, seconds=a) for number, (a, _) in enumerate(seconds)]
    other = [trial(number, seconds=b) for number, (_, b) in enumerate(seconds)]
    each = paired_overheads(base, other)
    whole = overhead(sum(a for a, _ in seconds), sum(b for _, b in seconds))
    assert len(each) == len(seconds)
    assert each[0] - 1e-6 <= whole <= each[-1] + 1e-6


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=40))
def test_a_price_lies_in_its_interval_and_is_known_only_beside_zero(seconds: list[tuple[float, float]]) -> None:
    base = [trial(number, seconds=a) for number, (a, _) in enumerate(seconds)]
    other = [trial(number, seconds=b) for number, (_, b) in enumerate(seconds)]
    found = price(base, other)
    assert found is not None
    if found.low is None or found.high is None:
        assert len(seconds) == 1
        assert not found.known
    else:
        assert found.low <= found.share + 1e-6
        assert found.share <= found.high + 1e-6
        assert found.known == (found.low > 0 or found.high < 0)


def test_a_price_has_the_interval_that_students_t_gives() -> None:
    """Ratios of 1.1, 1.2 and 1.3: 4.303 standard errors of the mean logarithm either way."""
    base = [trial(number, seconds=1.0) for number in range(3)]
    found = price(base, [trial(number, seconds=ratio) for number, ratio in enumerate((1.1, 1.2, 1.3))])
    assert found is not None
    assert (found.share, found.low, found.high) == pytest.approx((19.722, -2.718, 47.337), abs=0.005)
    assert not found.known
    assert price(base, []) is None


@pytest.mark.parametrize(
    ("baseline", "other", "status"),
    [(OTHER_BITS, answer(), 0), (OTHER_BITS, OTHER_BITS, 1), (answer(), OTHER_BITS, 1), (answer(), answer(), 3)],
)
def test_exit_status(baseline: Answer, other: Answer, status: int) -> None:
    for arm in CLAIMING:
        known = ledger(baseline, other, arm)
        assert status_of(manifest("baseline", arm), known) == status


def test_a_run_that_is_not_complete_is_never_called_invariant() -> None:
    """As after a kill, Ctrl-C or a full disk: what was not tried cannot have held."""
    known = ledger(OTHER_BITS, answer(), "serial")
    whole = manifest("baseline", "serial")
    assert status_of(whole, known) == 0
    cut = manifest("baseline", "serial", trials=(0, 1, 2, STAGGERED))
    assert (cut.asked("baseline"), cut.asked("serial")) == ((0, 1, 2, STAGGERED), (0, 1, 2))
    found = verdicts(known, cut.asked)
    assert (found["serial"].verdict, found["serial"].missing) == ("inconclusive", 2)
    assert status_of(cut, known) == 3
    text = "\n".join(report(cut, known, "d"))
    assert "serial: inconclusive (2 of its 3 trials were not run; go on with --resume)" in text
    assert "  2 of its trials were not run; go on with --resume" in text.split("serial: ")[0]  # the baseline
    assert status_of(cut, ledger(OTHER_BITS, OTHER_BITS, "serial")) == 1
    assert set(manifest("baseline", trials=None).asked("baseline")) == {*range(SMALL.num_trials), STAGGERED}


def test_a_baseline_that_is_not_complete_is_3_though_the_others_are() -> None:
    known = ledger(OTHER_BITS, answer(), "serial")
    known.trials["baseline"] = [trial(0, OTHER_BITS)]
    known.trials["serial"] = [trial(n, answer(), arm="serial") for n in (0, 1)]
    assert status_of(manifest("baseline", "serial", trials=(0, 1)), known) == 3


def test_times_are_compared_over_the_trials_that_both_have_run() -> None:
    known = ledger(OTHER_BITS, answer())
    known.trials["baseline"] = [trial(0, seconds=1.0), trial(1, seconds=9.0)]
    known.trials["batch-invariant"] = [trial(0, arm="batch-invariant", seconds=2.0)]
    both = beside_baseline(known, "batch-invariant")
    assert both is not None
    assert [numbers.avg_time for numbers in both] == [1.0, 2.0]
    assert beside_baseline(known, "serial") is None


def test_speeds_are_counted_as_upstream_counts_them() -> None:
    found = speed(started("baseline"), [trial(0, seconds=1.0, tokens=10), trial(1, seconds=3.0, tokens=30)])
    assert found is not None
    assert (found.avg_time, found.min_time, found.max_time, found.total_tokens) == (2.0, 1.0, 3.0, 40)
    assert (found.throughput, found.prompts_per_sec, found.total_prompts) == (10.0, 5.0, 20)
    assert (found.median_time, found.first_token_ms) == (2.0, None)
    assert speed(started("baseline"), []) is None
    staggered = trial(STAGGERED, seconds=100.0, tokens=10)
    assert speed(started("baseline"), [staggered]) is None
    assert found == speed(
        started("baseline"), [trial(0, seconds=1.0, tokens=10), staggered, trial(1, seconds=3.0, tokens=30)]
    )
    assert overhead(2.0, 3.0) == 50.0
