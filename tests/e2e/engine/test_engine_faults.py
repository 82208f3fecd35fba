"""Engines that are killed, hang, are refused or have to end: what it costs, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from e2e.records import ArmLost, Started, Trial
from e2e.workload.options import Options
from support.e2e_runs import (
    NEEDS_ENGINE,
    WORDS,
    engines_of,
    finish,
    records_of,
    runs,
    start,
    under_a_profiler,
)
from support.processes import LIMIT_S, environment, wait_until

pytestmark = [*NEEDS_ENGINE, pytest.mark.usefixtures("uncompiled")]


def test_two_commands_that_need_the_same_checkpoint_write_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e2e.checkpoints.make", str(os.getpid()), "synthetic:tiny", str(tmp_path / "tiny")]
    writers = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [writer.communicate(timeout=LIMIT_S)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    assert sum("Writing" in words for words in said) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny.lock"]
    assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "tiny").iterdir()}


@pytest.mark.engine_full  # a dead one leaves the others too, and a worker's patience is tested without an engine
def test_an_engine_that_hangs_costs_its_arm_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    path = tmp_path / "run"
    words = ("--model", "synthetic:tiny", "--num-trials", 1, "--batch-size", 4, "--timeout", 60)
    process = start(path, *words, "--arms", "baseline,serial")
    wait_until(lambda: any(isinstance(r, Started) for r in records_of(path)) or process.poll() is not None)
    found = engines_of(psutil.Process(process.pid))
    engines = {Path(engine.environ()["VLLM_CACHE_ROOT"]).parent.name: engine for engine in found}
    assert set(engines) == {"baseline", "serial"}  # the latter has imported vLLM and waits for its turn
    (scratch,) = short.glob("samebits-*")
    assert list(scratch.iterdir())  # what it would leave in the temporary directory
    engines["baseline"].send_signal(signal.SIGSTOP)
    done = finish(process, path)
    assert done.status == 3
    (lost,) = [r for r in done.records if isinstance(r, ArmLost)]
    assert (lost.arm, lost.status) == ("baseline", "failed")
    assert "no answer within 60 s" in lost.reason
    assert [r.arm for r in done.records if isinstance(r, Trial)] == ["serial"]
    assert not any(map(runs, engines.values()))
    assert not [one.name for one in short.iterdir()]


def test_processes_that_wait_for_their_turn_end_with_a_killed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the command's waiting that is seen, so that a vLLM will do which does nothing for ten minutes."""
    (tmp_path / "vllm.py").write_text("import time\n\nLLM = SamplingParams = None\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    process = start(tmp_path / "run", "--arms", "baseline,serial")
    command = psutil.Process(process.pid)
    assert wait_until(lambda: len(engines_of(command)) == 2 or process.poll() is not None)
    engines = engines_of(command)
    process.kill()
    process.communicate()
    assert len(engines) == 2
    assert wait_until(lambda: not any(map(runs, engines)))


def why_it_does_not_start(path: Path, *words: object, **variables: object) -> str:
    """The one line that an engine costs which does not come up."""
    done = subprocess.run(
        [sys.executable, "-m", "e2e", *WORDS, "--arms", "baseline", *map(str, words), "--out", str(path)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("baseline failed: ")]
    return line.removeprefix("baseline failed: the engine did not start: ")


@pytest.mark.engine_full  # its very words are taken apart in test_error_causes.py
@pytest.mark.parametrize(
    ("mode", "before"),
    [
        pytest.param("offline", "", id="offline"),
        pytest.param("online", "the server ended with status 1; its last words: ", id="online"),
    ],
)
def test_an_engine_without_memory_says_so_in_one_line(tmp_path: Path, mode: str, before: str) -> None:
    """Its cache is to be larger than any machine's memory."""
    why = why_it_does_not_start(
        tmp_path / "run", "--mode", mode, "--model", "synthetic:tiny", VLLM_CPU_KVCACHE_SPACE=100_000
    )
    assert why.startswith(f"{before}ValueError: ")
    assert "is less than requested memory for kv (100000.0 GiB)" in why


@pytest.mark.engine_full  # its recorded words are taken apart in test_error_causes.py
def test_an_engine_that_refuses_its_options_says_which(tmp_path: Path) -> None:
    """A server's words, which come from the same place, are taken apart in test_error_causes.py."""
    why = why_it_does_not_start(tmp_path / "run", "--max-model-len", 100_000)
    assert why.startswith("ValidationError: User-specified max_model_len (100000) is greater than ")


@pytest.mark.engine_full  # likewise
def test_a_model_that_is_none_is_told_with_its_path(tmp_path: Path) -> None:
    empty = tmp_path / "no-model"
    empty.mkdir()
    assert str(empty) in why_it_does_not_start(tmp_path / "run", "--model", empty)


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES") is None and Path("/dev/nvidia0").exists(), reason="a GPU")
def test_batch_invariance_is_unsupported_on_a_cpu(tmp_path: Path) -> None:
    done = finish(start(tmp_path / "run", "--num-trials", 1, "--arms", "batch-invariant"), tmp_path / "run")
    assert "batch-invariant unsupported: vLLM has no batch-invariant kernels for CPUs" in done.out
    assert done.status == 3
    assert not any(isinstance(record, Started) for record in done.records)  # no engine was waited for


@pytest.mark.engine_full  # workers end so in test_pool.py, and servers with their engines in test_online_run.py
def test_under_a_profiler_an_engine_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nsys has not written yet of a process that is killed is lost."""
    sizes = Options(
        model="synthetic:tiny", batch_size=4, min_prompt=8, max_prompt=40, max_tokens=4, max_model_len=64, eager=True
    )
    done = under_a_profiler(sizes, tmp_path, monkeypatch)
    assert done.status == 0, done.said
