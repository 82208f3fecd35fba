"""The report in words, and the command that repeats a trial."""

from __future__ import annotations

import shlex
from itertools import pairwise

import pytest

from e2e.records import Answer, ArmLost, SoloAnswers
from e2e.report.text import divergence_in_words, header, repeat_command, report
from e2e.report.verdict import difference, judge
from e2e.workload.options import Options, read_options
from e2e.workload.trials import STAGGERED
from support.e2e_answers import (
    OTHER_BITS,
    OTHER_PROMPT,
    OTHER_TOKENS,
    SMALL,
    WATCHED,
    alone,
    answer,
    ledger,
    manifest,
    status_of,
    trial,
)


def test_of_each_needle_the_gravest_answer_is_told_and_of_all_the_largest_difference() -> None:
    """Alone from one run to the next before anything, then in token ids, then by most."""
    far = answer(logprobs=(-1.0, -2.0, -3.5))
    trials = [trial(0, OTHER_BITS), trial(1, OTHER_TOKENS), trial(2, far), trial(3, answer())]
    found = judge(alone("baseline", answer()), trials, None)
    assert [(d.trial, d.tokens_differ) for d in found.divergences] == [(1, True)]
    assert found.widest is not None
    assert (found.widest.trial, found.widest.largest) == (0, 0.5)  # the first of those that differ by as much
    known = ledger(answer(), answer())
    known.trials["baseline"] = trials
    text = "\n".join(report(manifest("baseline", trials=(0, 1, 2, 3)), known, "d"))
    assert "needle 1 differs in trial 2 from step 2 on: token ids part" in text
    assert "most: needle 1 differs in trial 1 from step 2 on: token ids agree" in text
    assert "--trial 2 " in text
    unstable = judge(SoloAnswers(arm="baseline", answers=(answer(), OTHER_BITS)), trials, None)
    assert unstable.divergences[0].trial is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answer(logprobs=(-1.5, -2.0, -3.0)), "from its prefill on: token ids agree, log probabilities do not"),
        (answer(logprobs=(-1.0, -2.0, -3.5)), "from step 3 on: token ids agree, log probabilities do not"),
        (answer(tokens=(1, 2, 4)), "from step 3 on: token ids part; log probabilities of the same tokens agree"),
    ],
)
def test_where_a_needle_first_differs_is_said(other: Answer, said: str) -> None:
    found = difference(answer(), other, 0)
    text = divergence_in_words(found)
    assert text.startswith("needle 1 differs in trial 1 ")
    assert said in text
    assert divergence_in_words(difference(answer(), other, STAGGERED)).startswith(
        "needle 1 differs in the staggered trial"
    )
    assert divergence_in_words(difference(answer(), other, None)).startswith(
        "needle 1 differs from one run alone to the"
    )


def test_the_report_tells_of_prompts_where_any_was_watched() -> None:
    known = ledger(OTHER_BITS, answer())
    asked = manifest("baseline", "batch-invariant")
    assert not any("prompt's log probabilities" in line for line in report(asked, known, "d"))
    own = (WATCHED, answer().model_copy(update={"needle": 1}))
    other = (OTHER_PROMPT, own[1])
    known.alone["baseline"] = alone("baseline", *own)
    known.trials["baseline"] = [trial(0, *own), trial(STAGGERED, *other)]
    assert "  by bits of its prompt's log probabilities, alone and staggered: 2, –" in list(report(asked, known, "d"))


def test_upstreams_labels_are_printed_and_the_numbers_are_right() -> None:
    known = ledger(OTHER_BITS, answer())
    text = "\n".join(
        [
            *header(manifest("baseline", "batch-invariant"), ""),
            *report(manifest("baseline", "batch-invariant"), known, "d"),
        ]
    )
    for label in (
        "VLLM BATCH INVARIANCE BENCHMARK",
        "COMPARISON: Batch Invariance vs Baseline",
        "Initialization Time:\n  Baseline:         10.00s\n  Batch Invariant:  12.00s\n  Overhead:         +20.00%",
        "Average Trial Time:\n  Baseline:         2.00s\n  Batch Invariant:  3.00s\n  Overhead:         +50.00%",
        "Throughput (tokens/s):\n  Baseline:         15.00\n  Batch Invariant:  10.00\n  Change:           -33.33%",
        "Prompts/s:\n  Baseline:         5.00",
        "Time to first token (ms):\n  Baseline:         10.00\n  Batch Invariant:  20.00",
        "SUMMARY",
        "baseline: variant",
        "batch-invariant: invariant",
        "exit status 0",
    ):
        assert label in text
    assert "--arms baseline --trial 1" in text


def test_the_summary_says_what_an_arm_costs_where_its_trials_tell() -> None:
    known = ledger(OTHER_BITS, answer())
    arms = ("baseline", "batch-invariant")
    assert "batch-invariant: invariant, 10.0 tokens/s, +50.0% time in one trial\n" in "\n".join(
        report(manifest(*arms), known, "d")
    )
    known.take(trial(1, answer(), arm="batch-invariant", seconds=2.5, tokens=30, batch_size=10))
    undecided = "price inconclusive: -57.0% to +336.1% time a trial"  # two trials alone tell next to nothing
    assert undecided in "\n".join(report(manifest(*arms), known, "d"))
    for number in (2, 3, 4):
        for arm, seconds in (("baseline", 2.0), ("batch-invariant", 2.7)):
            known.take(trial(number, answer(), arm=arm, seconds=seconds, tokens=30, batch_size=10))
    assert "+35.8% time a trial (95 %: +25.3% to +47.2%)" in "\n".join(report(manifest(*arms), known, "d"))


def test_a_lost_arm_costs_itself_alone() -> None:
    known = ledger(OTHER_BITS, answer())
    known.lost["serial"] = ArmLost(arm="serial", status="failed", reason="the worker of serial was killed by SIGKILL")
    arms = ("baseline", "batch-invariant", "serial")
    text = "\n".join(report(manifest(*arms), known, "d"))
    assert "serial: failed (the worker of serial was killed by SIGKILL)" in text
    assert "batch-invariant: invariant" in text
    assert status_of(manifest(*arms), known) == 3


def test_a_trial_is_repeated_with_the_options_that_matter() -> None:
    command = repeat_command(SMALL, "serial", 4, {})
    assert command.startswith("python -m e2e --arms serial --trial 5 --model smollm2")
    assert "--batch-size 8" in command
    assert "--trial staggered" in repeat_command(SMALL, "batch-invariant", STAGGERED, {})
    assert "--temperature" not in command


def test_a_repeated_trial_is_the_same_where_variables_would_change_it() -> None:
    here = {"VLLM_BENCH_BATCH_SIZE": "32", "VLLM_BENCH_TEMPERATURE": "0.5", "OTHER": "1"}
    usual = Options(model="smollm2")
    words = shlex.split(repeat_command(usual, "baseline", 0, here))
    flags = {word.removeprefix("--").replace("-", "_"): value for word, value in pairwise(words) if word[:2] == "--"}
    known = {name: Options.model_fields[name].annotation for name in flags if name in Options.model_fields}
    typed = {name: int(flags[name]) if kind is int else flags[name] for name, kind in known.items()}
    assert read_options(typed, here) == usual


def test_a_repeated_trial_is_read_as_what_it_was() -> None:
    """Every option that a run can have reaches the command that repeats one of its trials."""
    changed = SMALL.model_copy(
        update={
            "eager": True,
            "prefix_caching": True,
            "chunked_prefill": False,
            "ignore_eos": False,
            "mode": "online",
            "temperature": 0.5,
        }
    )
    words = shlex.split(repeat_command(changed, "baseline", 0, {}))
    named = {"--eager", "--prefix-caching", "--no-chunked-prefill", "--stop-at-eos", "--mode", "--temperature"}
    assert named <= set(words)
    served = SMALL.model_copy(update={"server": "http://h:1"})
    assert "--server http://h:1" in repeat_command(served, "server", 0, {})
    assert "--model" not in repeat_command(served, "server", 0, {})
    assert "--server" not in repeat_command(served, "baseline", 0, {})
