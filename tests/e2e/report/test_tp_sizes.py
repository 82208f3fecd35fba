"""Needles at several tensor-parallel sizes: what is said of them, and that nobody is blamed."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import cli_tp_sizes
from e2e.cli_tp_sizes import arm_of, sizes_of
from e2e.records import Answer, AtTpSize, TpSizes
from e2e.report.tp_sizes import exit_status, lines
from e2e.workload.options import Options, OptionsError
from kernels_bench.records.cases import Device
from support.e2e_runs import NEEDS_ENGINE, WORDS
from support.processes import LIMIT_S, environment


def answer(needle: int, *logprobs: float, tokens: tuple[int, ...] = (5, 6)) -> Answer:
    bits = tuple(struct.unpack("<I", struct.pack("<f", one))[0] for one in logprobs)
    return Answer(needle=needle, tokens=tokens, logprobs=bits)


def at(size: int, *answers: Answer, again: tuple[Answer, ...] = ()) -> AtTpSize:
    return AtTpSize(tp_size=size, provenance="vLLM", answers=(*answers, *(again or answers)))


def found(*sizes: AtTpSize) -> TpSizes:
    options, device = Options(model="tiny"), Device(type="cpu", name="a CPU")
    return TpSizes(arm="baseline", options=options, model="tiny", device=device, sizes=sizes)


ONE, TWO = answer(0, -1.0, -2.0), answer(1, -0.5, -0.25)


def test_a_difference_is_told_and_breaks_no_claim() -> None:
    other = answer(1, -0.5, -0.375)
    told = found(at(1, ONE, TWO), at(2, ONE, other), at(4, ONE, TWO))
    title, alone, differs, agrees = lines(told)
    assert "nobody promises this" in title
    assert alone == "  TP 1: 2 needles, the same bits when asked again (vLLM)"
    assert differs == (
        "  TP 2 against TP 1: other bits in 1 of 2 needles, other tokens in 0; needle 2 from token 2 of its answer on, "
        "log probabilities of the same tokens by up to 0.125 (vLLM)"
    )
    assert agrees.startswith("  TP 4 against TP 1: the same bits in all 2 needles; more needles")
    assert exit_status(told) == 0


def test_what_cannot_be_compared_is_said_and_the_first_that_can_is_what_others_are_held_against() -> None:
    unstable = at(1, ONE, TWO, again=(ONE, answer(1, -0.5, -0.5)))
    told = found(unstable, AtTpSize(tp_size=2, reason="no second GPU"), at(4, ONE, TWO), at(8, ONE, TWO))
    _, first, second, third, fourth = lines(told)
    assert first == "  TP 1: not compared: needle 2 has other bits when it is asked again"
    assert second == "  TP 2: not compared: no second GPU"
    assert third.startswith("  TP 4: 2 needles")
    assert fourth.startswith("  TP 8 against TP 4")
    assert exit_status(told) == 3


@pytest.mark.parametrize("text", ["1", "1,1", "0,1", "1,two", ""])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionsError, match="expected two or more sizes"):
        sizes_of(text)
    assert sizes_of("2, 1") == (2, 1)
    with pytest.raises(OptionsError, match="expected baseline or batch-invariant"):
        arm_of("serial")


def test_what_was_asked_before_an_interruption_is_said_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted_after_one(*_: object) -> Iterator[AtTpSize]:
        yield at(1, ONE, TWO)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_tp_sizes, "ask_at_sizes", interrupted_after_one)
    monkeypatch.setattr(cli_tp_sizes, "check_engine", lambda device: None)
    monkeypatch.setattr(cli_tp_sizes, "checkpoint", lambda *_: "tiny")
    options, device = Options(model="tiny"), Device(type="cpu", name="a CPU")
    with pytest.raises(KeyboardInterrupt):
        cli_tp_sizes.compare_sizes((1, 2), "baseline", options, device, tmp_path, 1.0, print)
    assert "TP 1: 2 needles" in capsys.readouterr().out
    kept = TpSizes.model_validate_json((tmp_path / "tp-sizes.json").read_text())
    assert [one.tp_size for one in kept.sizes] == [1]


@pytest.mark.engine_full  # three engines, to show of real ones what is shown above
@pytest.mark.parametrize("sizes", [pytest.param((1, 2, 3), marks=NEEDS_ENGINE)])
def test_real_engines_are_asked_at_each_size_that_the_model_can_have(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "e2e", "tp-sizes", ",".join(map(str, sizes)), *WORDS, "--out", str(tmp_path / "sizes")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_S,
    )
    assert done.returncode == 3, done.stderr
    kept = TpSizes.model_validate_json((tmp_path / "sizes" / "tp-sizes.json").read_text())
    assert "\n".join(lines(kept)) in done.stdout
    assert [(one.tp_size, len(one.answers), bool(one.reason)) for one in kept.sizes] == [
        (1, 4, False), (2, 0, True), (3, 4, False),
    ]  # fmt: skip
    assert "attention heads (9) must be divisible by tensor parallel size (2)" in kept.sizes[1].reason
    assert "\n  TP 3 against TP 1: " in done.stdout
