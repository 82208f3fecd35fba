"""The needle benchmark over the real engine: vLLM on this machine's device, with SmolLM2's real weights."""

from __future__ import annotations

import ast
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e import run_benchmark_with_batch_invariant
from e2e.checkpoints.resolve import cache_directory
from e2e.records import FORMAT, ArmLost, SoloAnswers, Started, Trial, read_state
from e2e.workload.arms import environment as arm_environment
from e2e.workload.options import Options
from e2e.workload.trials import STAGGERED, trial_named
from profiles.analysis.analyse import analyse
from profiles.run_files.run_directory import MANIFEST
from support.e2e_runs import (
    CPU,
    NEEDS_ENGINE,
    SPARING,
    TOKENS,
    WORDS,
    Done,
    asked_as_stated,
    baseline_on_cpu,
    diverged,
    engines_of,
    finish,
    prompts_are_watched,
    records_of,
    runs,
    serial_holds_and_the_baseline_is_called_what_it_is,
    start,
)
from support.processes import LIMIT_S, completed, environment, wait_until

pytestmark = NEEDS_ENGINE


@pytest.fixture(scope="module")
def both(shallow: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    path = tmp_path_factory.mktemp("e2e") / "run"
    words = ("--model", shallow, "--num-trials", 2, "--arms", "baseline,serial")
    return finish(start(path, *words, **SPARING), path)


def test_one_request_at_a_time_does_not_diverge_and_the_baseline_is_called_what_it_is(both: Done) -> None:
    serial_holds_and_the_baseline_is_called_what_it_is(both)
    found = both.verdicts
    differ = max(*found["baseline"].distinct_bits, *found["baseline"].distinct_prompts) > 1
    assert differ == diverged(both, "baseline")
    assert found["serial"].distinct_bits == found["serial"].distinct_tokens == (1, 1)


def test_needles_are_what_the_options_make(both: Done) -> None:
    asked_as_stated(both)


def test_every_trial_was_really_run(both: Done) -> None:
    for arm in ("baseline", "serial"):
        trials = [r for r in both.records if isinstance(r, Trial) and r.arm == arm]
        assert [trial.trial for trial in trials] == [0, 1, *([STAGGERED] if arm == "baseline" else [])]
        for trial in trials:
            assert trial.tokens == TOKENS * trial.batch_size
            assert 30 * (trial.batch_size - 2) < trial.prompt_tokens <= 90 * trial.batch_size
            assert all(len(answer.tokens) == len(answer.logprobs) == TOKENS for answer in trial.answers)
            assert trial.speeds is not None
            assert 0 < trial.speeds.first_token_ms < 1e3 * trial.seconds
    assert [r.arm for r in both.records if isinstance(r, Started)] == ["baseline", "serial"]
    assert [len(r.answers) for r in both.records if isinstance(r, SoloAnswers)] == [4, 4]


def test_prompts_are_watched_alone_and_where_sequences_are_staggered(both: Done) -> None:
    prompts_are_watched(both.records)
    found = both.verdicts
    assert min(found["baseline"].distinct_prompts) >= 1  # prefills of a CPU may well add in one order
    assert found["serial"].distinct_prompts == (1, 1)


def test_both_arms_are_given_the_same_batches(both: Done) -> None:
    batches = {
        arm: [
            (trial.batch_size, trial.places, trial.prompt_tokens)
            for trial in both.records
            if isinstance(trial, Trial) and trial.arm == arm and trial.trial != STAGGERED
        ]
        for arm in ("baseline", "serial")
    }
    assert batches["baseline"] == batches["serial"]


STEPS = """
import sys
from e2e.engine.offline import Offline
from e2e.workload.prompts import batch, needles
from e2e.workload.messages import StartEngine
from e2e.workload.trials import STAGGERED

request = StartEngine.model_validate_json(sys.stdin.read())
engine = Offline(request)
asked = batch(request.options, STAGGERED, needles(request.options, engine.text, engine.vocabulary), engine.vocabulary)
steps = []
engine.on_step(lambda tokens, sequences: steps.append((tokens, sequences)))
together = engine.generate(asked.prompts)
print("together", steps)
steps.clear()
staggered = engine.generate_staggered(asked.prompts, asked.at_once)
print("staggered", steps)
print("sizes", len(asked.prompts), asked.at_once)
print("tokens", [len(one.tokens) for one in (*together, *staggered)])
prompt = asked.prompts[0]
(answered,) = engine.generate([prompt])
(watched,) = engine.generate([prompt + answered.tokens], (0,))
print("watched", len(prompt), watched.prompt_logprobs)
print("answered", answered.logprobs)
"""


@pytest.mark.engine_full  # it is vLLM's affair how it composes its steps: it is looked at with every new version of it
@pytest.mark.usefixtures("uncompiled")
def test_staggered_sequences_are_prefilled_while_others_are_decoded(tmp_path: Path) -> None:
    sizes = Options(
        model="smollm2", batch_size=10, min_prompt=30, max_prompt=90, max_tokens=12, max_model_len=128, eager=True
    )
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        input=baseline_on_cpu(sizes).model_dump_json(),
        env=environment(**arm_environment("baseline", cache_directory(), CPU)),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(
        line.split(" ", 1)
        for line in done.stdout.splitlines()
        if line.startswith(("together", "staggered", "sizes", "tokens", "watched", "answered"))
    )
    together, staggered = (ast.literal_eval(said[name]) for name in ("together", "staggered"))
    size, at_once = map(int, said["sizes"].split())
    assert ast.literal_eval(said["tokens"]) == [12] * (2 * size)
    # All at once: a step of prefill, or two; then nothing but decoding.
    prefills = [tokens > sequences for tokens, sequences in together]
    assert prefills == sorted(prefills, reverse=True)
    # Staggered: each of the later ones is prefilled in a step of its own, in which the others are decoded.
    beside = [(tokens, sequences) for tokens, sequences in staggered[1:] if tokens > sequences > 1]
    assert len(beside) == size - at_once
    assert beside[0][1] == at_once + 1
    # What was generated, as part of a prompt, has the log probabilities that it had, up to the order of addition.
    length, watched = said["watched"].split(" ", 1)
    assert len(ast.literal_eval(watched)) == int(length) + 12 - 1
    assert ast.literal_eval(watched)[-12:] == pytest.approx(ast.literal_eval(said["answered"]), abs=0.2)


def report_of(done: Done, *words: str) -> str:
    """A run's report, printed again."""
    again = completed("e2e", "report", done.path, *words)
    assert (again.returncode, again.stderr) == (done.status, "")
    return again.stdout


def test_the_report_has_upstreams_labels_and_can_be_printed_again(both: Done) -> None:
    for label in ("VLLM BATCH INVARIANCE BENCHMARK", "PHASE 1: Running WITHOUT batch invariance (baseline)"):
        assert label in both.out
    assert re.search(r"Engine initialization time: \d+\.\d\ds", both.out)
    assert re.search(r"Trial 2/2: batch_size=\d+, time=\d+\.\d\ds", both.out)
    assert both.out.endswith(report_of(both))
    full = report_of(both, "--full")
    for label in ("COMPARISON: One Request at a Time vs Baseline", "Average Trial Time:", "SUMMARY"):
        assert label in full


@pytest.mark.engine_full  # what a trial asks follows from its number, as is tested without an engine
@pytest.mark.usefixtures("uncompiled")
def test_the_trial_that_diverged_is_repeated_by_its_command(both: Done, tmp_path: Path) -> None:
    if not diverged(both, "baseline"):
        pytest.skip("needs a processor whose libraries add otherwise in a batch (AMD with AVX2 and Intel with AMX do)")
    command = next(line.strip() for line in both.out.splitlines() if " --trial " in line)
    assert f"again: {command}" in report_of(both, "--full")
    words = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, *words, "--out", str(tmp_path / "again")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    number = trial_named(words[words.index("--trial") + 1])
    (once,) = [r for r in FORMAT.read_records(tmp_path / "again") if isinstance(r, Trial)]
    (before,) = [r for r in both.records if isinstance(r, Trial) and r.arm == "baseline" and r.trial == number]
    assert "baseline changed the needles' bits with the batch" in done.stdout
    assert once.answers == before.answers


def answers_by_trial(done: Done) -> dict[tuple[str, int], object]:
    """Of the first two trials of each arm."""
    return {(r.arm, r.trial): r.answers for r in done.records if isinstance(r, Trial) and 0 <= r.trial < 2}


def in_turns(trial: int) -> tuple[str, str]:
    """The arms in the order in which they run a trial: each begins as often as the other."""
    return ("baseline", "serial") if trial % 2 == 0 else ("serial", "baseline")


@pytest.mark.parametrize(("cache_gib", "apart"), [("1", None), ("100000", r"2 engines may take 2\d+\.\d GiB")])
def test_arms_take_turns_unless_it_is_not_known_that_there_is_memory_for_all(
    tmp_path: Path, cache_gib: str, apart: str | None
) -> None:
    """What a run decides of itself is in its manifest before any engine is up."""
    process = start(tmp_path / "run", "--arms", "baseline,serial", turns=(), VLLM_CPU_KVCACHE_SPACE=cache_gib)
    try:
        assert wait_until(lambda: (tmp_path / "run" / MANIFEST).exists() or process.poll() is not None, 120)
        found = FORMAT.read_manifest(tmp_path / "run")
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    if apart is None:
        assert (found.options.interleave, found.apart) == (True, None)
    else:
        assert not found.options.interleave
        assert re.match(apart, found.apart or "")


@pytest.mark.engine_full  # four engines, to show of real ones what tests/e2e/run shows of processes
@pytest.mark.usefixtures("uncompiled")
def test_an_interleaved_engine_that_dies_leaves_the_others_and_can_be_gone_on_with(
    both: Done, shallow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    """And until it dies each trial is run in turn, with the answers of arms that run one after the other."""
    monkeypatch.setenv("TMPDIR", str(short))
    path = tmp_path / "run"
    words = ("--model", shallow, "--num-trials", 4, "--arms", "baseline,serial")
    process = start(path, *words, turns=("--interleave",))

    def trials() -> list[Trial]:
        return [record for record in records_of(path) if isinstance(record, Trial)]

    assert wait_until(lambda: len(trials()) >= 4 or process.poll() is not None)
    found = engines_of(psutil.Process(process.pid))
    engines = {Path(engine.environ()["VLLM_CACHE_ROOT"]).parent.name: engine for engine in found}
    (scratch,) = short.glob("samebits-*")
    assert list(scratch.iterdir())  # what engines would leave in the temporary directory
    engines["baseline"].kill()
    done = finish(process, path)
    assert done.status == 3
    (lost,) = [r for r in done.records if isinstance(r, ArmLost)]
    assert lost.arm == "baseline"
    assert "killed by SIGKILL" in lost.reason
    assert "baseline failed" in done.out
    assert [(r.arm, r.trial) for r in trials()][:4] == [(arm, n) for n in range(2) for arm in in_turns(n)]
    assert [r.trial for r in trials() if r.arm == "serial"] == list(range(4))
    assert [line.rpartition(" ")[2] for line in done.out.splitlines() if "Trial 2/4: batch_size=" in line] == [
        "(serial)",
        "(baseline)",
    ]
    assert answers_by_trial(done).items() == answers_by_trial(both).items()
    assert not any(map(runs, engines.values()))
    assert not [one.name for one in short.iterdir()]
    goes_on_until_it_is_stopped(path)


def goes_on_until_it_is_stopped(path: Path) -> None:
    """A run that lost its baseline: what is left is begun where it was lost, and ended as a user would."""
    kept = len(records_of(path))
    words = [sys.executable, "-m", "e2e", "--resume", str(path)]
    going_on = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(isinstance(record, Trial) for record in records_of(path)[kept:]))
    going_on.send_signal(signal.SIGINT)
    assert going_on.wait(LIMIT_S) == 130
    more = [record for record in records_of(path)[kept:] if isinstance(record, Trial)]
    assert {record.arm for record in more} == {"baseline"}
    numbers = [r.trial for r in records_of(path) if isinstance(r, Trial) and r.arm == "baseline"]
    assert numbers == list(range(len(numbers)))
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(path) in " ".join(p.info["cmdline"] or ())]


@pytest.mark.engine_full  # one of its arms may as well die after these trials, see above
@pytest.mark.usefixtures("uncompiled")
def test_interleaved_arms_run_each_trial_in_turn_and_find_the_same(both: Done, shallow: Path, tmp_path: Path) -> None:
    words = ("--model", shallow, "--num-trials", 2, "--arms", "baseline,serial")
    done = finish(start(tmp_path / "run", *words, turns=("--interleave",)), tmp_path / "run")
    serial_holds_and_the_baseline_is_called_what_it_is(done)
    made = [(r.arm, r.trial) for r in done.records if isinstance(r, Trial)]
    assert made == [(arm, n) for n in range(2) for arm in in_turns(n)] + [("baseline", STAGGERED)]
    assert "arms took turns, trial by trial" in done.out
    assert "Trial 2/2: batch_size=" in done.out
    assert [line.rpartition(" ")[2] for line in done.out.splitlines() if "Trial 2/2" in line] == [
        "(serial)",
        "(baseline)",
    ]

    assert answers_by_trial(done).items() <= answers_by_trial(both).items()


def test_the_function_gives_upstreams_keys(both: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2e.api._run", lambda *_: read_state(both.records))
    found = run_benchmark_with_batch_invariant("smollm2", 1, 10, 2, 30, 90, TOKENS, 0.0, 0.4, 128, "FLASH_ATTN", False)
    has_upstreams_keys(found, TOKENS)


@pytest.mark.engine_full  # its process is started as every arm's is
@pytest.mark.usefixtures("uncompiled")
def test_the_function_starts_an_engine() -> None:
    found = run_benchmark_with_batch_invariant("synthetic:tiny", 1, 6, 1, 8, 20, 4, 0.0, 0.4, 64, "FLASH_ATTN", False)
    has_upstreams_keys(found, 4)


def has_upstreams_keys(found: dict[str, Any], tokens: int) -> None:
    assert {
        *("init_time", "avg_time", "min_time", "max_time", "total_tokens", "total_prompts", "throughput"),
        *("prompts_per_sec", "trial_times", "needle"),
    } <= set(found)
    assert found["total_tokens"] == tokens * found["total_prompts"]
    assert json.dumps(found)


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A model that is too small, recorded by torch's profiler: beside the run there is ``profile``.

    It is compiled, as far as vLLM compiles whatever it is told; other tests' engines are not.
    """
    path = tmp_path_factory.mktemp("captured") / "run"
    words = ["--model", "synthetic:tiny", "--num-trials", "1", "--arms", "baseline", "--out", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "profiles", "capture", "--collector", "torch", "--out", str(path.with_name("profile")),
         "--", sys.executable, "-m", "e2e", *WORDS, *words],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return finish(process, path)


@pytest.mark.engine_full  # verdicts of other runs are compared likewise
def test_a_model_that_does_not_diverge_is_inconclusive(captured: Done) -> None:
    (found,) = captured.verdicts.values()
    varies = diverged(captured, "baseline")  # it is too small to, on the processors seen
    assert found.verdict == ("variant" if varies else "inconclusive")
    assert ("has not the power" in found.reason) != varies
    (up,) = [r for r in captured.records if isinstance(r, Started)]
    assert up.vocabulary == 4096


@pytest.mark.engine_full  # ranges are tested in test_step_ranges.py, what torch records in test_recorder.py
def test_a_profiler_tells_prefill_from_decode(captured: Done) -> None:
    assert captured.status == 0, captured.err
    trace = captured.path.with_name("profile") / "report.json.gz"
    found = {arm.phase: arm for arm in analyse(trace).families}
    assert {arm.arm for arm in found.values()} == {"baseline"}
    assert found["trial"].ranges == 1
    # Prompts of all lengths fit into one step or a few; the first of each answer comes with the prompt.
    assert 1 <= found["prefill"].ranges <= 3
    assert found["decode"].ranges >= TOKENS - 1
    assert found["prefill"].total_ns + found["decode"].total_ns == pytest.approx(found["trial"].total_ns, rel=0.02)
