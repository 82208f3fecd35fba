"""What an engine is asked: needles, fillers around them, and how they are laid out in a batch."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from e2e.workload.options import Options, read_options
from e2e.workload.prompts import batch, needles, with_prompt_logprobs
from e2e.workload.trials import STAGGERED, WARM_UP
from support.e2e_answers import SMALL


@given(trial=st.integers(0, 50), seed=st.integers(0, 10**6))
def test_a_batch_hides_every_needle_once_among_fillers_of_the_stated_lengths(trial: int, seed: int) -> None:
    options = SMALL.model_copy(update={"seed": seed})
    hidden = needles(options, [7, 8, 9], 1000)
    made = batch(options, trial, hidden, 1000)
    assert batch(options, trial, hidden, 1000) == made
    assert options.batch_size // 2 <= len(made.prompts) <= options.batch_size
    assert len(set(made.places)) == len(hidden) == options.needles
    assert tuple(made.prompts[place] for place in made.places) == hidden
    fillers = [prompt for place, prompt in enumerate(made.prompts) if place not in made.places]
    assert fillers
    assert all(options.min_prompt <= len(prompt) <= options.max_prompt for prompt in fillers)
    assert all(0 <= token < 1000 for prompt in made.prompts for token in prompt)


@pytest.mark.parametrize(("longest", "lengths"), [(1024, [1023, 511, 255, 127, 63]), (62, [31, 15, 7, 3, 1])])
def test_needles_are_just_below_powers_of_two_and_the_first_is_upstreams(longest: int, lengths: list[int]) -> None:
    options = Options(needles=6, min_prompt=1, max_prompt=longest)
    hidden = needles(options, [1, 2, 3], 5000)
    assert hidden[0] == (1, 2, 3)
    assert [len(needle) for needle in hidden[1:]] == lengths
    assert len(needles(options, None, 5000)[0]) > 0


@pytest.mark.parametrize(("size", "usual"), [(1, 1), (2, 1), (8, 2), (24, 6), (32, 8), (128, 8)])
def test_a_quarter_of_a_batch_is_needles_up_to_eight(size: int, usual: int) -> None:
    assert Options(batch_size=size).needles == usual


@given(count=st.integers(1, 12), longest=st.integers(1, 5000))
def test_however_many_needles_none_is_empty_or_longer_than_the_longest_filler(count: int, longest: int) -> None:
    options = Options(needles=count, batch_size=20, min_prompt=1, max_prompt=longest)
    hidden = needles(options, [1, 2, 3, 4, 5], 100)
    assert len(hidden) == count
    assert all(1 <= len(needle) <= longest for needle in hidden)


def test_trials_differ_and_the_warm_up_is_none_of_them() -> None:
    hidden = needles(SMALL, None, 1000)
    made = [batch(SMALL, trial, hidden, 1000) for trial in (WARM_UP, STAGGERED, 0, 1, 2)]
    assert len({one.prompts for one in made}) == 5
    assert [len(one.prompts) - one.at_once > 0 for one in made] == [False, True, False, False, False]


def test_the_warm_up_leaves_no_needle_in_a_prefix_cache() -> None:
    hidden = needles(SMALL, [7, 8, 9], 1000)
    made = batch(SMALL, WARM_UP, hidden, 1000)
    stand_ins = [made.prompts[place] for place in made.places]
    assert [len(one) for one in stand_ins] == [len(needle) for needle in hidden]
    assert not set(hidden) & set(made.prompts)


@given(trial=st.integers(0, 20) | st.sampled_from((WARM_UP, STAGGERED)))
def test_a_batch_of_one_is_the_needle_alone(trial: int) -> None:
    options = read_options({}, {"VLLM_BENCH_BATCH_SIZE": "1"})
    hidden = needles(options, [1, 2, 3], 1000)
    made = batch(options, trial, hidden, 1000)
    assert (made.places, made.at_once) == ((0,), 1)
    assert [len(prompt) for prompt in made.prompts] == [3]
    assert made.prompts == hidden or trial == WARM_UP


@given(count=st.integers(1, 12), size=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_of_staggered_sequences_every_other_needle_comes_later(count: int, size: int, seed: int) -> None:
    assume(size > count)
    options = Options(batch_size=size, needles=count, min_prompt=3, max_prompt=9, seed=seed)
    hidden = needles(options, None, 1000)
    made = batch(options, STAGGERED, hidden, 1000)
    assert tuple(made.prompts[place] for place in made.places) == hidden
    assert 0 < made.at_once < len(made.prompts)
    assert [place >= made.at_once for place in made.places] == [bool(needle % 2) for needle in range(count)]


def test_short_needles_are_watched_where_nothing_is_timed() -> None:
    options = Options(batch_size=24, needles=5, max_prompt=1024)
    hidden = needles(options, [1, 2, 3], 5000)
    assert [with_prompt_logprobs(options, needle) for needle in hidden] == [True, False, False, True, True]
    made = batch(options, STAGGERED, hidden, 5000)
    assert [len(made.prompts[place]) for place in made.watched] == [3, 255, 127]
    assert not batch(options, 0, hidden, 5000).watched
    cached = options.model_copy(update={"prefix_caching": True})
    assert not batch(cached, STAGGERED, hidden, 5000).watched
