"""The needle benchmark over a real server: ``vllm serve`` on loopback, with SmolLM2's real weights."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.records import Trial
from support.e2e_runs import (
    AS_UNDER_NSYS,
    NEEDS_ENGINE,
    SPARING,
    WORDS,
    Done,
    asked_as_stated,
    diverged,
    finish,
    prompts_are_watched,
    serial_holds_and_the_baseline_is_called_what_it_is,
    start,
)
from support.foreign import BIN, repository
from support.processes import environment

pytestmark = NEEDS_ENGINE


@pytest.fixture(scope="module")
def online(shallow: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A server with one client, from where other packages have the names of ours.

    As if nsys recorded it, so that its server is to end by itself; else nothing is done otherwise.
    """
    path = tmp_path_factory.mktemp("online") / "run"
    words = ("--model", shallow, "--mode", "online", "--num-trials", 1, "--arms", "serial")
    process = subprocess.Popen(
        [BIN / "samebits-e2e", *WORDS, *map(str, words), "--out", path],
        cwd=repository(path.with_name("repository")),
        env=environment(**AS_UNDER_NSYS, **SPARING),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return finish(process, path)


def test_a_server_does_not_diverge_with_one_client(online: Done) -> None:
    assert not diverged(online, "serial"), online.err
    # Without a baseline nobody knows whether this run could have seen more.
    assert (online.status, online.verdicts["serial"].verdict) == (3, "inconclusive"), online.err
    assert "foreign" not in online.out + online.err


@pytest.mark.engine_full  # two servers: that sequences which are computed together are compared is seen offline
def test_a_server_with_many_clients_is_called_what_it_is_beside_one_with_one(tmp_path: Path) -> None:
    words = ("--mode", "online", "--num-trials", 1, "--arms", "baseline,serial")
    serial_holds_and_the_baseline_is_called_what_it_is(
        finish(start(tmp_path / "run", *words, **SPARING), tmp_path / "run")
    )


def test_a_server_is_given_the_same_prompts_as_a_library(online: Done) -> None:
    asked_as_stated(online)


def test_a_server_tells_of_prompts_too(online: Done) -> None:
    prompts_are_watched(online.records)


def test_under_a_profiler_a_server_ends_by_itself(online: Done) -> None:
    """And its engine's process with it: what nsys has not written yet of one that is killed is lost."""
    assert "Application shutdown complete" in (online.path / "logs" / "serial.log").read_text()


def test_streamed_answers_tell_when_their_first_token_came(online: Done) -> None:
    for trial in (r for r in online.records if isinstance(r, Trial)):
        assert trial.speeds is not None
        assert 0 < trial.speeds.first_token_ms < 1e3 * trial.seconds
        assert 0 < trial.speeds.output_token_ms < 1e3 * trial.seconds
