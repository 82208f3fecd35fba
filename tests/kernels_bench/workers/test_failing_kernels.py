"""Kernels that fail: what of it reaches the run is the case at hand, and no other."""

from __future__ import annotations

import re

import pytest

from support.processes import CONTROLS, Faulty, run_beside


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    # All but one answer in a moment, and are not to be late on a busy machine.
    what = ("--batch", "1", "--relation", "repeat", "--timeout", "10")
    return run_beside("samebits", tmp_path_factory.mktemp("failing"), "failing", range(64, 80), *what)


RIGHT = (64, 79)
REASONS = {
    65: r"RuntimeError with 256 rows: no such tile .*\[/red\].*",
    66: r"ValueError.*",
    67: r"the worker of failing was killed by SIGKILL.*",
    68: r"returns shape \(\d+, 67\) instead of \(\d+, 68\) for \d+ rows",
    69: r"the worker of failing ended with status 7.*",
    70: r"returns torch.float64 instead of torch.float32",
    71: r"the worker of failing was killed by SIGSEGV.*",
    72: r"returns a tensor on meta instead of cpu",
    73: r"the worker of failing .*its last words: the kernel asked to end",
    74: r"returns 2 results instead of 1",
    75: r"no answer within 10 s \(--timeout\)",
    76: r"returns NoneType instead of a tensor",
    77: r"out of memory: .*can't allocate memory.*",
    78: r"out of memory: MemoryError",
}
CAUSES = {67: "killed", 75: "no_answer", 77: "out_of_memory", 78: "out_of_memory"}


@pytest.mark.parametrize("k", REASONS)
def test_a_failing_kernel_costs_its_case_for_one_clear_reason(failing: Faulty, k: int) -> None:
    found = failing.verification("failing", k)
    assert (found.status, found.verdict) == ("failed", "failed")
    assert "\n" not in found.reason
    assert len(found.reason) < 300
    assert re.fullmatch(REASONS[k], found.reason)
    assert failing.timing("failing", k).status == "skipped"
    assert failing.timing("failing", k).reason == found.reason
    assert found.cause == failing.timing("failing", k).cause == CAUSES.get(k, "other")


def test_every_reason_is_shown(failing: Faulty) -> None:
    shown = " ".join(failing.ended.out.split())
    for said in ("killed by SIGKILL", "killed by SIGSEGV", "ended with status 7", "[/red]", "no answer within 10 s"):
        assert said in shown


@pytest.mark.parametrize("k", RIGHT)
def test_the_failing_arms_other_cases_are_measured(failing: Faulty, k: int) -> None:
    assert failing.verification("failing", k).verdict == "sampled"
    assert failing.timing("failing", k).status == "measured"


def test_the_other_arms_results_are_all_there(failing: Faulty) -> None:
    for k in failing.lengths:
        assert failing.verification("samebits", k).verdict == "sampled"
        assert failing.timing("samebits", k).status == "measured"


def test_what_failed_is_status_3(failing: Faulty) -> None:
    assert failing.ended.status == 3
    assert "Traceback" not in failing.ended.out + failing.ended.err


def test_what_kernels_print_reaches_neither_output_nor_the_parents_memory(failing: Faulty) -> None:
    assert "chatter" not in failing.ended.out + failing.ended.err
    assert "noise" not in failing.ended.out + failing.ended.err
    assert failing.peak_mib < 300


def test_no_worker_of_a_failing_arm_outlives_the_run(failing: Faulty) -> None:
    assert failing.left == []


def test_a_kernels_words_cannot_steer_the_terminal(failing: Faulty) -> None:
    assert not CONTROLS.findall(failing.ended.out)


@pytest.mark.parametrize("k", [67, 69, 71])
def test_a_silent_death_has_no_last_words(failing: Faulty, k: int) -> None:
    assert "last words" not in failing.verification("failing", k).reason


def test_a_worker_that_ends_by_itself_was_not_killed(failing: Faulty) -> None:
    assert failing.verification("failing", 73).reason.startswith("the worker of failing ended with status 1")
