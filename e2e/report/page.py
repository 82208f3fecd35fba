"""A run of engines as a page: which needle kept its bits in which trial, and what that cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10

from e2e.records import Answer, Manifest, RunState
from e2e.report.screen import options_text, price_text
from e2e.report.summary import ArmSummary, summarise
from e2e.report.text import divergence_in_words, extra_time, repeat_command
from e2e.report.verdict import same, worst_of
from e2e.workload.options import ArmName
from e2e.workload.trials import STAGGERED, trial_name
from kernels_bench.console.printing import NOTHING
from kernels_bench.report.html.frame import render
from kernels_bench.report.html.plot import mark

_SIGNS: Mapping[str, str] = {"invariant": "sampled", "variant": "variant", "inconclusive": "inconclusive"}
"""The sign that the pages of kernels have for the same."""


@dataclass(frozen=True)
class NeedleRow:
    """One needle's answers: for each trial ``same``, ``bits`` or ``tokens`` that differ, or nothing."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ArmView:
    """What is told of one arm.

    Attributes:
        name: the arm's.
        sign: of its verdict.
        verdict: the same in a word.
        reason: why there is none, or why it was lost.
        numbers: below `HEADS` and `GPU_HEADS`, as text.
        trials: names of those that were run.
        needles: a row each.
        ticks: where each timed trial stands among all arms' trials, in per cent.
        spread: the shortest and the longest trial, in words.
        findings: what differs.
        command: shows the worst of it again; empty where nothing differs in a trial.
        provenance: of its engine.
    """

    name: ArmName
    sign: str
    verdict: str
    reason: str
    numbers: tuple[str, ...]
    trials: tuple[str, ...]
    needles: tuple[NeedleRow, ...]
    ticks: tuple[float, ...]
    spread: str
    findings: tuple[str, ...]
    command: str
    provenance: str


HEADS = ("tokens/s", "trial, s", "first token, ms", "further token, ms", "price")
GPU_HEADS = ("GPU time, s", "its price")
"""Further ones, where it was recorded of any arm."""


def page(manifest: Manifest, ledger: RunState, directory: str) -> str:
    """The page.

    Args:
        manifest: what was run, and where.
        ledger: what is known of it.
        directory: of the run.
    """
    summary = summarise(manifest, ledger, directory)
    seconds = [second for arm in summary.arms if arm.speed is not None for second in arm.speed.trial_times]
    views = [_arm(arm, manifest, ledger, seconds) for arm in summary.arms]
    on_gpu = any(arm.speed is not None and arm.speed.gpu_time is not None for arm in summary.arms)
    heads = HEADS + GPU_HEADS if on_gpu else HEADS
    environment = manifest.environment
    return render(
        "engine.html",
        package="e2e.report",
        title=f"samebits on {manifest.device.name}: {manifest.options.model}",
        device=f"{manifest.options.model} on {manifest.device.name}",
        outcome=summary.outcome,
        good=summary.exit_status == 0,
        marks=[mark(number) for number in range(len(views))],
        arms=views,
        heads=heads,
        numbers=[view.numbers[: len(heads)] for view in views],
        options=options_text(manifest),
        versions=", ".join([environment.python_version, *(f"{n} {v}" for n, v in environment.versions.items())]),
        driver="" if environment.device is None else environment.device.driver_version,
        command_typed=manifest.command,
        created=manifest.created,
        directory=directory,
    )


def _arm(arm: ArmSummary, manifest: Manifest, ledger: RunState, seconds: Sequence[float]) -> ArmView:
    name, speed = arm.arm, arm.speed
    trials = sorted(ledger.trials.get(name, []), key=lambda one: (one.trial == STAGGERED, one.trial))
    divergences = () if arm.needles is None else arm.needles.divergences
    command = ""
    if divergences:
        worst = worst_of(divergences)
        command = "" if worst.trial is None else repeat_command(manifest.options, name, worst.trial, os.environ)
    return ArmView(
        name=name,
        sign=_SIGNS.get(arm.state, "failed"),
        verdict=arm.state,
        reason=arm.reason,
        numbers=tuple(_numbers(arm, ledger)),
        trials=("alone again", *(trial_name(one.trial) for one in trials)) if name in ledger.alone else (),
        needles=tuple(_needles(name, ledger, [one.answers for one in trials])),
        ticks=tuple(_place(second, seconds) for second in speed.trial_times) if speed is not None else (),
        spread="" if speed is None else f"{speed.min_time:.3g} to {speed.max_time:.3g} s",
        findings=tuple(map(divergence_in_words, divergences)),
        command=command,
        provenance=ledger.started[name].provenance if name in ledger.started else "",
    )


def _needles(arm: ArmName, ledger: RunState, trials: Sequence[Sequence[Answer]]) -> Iterator[NeedleRow]:
    if arm not in ledger.alone:
        return
    answers = ledger.alone[arm].answers
    count = len(answers) // 2
    for needle in range(count):
        others = [answers[count + needle], *(each[needle] for each in trials)]
        yield NeedleRow(f"needle {needle + 1}", tuple(_state(answers[needle], other) for other in others))


def _state(own: Answer, other: Answer) -> str:
    if own.tokens != other.tokens:
        return "tokens"
    return "same" if same(own, other) else "bits"


def _numbers(arm: ArmSummary, ledger: RunState) -> Iterator[str]:
    """What stands below `HEADS` and `GPU_HEADS`."""
    speed = arm.speed
    if speed is None:
        yield from (NOTHING for _ in HEADS + GPU_HEADS)
        return
    yield f"{speed.throughput:,.0f}"
    yield f"{speed.median_time:.3g} ({speed.p10_time:.3g}–{speed.p90_time:.3g})"
    for milliseconds in (speed.first_token_ms, speed.output_token_ms):
        yield NOTHING if milliseconds is None else f"{milliseconds:.2f}"
    yield (extra_time(ledger, arm.arm) if arm.arm != "baseline" else "") or NOTHING
    yield NOTHING if speed.gpu_time is None else f"{speed.gpu_time:.3g}"
    yield price_text(arm.gpu_price)


def _place(second: float, seconds: Sequence[float]) -> float:
    """Where a trial's time stands between the shortest and the longest, in per cent; the axis is logarithmic."""
    low, high = log10(min(seconds)), log10(max(seconds))
    share = (log10(second) - low) / (high - low) if high > low else 0.5
    return round(1 + 98 * share, 2)
