"""How many batches are launched together, and what waits to be judged."""

import pytest

from kernels_bench.relations import Comparison
from kernels_bench.verification import launcher
from kernels_bench.verification.launcher import Launcher
from support.products import UNIVERSE, product, subject


def test_what_waits_to_be_judged_is_counted_with_the_rows_that_are_not_compared() -> None:
    """The reference's rows are counted apart, since several groups may have the same."""
    one, fourth = Comparison("first:4", "others:4:1"), Comparison(f"first:{UNIVERSE}", f"others:{UNIVERSE}:1")
    (groups,) = Launcher(subject(product)).groups([one, one, fourth], None)
    row = 48 * 4
    assert [len(group.comparisons) for group in groups] == [2, 1]
    assert [group.held for group in groups] == [2 * 4 * row, UNIVERSE * row]


@pytest.mark.parametrize("together", [1, 100])
def test_no_more_is_held_than_a_bounded_amount(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    row = 48 * 4
    monkeypatch.setattr(launcher, "_HELD_BYTES", 4 * 4 * row)
    monkeypatch.setattr(launcher, "_GROUPED", together)
    one = Comparison("first:4", "others:4:1")
    held = [
        sum(len(group.comparisons) for group in groups) for groups in Launcher(subject(product)).groups([one] * 7, None)
    ]
    # The reference and four batches are more than four batches; all that are compared at once wait together.
    assert held == ([4, 3] if together == 1 else [7])


def test_a_group_is_of_no_more_rows_than_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_GROUPED_LINES", 9)
    comparisons = [Comparison("first:4", "first:4")] * 5
    (groups,) = Launcher(subject(product)).groups(comparisons, None)
    assert [len(group.comparisons) for group in groups] == [2, 2, 1]


@pytest.mark.parametrize(("count", "cut"), [(1, False), (2, True)])
def test_a_comparison_for_which_there_was_no_time_is_told_though_it_was_the_last(count: int, cut: bool) -> None:
    comparisons = iter([Comparison("first:4", "others:4:1"), Comparison("first:8", "others:8:1")][:count])
    of_one = Launcher(subject(product))
    assert len(list(of_one.groups(comparisons, until=0.0))) == 1
    assert of_one.cut_short == cut
    assert next(comparisons, None) is None
