"""What answers show: where they part, by how much, and what an arm is called for it."""

from __future__ import annotations

import math

from e2e.engine.worker import fp32_bits
from e2e.records import Answer, SoloAnswers
from e2e.report.text import divergence_in_words
from e2e.report.verdict import difference, judge, same
from e2e.workload.trials import STAGGERED
from support.e2e_answers import OTHER_BITS, OTHER_PROMPT, OTHER_TOKENS, WATCHED, alone, answer, trial


def test_one_bit_of_one_log_probability_is_a_divergence() -> None:
    near = Answer(needle=0, tokens=(1, 2, 3), logprobs=(*map(fp32_bits, (-1.0, -2.0)), fp32_bits(-3.0) ^ 1))
    assert not same(answer(), near)
    found = judge(alone("baseline", answer()), [trial(0, near)], None)
    assert found.verdict == "variant"
    (seen,) = found.divergences
    assert (seen.trial, seen.step, seen.tokens_differ) == (0, 2, False)
    assert 0 < seen.largest < 1e-6
    assert (found.distinct_tokens, found.distinct_bits) == ((1,), (2,))


def test_where_two_answers_part_and_by_how_much() -> None:
    found = difference(answer(), OTHER_TOKENS, 3)
    # The second step's log probability differs before the third step's token does; after that they cannot be compared.
    assert (found.step, found.tokens_differ, found.largest, found.trial) == (1, True, 0.25, 3)
    longer = difference(answer(), answer(tokens=(1, 2, 3, 4), logprobs=(-1.0, -2.0, -3.0, -4.0)), None)
    assert (longer.step, longer.tokens_differ, longer.largest) == (3, True, 0.0)
    endless = difference(answer(logprobs=(-math.inf, -2.0, -3.0)), answer(logprobs=(-math.inf, -2.5, -3.0)), 0)
    assert (endless.step, endless.largest) == (1, 0.5)


def test_nan_is_no_invariance_and_no_small_difference() -> None:
    broken = answer(logprobs=(-1.0, math.nan, math.nan))
    diverged = judge(alone("baseline", answer()), [trial(0, OTHER_BITS)], None)
    everywhere = judge(alone("serial", broken), [trial(0, broken, arm="serial")], diverged)
    assert (everywhere.verdict, everywhere.divergences) == ("inconclusive", ())
    assert "NaN" in everywhere.reason
    beside = judge(alone("serial", answer()), [trial(0, broken, arm="serial"), trial(1, OTHER_BITS)], diverged)
    assert beside.verdict == "variant"
    assert math.isnan(beside.divergences[0].largest)
    assert divergence_in_words(beside.divergences[0]).endswith("of the same tokens are NaN in one of them")


def test_the_first_trial_that_differs_is_named_for_each_needle() -> None:
    own = (answer(0), answer(1))
    trials = [trial(0, answer(0), answer(1)), trial(1, answer(0), OTHER_BITS.model_copy(update={"needle": 1}))]
    found = judge(alone("baseline", *own), trials, None)
    assert [(d.needle, d.trial) for d in found.divergences] == [(1, 1)]
    assert found.answers == 6


def test_a_prompt_whose_own_log_probabilities_differ_is_a_divergence() -> None:
    found = judge(alone("baseline", WATCHED), [trial(0, answer()), trial(STAGGERED, OTHER_PROMPT)], None)
    assert found.verdict == "variant"
    assert (found.distinct_tokens, found.distinct_bits, found.distinct_prompts) == ((1,), (1,), (2,))
    (seen,) = found.divergences
    assert (seen.trial, seen.step, seen.tokens_differ, seen.prompt_token) == (STAGGERED, None, False, 2)
    assert divergence_in_words(seen) == (
        "needle 1 differs in the staggered trial from token 3 of its prompt on: what it generates agrees to the bit; "
        "log probabilities of the same tokens differ by at most 0.5"
    )


def test_where_a_prompt_was_not_watched_it_is_not_compared() -> None:
    assert same(WATCHED, answer())
    assert not same(WATCHED, OTHER_PROMPT)
    assert difference(WATCHED, OTHER_BITS, 0).prompt_token is None
    found = judge(alone("baseline", answer()), [trial(0, answer())], None)
    assert found.distinct_prompts == (0,)


def test_an_engine_that_is_not_repeatable_alone_is_variant() -> None:
    answers = SoloAnswers(arm="serial", answers=(answer(), OTHER_BITS))
    found = judge(answers, [trial(0, answer(), arm="serial")], None)
    assert found.verdict == "variant"
    assert found.divergences[0].trial is None


def test_no_divergence_is_invariance_only_where_the_baseline_diverged() -> None:
    held = [trial(0, answer(), arm="serial")]
    diverged = judge(alone("baseline", answer()), [trial(0, OTHER_BITS)], None)
    quiet = judge(alone("baseline", answer()), [trial(0, answer())], None)
    assert (diverged.verdict, quiet.verdict) == ("variant", "inconclusive")
    assert "has not the power" in quiet.reason
    assert judge(alone("serial", answer()), held, diverged).verdict == "invariant"
    doubtful = judge(alone("serial", answer()), held, quiet)
    assert doubtful.verdict == "inconclusive"
    assert "--num-trials" in doubtful.reason
    assert judge(alone("serial", answer()), held, None).verdict == "inconclusive"
    assert judge(alone("serial", answer()), [], diverged).verdict == "inconclusive"
