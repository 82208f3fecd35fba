"""The names of trials, and which arm has which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from e2e.workload.options import ARMS
from e2e.workload.trials import STAGGERED, arms_with, has_trial, trial_in_words, trial_name, trial_named, trials_of
from support.e2e_answers import SMALL


@given(trial=st.integers(0, 1000) | st.just(STAGGERED))
def test_a_trials_name_names_it(trial: int) -> None:
    assert trial_named(trial_name(trial)) == trial
    assert trial_name(trial) in trial_in_words(trial)


def test_a_run_ends_with_staggered_sequences_but_where_one_is_answered_at_a_time() -> None:
    assert trials_of(SMALL.model_copy(update={"num_trials": 2})) == (0, 1, STAGGERED)
    assert arms_with((STAGGERED,), ("baseline", "serial", "server")) == ("baseline", "server")
    assert arms_with((STAGGERED, 0), ("baseline", "serial")) == ("baseline", "serial")
    assert [has_trial(arm, STAGGERED) for arm in ("baseline", "batch-invariant", "serial", "server")] == [
        True,
        True,
        False,
        True,
    ]
    assert all(has_trial(arm, 0) for arm in ARMS)
