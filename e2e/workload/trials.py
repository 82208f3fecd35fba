"""Which trials a run has, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

from e2e.workload.options import ArmName, Options, OptionsError

WARM_UP, STAGGERED = -1, -2
"""Trials that are not timed; of the latter, sequences arrive one after another, as a server's do."""

_STAGGERED_NAME = "staggered"


def trials_of(options: Options) -> tuple[int, ...]:
    """All trials of a run, by number."""
    return (*range(options.num_trials), STAGGERED)


def has_trial(arm: ArmName, trial: int) -> bool:
    """Whether an arm has such a trial: where one request is answered at a time, none is beside another."""
    return (arm, trial) != ("serial", STAGGERED)


def arms_with(trials: Sequence[int], arms: Sequence[ArmName]) -> tuple[ArmName, ...]:
    """The arms that have any of these trials."""
    return tuple(arm for arm in arms if any(has_trial(arm, trial) for trial in trials))


def trial_name(trial: int) -> str:
    """A trial as ``--trial`` takes it: counted from 1."""
    return _STAGGERED_NAME if trial == STAGGERED else str(trial + 1)


def trial_named(name: str) -> int:
    """The trial that `trial_name` calls so.

    Raises:
        OptionsError: there is none.
    """
    if name == _STAGGERED_NAME:
        return STAGGERED
    if not name.isdecimal() or int(name) < 1:
        raise OptionsError(f"--trial {name}: trials are counted from 1; the last one is called {_STAGGERED_NAME}")
    return int(name) - 1


def trial_in_words(trial: int) -> str:
    """A trial as people call it."""
    return f"the {_STAGGERED_NAME} trial" if trial == STAGGERED else f"trial {trial_name(trial)}"
