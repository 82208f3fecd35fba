"""``python -m e2e locate``: what it refuses, what it takes from a run, and one search from the words to the replay."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from e2e import cli
from e2e.cli import app
from e2e.cli_locate import wanted_of_run
from e2e.locate.records import Against, Cause, Cell, Located, Replayed, StepSeen
from e2e.report.located import exit_status, lines, outcome
from e2e.report.located_page import page
from e2e.run.run_locate import other_request, start_request, variables_of
from e2e.workload.options import Options
from e2e.workload.other import Other, read_other
from kernels_bench.records.cases import Device
from profiles.errors import CommandError
from support import BASELINES
from support.e2e_runs import CPU, NEEDS_ENGINE, SIZES
from support.processes import completed

H100 = BASELINES / "vllm-e2e"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        app(["locate", *words])
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eager", "--against", "transformer"], "--against transformer: expected transformers"),
        (["--eager", "--against", "serial"], "--against serial: the needle is alone in both engines"),
        (["--eager", "--against", "baseline"], "--against baseline: the needle is alone in both engines"),
        (["--eager", "--against", "server"], "--against server: only an engine in a process of its own"),
        (["--eager", "--against", "batch-invariant"], "--against batch-invariant: vLLM has no batch-invariant kernels"),
        (["--eager", "--against", "tp=1"], "--against tp=1: expected tp=2 or more; the first engine is on one GPU"),
        (["--eager", "--against", "tp=two"], "--against tp=two: expected tp=2 or more"),
        (["--eager", "--against", "backend=X"], "--against backend=X: vLLM has one attention backend for CPUs"),
        (["--eager", "--against", "transformers", "--trial", "1"], "--trial: with --against the needle is alone"),
        (["--eager", "--against", "transformers", "--temperature", "1"], "--against transformers: --temperature 1:"),
        (["--eager", "--plan", "x"], "--plan x: only the arm planned has one"),
        (["--against", "transformers"], "--eager is needed with --against: of a compiled model only the parts"),
        (["--eager", "--arm", "serial"], "--arm serial: its needles have no company"),
        (["--eager", "--arm", "fast"], "--arm fast: unknown"),
        (
            ["--eager", "--arm", "batch-invariant"],
            "--arm batch-invariant: vLLM has no batch-invariant kernels for CPUs",
        ),
        (["--eager", "--mode", "online"], "--mode online: not supported yet"),
        (["--eager", "--tp-size", "2", "--against", "transformers"], "--tp-size 2: with --against the first engine"),
        (["--eager", "--prefix-caching"], "--prefix-caching: not supported yet"),
        (["--eager", "--needles", "2", "--needle", "3"], "--needle 3: expected 1 to 2, the number of needles"),
        (["--eager", "--trial", "9"], "--trial 9: expected 1 to --num-trials 5, or staggered"),
        (["--eager", "--causes", "some"], "--causes some: expected all or first"),
        (["some-run", "--eager", "--seed", "1"], "locate some-run takes its options from the run"),
        (["some-run", "--eager"], "some-run is not a run directory"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "describe_device", lambda: CPU)
    status, told = refused(words, capsys)
    assert status == 2
    assert told.count("\n") == 1
    assert f"e2e: {said}" in told


def test_an_engine_that_is_looked_into_has_the_plan_and_the_backend_that_was_asked_for() -> None:
    options = Options(model="smollm2", plan="/a/plan.json", backend="FLASHINFER")
    start = start_request("planned", "smollm2", options, CPU)
    assert variables_of(start, CPU)["SAMEBITS_PLAN"] == "/a/plan.json"
    against = read_other("planned", "baseline", options, CPU)
    assert (against.arm, against.backend) == ("planned", None)
    theirs = other_request(start, against)
    assert (theirs.arm, theirs.options.plan, theirs.options.backend) == ("planned", "/a/plan.json", "FLASHINFER")
    backend = Other(name="backend=X", arm="baseline", backend="X")
    assert other_request(start, backend).options.backend == "X"


def test_of_a_run_the_gravest_divergence_is_taken() -> None:
    run = H100 / "h100-80gb-hbm3-smollm2-flash-eager"
    wanted = wanted_of_run(run, "baseline", {})
    assert wanted.arm == "baseline"
    assert wanted.options.eager
    assert wanted.needle is not None
    assert len(wanted.trials) == 1
    compiled = wanted_of_run(H100 / "h100-80gb-hbm3-smollm2-flash-compiled", "baseline", {"eager": True})
    assert compiled.options.eager
    with pytest.raises(CommandError, match="no needle's bits differ in company in serial"):
        wanted_of_run(run, "serial", {})


FIRST = Cause(
    step=0, step_kind="prefill", layer=3, path="model.layers.3.mlp.gate_up_proj", operator="aten.mm", number=0,
    kind="operator", rows=63, rows_equal=63, rows_differ=11, elements=2, elements_of=3072, ulps=1,
)  # fmt: skip
FOUND = Located(
    arm="baseline", options=Options(model="smollm2"), provenance="vLLM", trial=0, needle=3, needle_tokens=63,
    sequences=18, repeats=(3, 3), answer_differs=True, alone_repeats=True, probe_kept_bits=True, first=FIRST,
    causes=(FIRST, *(FIRST.model_copy(update={"layer": n, "path": f"model.layers.{n}.mlp.down_proj"}) for n in (4, 7))),
    kept_bits=True, watched=8, places=900, unjudged=2, seconds=9.0, seconds_plain=0.1, seconds_watched=0.2,
    seconds_inside=0.5, looked_into=4,
    steps=(StepSeen(kind="prefill", tokens_alone=63, tokens=1417, sequences=18),),
    cells=(Cell(step=0, path="model.layers.3", rows=0.25, elements=0.001), Cell(step=0, path="lm_head", rows=0.0)),
    call="0.safetensors", replayed=Replayed(rows_alone=63, rows_company=1417, same=255, other=256),
)  # fmt: skip
NOTHING = FOUND.model_copy(
    update={"first": None, "causes": None, "kept_bits": None, "call": None, "replayed": None, "answer_differs": False,
            "repeats": (0, 3)}
)  # fmt: skip


def test_it_is_told_in_lines() -> None:
    told = "\n".join(lines(FOUND, "run/located"))
    for part in (
        "baseline is variant: needle 4 (63 tokens) alone against trial 1 (18 sequences)",
        "first in:   prefill, layer 3, model.layers.3.mlp.gate_up_proj: aten.mm",
        "inputs equal in 63 of 63 rows, outputs not in 11 of these (2 of 3072 elements at most in one, at most 1 ulp)",
        "63 alone, 1417 in company; the bits change between 255 and 256",
        "replay run/located/0.safetensors",
        "independent of it: model.layers.*.mlp.down_proj: aten.mm in layers 4, 7",
        "the needle keeps its bits over the first 8 tokens of its answer: this was run",
    ):
        assert part in told


OTHER = Against(
    name="transformers", provenance="transformers 5", lacking=("sampler",), tokens=8, tokens_same=7, logprobs_same=0,
    logprob_apart=0.125,
)  # fmt: skip
PARTED = FOUND.model_copy(
    update={"against": OTHER, "call": None, "replayed": None, "kept_bits": None,
            "causes": tuple(one.model_copy(update={"distance": 0.004}) for one in FOUND.causes or ())}
)  # fmt: skip


def test_two_engines_that_part_have_broken_no_promise() -> None:
    told = "\n".join(lines(PARTED, "d"))
    for part in (
        "baseline and transformers: needle 4 (63 tokens) alone in both: they part, which breaks no promise",
        "first in:   prefill, layer 3, model.layers.3.mlp.gate_up_proj: aten.mm",
        "0.1 % of the elements after model.layers.3",
        "7 of 8 tokens are the same",
        "the same bits in 0, and are at most 0.125 apart",
        "other bits come of model.layers.*.mlp.down_proj: aten.mm, in 2 layers, by at most 0.4 % of their length",
    ):
        assert part in told
    assert "variant" not in told
    assert exit_status(PARTED) == 0
    assert "Other bits of equal inputs" in page(PARTED, "d")
    unexplained = PARTED.model_copy(update={"first": None})
    assert exit_status(unexplained) == exit_status(PARTED.model_copy(update={"alone_repeats": False})) == 3
    assert exit_status(unexplained.model_copy(update={"answer_differs": False})) == 0


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({}, 0, "every place that was judged gave the same bits"),
        ({"repeats": (3, 3), "answer_differs": True}, 3, "bits differed in 3 of 3 runs, and no cause was seen"),
        ({"repeats": (1, 3)}, 3, "bits differed in 1 of 3 runs, and no cause was seen"),
        ({"alone_repeats": False}, 3, "baseline does not repeat itself"),
        ({"first": FIRST}, 1, "baseline is variant"),
        ({"first": FIRST, "alone_repeats": False}, 3, "baseline does not repeat itself"),
    ],
)
def test_the_status_follows_from_what_was_found(changed: dict[str, object], status: int, said: str) -> None:
    found = NOTHING.model_copy(update=changed)
    assert exit_status(found) == status
    assert said in outcome(found)


def test_what_was_watched_and_what_that_took_is_said() -> None:
    took = "a pass in company took 0.10 s; 0.20 s while layers were watched in 8 of its steps"
    assert f"{took}, 0.50 s with the operators of 4 modules; all passes 9 s" in "\n".join(lines(FOUND, "d"))
    told = "\n".join(lines(NOTHING.model_copy(update={"seconds_inside": None}), "d"))
    assert f"{took}; all passes" in told
    assert "none gave other bits, so that nothing inside a layer was watched" in told


def test_what_must_be_known_of_it_is_said() -> None:
    for changed, said in (
        ({"probe_kept_bits": False}, "WITH THE PROBE THE NEEDLE HAS OTHER BITS THAN WITHOUT IT"),
        ({"repeats": (1, 3)}, "in 1 of 3 runs they were"),
        ({"kept_bits": False}, "a cause was not seen"),
        ({"call": None, "replayed": None}, "follows:    not known: its call could not be saved"),
        ({"replayed": Replayed(reason="it ran on a GPU")}, "the call could not be run alone: it ran on a GPU"),
        ({"replayed": Replayed(rows_alone=3, rows_company=9)}, "gives the needle the bits that it has among 3"),
        ({"first": FIRST.model_copy(update={"operator": ""})}, "this is the smallest module"),
    ):
        assert said in "\n".join(lines(FOUND.model_copy(update=changed), "d")), said


def test_the_page_shows_how_the_difference_grows() -> None:
    text = page(FOUND, "run/located")
    for part in (
        "model.layers.3",
        "25 / 0.1 %",
        "prefill 0: 1417 tokens",
        "a first cause",
        "model.layers.7.mlp.down_proj",
    ):
        assert part in text
    assert "<img" not in text
    assert "http" not in text.split("<body>")[1]
    hostile = FOUND.model_copy(update={"provenance": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in page(hostile, "d")


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return completed("e2e", *words, cwd=cwd)


class TestOverTheRealEngine:
    """From the command line to the guilty call alone; whether anything differs is the processor's to decide."""

    pytestmark = NEEDS_ENGINE

    @pytest.mark.engine_full  # what is found so is seen in test_planted_causes.py, and what is kept of it above
    def test_a_search_is_kept_and_its_call_can_be_run_again(self, tmp_path: Path) -> None:
        words = ["--model", "smollm2", *SIZES.split(), "--max-tokens", "3", "--out", tmp_path / "found"]
        done = command("locate", *words, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
        kept = Located.model_validate_json((tmp_path / "found" / "located.json").read_text())
        assert exit_status(kept) == done.returncode
        assert outcome(kept) in done.stdout
        assert kept.probe_kept_bits
        assert kept.alone_repeats
        assert kept.places > (100 if kept.first is None else 1000)
        assert kept.unjudged < kept.places / 50
        assert outcome(kept) in (tmp_path / "found" / "located.html").read_text()
        if kept.first is None:
            return
        assert kept.kept_bits
        if kept.call is not None:
            assert kept.replayed is not None
            (again,) = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("  alone:")]
            replayed = command(*shlex.split(again)[3:], cwd=tmp_path)
            assert replayed.returncode == (3 if kept.replayed.reason else 0 if kept.replayed.same is None else 1)

    @pytest.mark.engine_full  # what is compared so is seen in test_planted_causes.py, without an engine of its own
    def test_against_transformers_both_are_compared_and_kept(self, tmp_path: Path) -> None:
        words = ["--model", "smollm2", *SIZES.split(), "--max-tokens", "3", "--out", tmp_path / "found"]
        done = command("locate", "--against", "transformers", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        kept = Located.model_validate_json((tmp_path / "found" / "located.json").read_text())
        assert outcome(kept) in done.stdout
        assert outcome(kept).startswith("baseline and transformers: needle ")
        assert kept.against is not None
        assert kept.against.tokens == kept.watched == 3
        assert kept.against.provenance.startswith("transformers ")
        # The two compute rotary embeddings in other ways on every processor.
        assert kept.first is not None
        assert kept.first.path.endswith("rotary_emb")
        assert outcome(kept) in (tmp_path / "found" / "located.html").read_text()

    def test_what_is_kept_is_described_by_the_schema(self) -> None:
        shown = json.loads(command("schema", cwd=Path.cwd()).stdout)
        assert set(shown["located"]["properties"]) == set(Located.model_fields)


def test_the_device_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Device] = []

    def describe() -> Device:
        asked.append(CPU)
        return CPU

    monkeypatch.setattr(cli, "describe_device", describe)
    refused(["--mode", "online"], capsys)
    assert len(asked) == 1
