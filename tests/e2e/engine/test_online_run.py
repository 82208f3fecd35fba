"""The needle benchmark over a real server: ``vllm serve`` on loopback, with the real weights of SmolLM2."""

from __future__ import annotations

import pytest

from e2e.records import Trial
from support.e2e_runs import (
    AS_UNDER_NSYS,
    NEEDS_ENGINE,
    UNCOMPILED,
    Done,
    asked_as_stated,
    finish,
    prompts_are_watched,
    serial_holds_and_the_baseline_is_called_what_it_is,
    start,
)

pytestmark = NEEDS_ENGINE


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """As if nsys recorded it, so that its servers are to end by themselves; else nothing is done otherwise."""
    path = tmp_path_factory.mktemp("online") / "run"
    words = ("--mode", "online", "--num-trials", 1, "--arms", "baseline,serial")
    return finish(start(path, *words, **AS_UNDER_NSYS, **UNCOMPILED), path)


def test_a_server_does_not_diverge_with_one_client_and_is_called_what_it_is_with_many(online: Done) -> None:
    serial_holds_and_the_baseline_is_called_what_it_is(online)


def test_a_server_is_given_the_same_prompts_as_a_library(online: Done) -> None:
    asked_as_stated(online)


def test_a_server_tells_of_prompts_too(online: Done) -> None:
    prompts_are_watched(online.records)


@pytest.mark.parametrize("arm", ["baseline", "serial"])
def test_under_a_profiler_a_server_ends_by_itself(online: Done, arm: str) -> None:
    """And its engine's process with it: what nsys has not written yet of one that is killed is lost."""
    assert "Application shutdown complete" in (online.path / "logs" / f"{arm}.log").read_text()


def test_streamed_answers_tell_when_their_first_token_came(online: Done) -> None:
    for trial in (r for r in online.records if isinstance(r, Trial)):
        assert trial.speeds is not None
        assert 0 < trial.speeds.first_token_ms < 1e3 * trial.seconds
        assert 0 < trial.speeds.output_token_ms < 1e3 * trial.seconds
