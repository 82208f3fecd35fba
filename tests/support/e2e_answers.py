"""Answers, trials and run states that are made up, for the tests of what is said about them."""

from __future__ import annotations

from typing import Any

from e2e.engine.worker import fp32_bits
from e2e.records import Answer, Manifest, RunState, SoloAnswers, Speeds, Started, Trial
from e2e.report.speeds import exit_status, verdicts
from e2e.workload.options import Options
from kernels_bench.records.cases import Device
from profiles.instruments.environment import read_environment
from profiles.run_files.run_directory import timestamp

CPU = Device(type="cpu", name="a CPU")
SMALL = Options(model="smollm2", batch_size=8, min_prompt=4, max_prompt=9, max_tokens=3, max_model_len=64, needles=2)


def answer(
    needle: int = 0, tokens: tuple[int, ...] = (1, 2, 3), logprobs: tuple[float, ...] = (-1.0, -2.0, -3.0)
) -> Answer:
    return Answer(needle=needle, tokens=tokens, logprobs=tuple(map(fp32_bits, logprobs)))


def trial(number: int, *answers: Answer, arm: str = "baseline", **changes: Any) -> Trial:
    values: dict[str, Any] = {
        "arm": arm, "trial": number, "batch_size": 10, "prompt_tokens": 100, "places": tuple(range(len(answers))),
        "seconds": 2.0, "tokens": 30, "answers": answers,
    }  # fmt: skip
    return Trial(**(values | changes))


def alone(arm: str, *answers: Answer) -> SoloAnswers:
    return SoloAnswers.model_validate({"arm": arm, "answers": [a.model_dump() for a in (*answers, *answers)]})


OTHER_BITS = answer(logprobs=(-1.0, -2.5, -3.0))
OTHER_TOKENS = answer(tokens=(1, 2, 4), logprobs=(-1.0, -2.25, -9.0))

WATCHED = answer().model_copy(update={"prompt": tuple(map(fp32_bits, (-4.0, -5.0)))})
OTHER_PROMPT = answer().model_copy(update={"prompt": tuple(map(fp32_bits, (-4.0, -5.5)))})


def started(arm: str, init_s: float = 10.0) -> Started:
    return Started.model_validate(
        {"arm": arm, "init_s": init_s, "provenance": "vLLM 0.32.0", "vocabulary": 1000, "needles": [[1]]}
    )


def ledger(baseline: Answer, other: Answer, arm: str = "batch-invariant") -> RunState:
    slow: dict[str, Any] = {"seconds": 3.0, "speeds": Speeds(first_token_ms=20.0, output_token_ms=5.0)}
    fast: dict[str, Any] = {"speeds": Speeds(first_token_ms=10.0, output_token_ms=4.0)}
    return RunState(
        started={"baseline": started("baseline"), arm: started(arm, 12.0)},  # type: ignore[dict-item]
        alone={"baseline": alone("baseline", answer()), arm: alone(arm, answer())},  # type: ignore[dict-item]
        trials={
            "baseline": [trial(0, baseline, **fast), trial(1, baseline, **fast)],
            arm: [trial(0, other, arm=arm, **slow)],  # type: ignore[dict-item]
        },
        lost={},
    )


def manifest(*arms: str, trials: tuple[int, ...] | None = (0,)) -> Manifest:
    return Manifest.model_validate(
        {
            "created": timestamp(),
            "command": "python -m e2e",
            "options": SMALL.model_dump(),
            "model": "smollm2",
            "arms": arms,
            "trials": trials,
            "device": CPU.model_dump(),
            "environment": read_environment().model_dump(),
        }
    )


def status_of(asked: Manifest, known: RunState) -> int:
    return exit_status(asked.arms, known, verdicts(known, asked.asked))
