"""Arms that go together take turns, and end together."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.records import AnyRecord, Trial
from e2e.run.run_arms import in_turn
from support.e2e_answers import trial


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4))
def test_arms_that_go_together_take_turns(told: list[list[int]]) -> None:
    def arm(number: int) -> Generator[AnyRecord]:
        for value in told[number]:
            yield trial(value, batch_size=number + 1)

    found = [record for record in in_turn([arm(n) for n in range(len(told))]) if isinstance(record, Trial)]
    arms = list(enumerate(told))
    # Each round begins with whom the last one ended with, those that had nothing more to say left out.
    rounds = (
        (values[turn], number) for turn in range(4) for number, values in arms[:: (-1) ** turn] if turn < len(values)
    )
    assert [(one.trial, one.batch_size - 1) for one in found] == list(rounds)


@pytest.mark.parametrize("at", [0, 1])
def test_arms_that_go_together_end_together(at: int) -> None:
    """Also where one of them raises, or nobody asks for the rest."""
    ended = []

    def arm(number: int) -> Generator[AnyRecord]:
        try:
            yield trial(0)
            if number == at:
                raise KeyboardInterrupt
            yield trial(1)
        finally:
            ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        list(in_turn([arm(0), arm(1)]))
    assert sorted(ended) == [0, 1]
    ended.clear()
    with closing(in_turn([arm(0), arm(1)])) as records:
        next(records)
        next(records)
    assert sorted(ended) == [0, 1]
