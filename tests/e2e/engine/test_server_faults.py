"""Servers that are somebody else's, die, or have to end with the command that started them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from e2e.engine.online.server import arguments, free_port
from e2e.records import Trial
from e2e.workload.arms import environment as arm_environment
from e2e.workload.options import Options
from e2e.workload.trials import STAGGERED
from support.e2e_runs import (
    CPU,
    NEEDS_ENGINE,
    SPARING,
    TOKENS,
    baseline_on_cpu,
    diverged,
    finish,
    prompts_are_watched,
    records_of,
    runs,
    start,
    under_a_profiler,
    words_of,
)
from support.processes import LIMIT_S, environment, wait_until

pytestmark = [*NEEDS_ENGINE, pytest.mark.usefixtures("uncompiled")]
SERVED = Options(model="smollm2", batch_size=10, max_prompt=90, max_tokens=TOKENS, max_model_len=128, eager=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that somebody else started."""
    port = free_port()
    cache = tmp_path_factory.mktemp("server")
    variables = arm_environment("baseline", cache, CPU)
    variables |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"} | SPARING
    log = (cache / "log").open("w")
    words = [
        sys.executable,
        "-m",
        "e2e.engine.online.serve",
        str(os.getpid()),
        *arguments(baseline_on_cpu(SERVED), port),
    ]
    server = subprocess.Popen(words, env=environment(**variables), stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    assert wait_until(lambda: answers(url) or server.poll() is not None)
    engines = psutil.Process(server.pid).children(recursive=True)
    yield url
    server.kill()
    server.wait()
    assert len(engines) >= 2
    assert wait_until(lambda: not any(runs(engine) for engine in engines))


@pytest.mark.engine_full  # one that is running, if not vLLM's, is asked in test_broken_servers.py
def test_a_server_that_is_running_is_checked_and_left_running(running: str, tmp_path: Path) -> None:
    done = finish(start(tmp_path / "run", "--server", running, "--num-trials", 2), tmp_path / "run")
    (found,) = done.verdicts.values()
    varies = diverged(done, "server")
    assert (found.arm, found.verdict) == ("server", "variant" if varies else "inconclusive")
    assert done.status == (1 if varies else 3), done.err
    assert not varies or f"--server {running}" in done.out  # the command that repeats the trial
    assert answers(running)


@pytest.mark.engine_full  # likewise of one that is not vLLM's
def test_a_server_that_takes_shorter_prompts_costs_one_line(running: str, tmp_path: Path) -> None:
    assert wait_until(lambda: answers(running))
    words = ("--max-prompt", 1000, "--max-model-len", 2000, "--server", running)
    done = finish(start(tmp_path / "run", *words), tmp_path / "run")
    assert done.status == 3
    assert f"{running} takes 128 tokens" in done.out


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.engine_full  # who was killed is told in test_server.py, and what is lost with it in test_offline_run.py
@pytest.mark.parametrize("victim", ["e2e.engine.online.serve", "EngineCore"])
def test_a_server_that_dies_in_a_trial_costs_its_arm_and_says_how(tmp_path: Path, victim: str) -> None:
    """Itself, or the engine without which it cannot answer."""
    path = tmp_path / "run"
    tiny = ("--model", "synthetic:tiny", "--num-trials", 500)
    process = start(path, "--mode", "online", *tiny, "--arms", "baseline")

    assert wait_until(lambda: any(isinstance(r, Trial) for r in records_of(path)) or process.poll() is not None)
    children = psutil.Process(process.pid).children(recursive=True)
    next(child for child in children if victim in words_of(child)).kill()
    done = finish(process, path)
    (line,) = [line for line in done.out.splitlines() if line.startswith("baseline failed: ")]
    assert line.startswith("baseline failed: in trial ")
    assert (
        "the server was killed by SIGKILL" in line
        if victim == "e2e.engine.online.serve"
        else "the server's engine was killed by SIGKILL" in line
    )
    assert "Traceback" not in done.out + done.err
    assert any(isinstance(record, Trial) for record in done.records)  # nothing measured is lost


@pytest.mark.engine_full  # what is done about strangers is tested in test_server.py, and vLLM's counts in every run
def test_a_stranger_who_asks_our_own_server_is_refused_or_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = start(path, "--mode", "online", "--num-trials", 500, "--arms", "baseline")
    assert wait_until(lambda: any(isinstance(r, Trial) for r in records_of(path)) or process.poll() is not None)
    children = psutil.Process(process.pid).children(recursive=True)
    words = next(child.cmdline() for child in children if "e2e.engine.online.serve" in words_of(child))
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}"
    assert asked_by_a_stranger(f"{url}/v1/completions") == 401
    assert asked_by_a_stranger(f"{url}/invocations") == 200  # vLLM wants no key there
    done = finish(process, path)
    assert done.status == 3
    (line,) = [line for line in done.out.splitlines() if line.startswith("baseline failed: ")]
    assert "another process asked this server: it answered " in line


def asked_by_a_stranger(url: str) -> int:
    """The status of the answer."""
    body = json.dumps({"prompt": [1, 2, 3], "max_tokens": 2}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.engine_full  # that nothing outlives the command is seen of a server that starts faster: test_processes.py
def test_no_server_outlives_a_killed_command(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--mode", "online", "--num-trials", 1, "--arms", "baseline")
    children: list[psutil.Process] = []

    def its_engine_is_up() -> bool:
        children[:] = psutil.Process(process.pid).children(recursive=True)
        return any("EngineCore" in words_of(child) for child in children)

    assert wait_until(its_engine_is_up)
    process.kill()
    process.communicate()
    assert len(children) >= 2
    assert wait_until(lambda: not any(runs(child) for child in children))


@pytest.mark.engine_full  # servers without tokenizers run in test_installed.py, and end so in test_online_run.py
def test_a_server_needs_no_tokenizer_and_under_a_profiler_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to, and its engine's process with it."""
    tiny = SERVED.model_copy(update={"mode": "online", "min_prompt": 30, "model": "synthetic:tiny"})
    done = under_a_profiler(tiny, tmp_path, monkeypatch)
    assert done.status == 0, done.said
    assert "Application shutdown complete" in done.said
    prompts_are_watched(done.records)
    assert [r.trial for r in done.records if isinstance(r, Trial)] == [0, STAGGERED]
