"""A run of engines on one screen: what became of the needles' bits, what that cost, and where to look."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from e2e.records import Manifest, RunState
from e2e.report.speeds import Price, Speed
from e2e.report.summary import ArmSummary, EngineSummary, State
from e2e.report.text import repeat_command
from e2e.report.verdict import Divergence, worst_of
from e2e.workload.trials import trial_in_words, trial_name
from kernels_bench.console.printing import NOTHING
from kernels_bench.console.screen import Column, Remark, Screen, inert_part
from kernels_bench.report.summary.schema import SIGNS
from profiles.invocation import called

_SIGNS: Mapping[State, str] = {
    "invariant": SIGNS["sampled"],
    "variant": SIGNS["variant"],
    "inconclusive": SIGNS["inconclusive"],
    "failed": SIGNS["failed"],
    "unsupported": SIGNS["failed"],
}
_LEGEND = (
    "needles changed: other bits in a batch than alone; price: how much longer a trial takes than the baseline's, "
    "95 % interval over trials"
)


def screen_of(summary: EngineSummary, manifest: Manifest, ledger: RunState, signs: bool = True) -> Screen:
    """The screen, whose texts steer nothing; without ``signs`` the verdicts are words only.

    Args:
        summary: of the run.
        manifest: what was run, and where.
        ledger: what is known of it.
        signs: whether verdicts have one.
    """
    screen = Screen(
        outcome=summary.outcome,
        good=summary.exit_status == 0,
        rows=Column(("", "arm"), tuple(arm.arm for arm in summary.arms), "left"),
        columns=tuple(_columns(summary.arms, signs)),
        legend=_LEGEND,
        findings=tuple(_gravest(summary, manifest)),
        unmeasured=tuple(_unmeasured(summary, on_gpu=manifest.device.type != "cpu")),
        where=tuple(_where(summary, manifest, ledger)),
        rest=tuple(_rest(summary)),
    )
    made_inert = inert_part(screen)
    assert isinstance(made_inert, Screen)
    return made_inert


def _columns(arms: Sequence[ArmSummary], signs: bool) -> Iterator[Column]:
    verdicts = (f"{_SIGNS[arm.state]} {arm.state}" if signs else arm.state for arm in arms)
    yield Column(("", "verdict"), tuple(verdicts), "left")
    yield Column(("needles", "changed"), tuple(map(_changed, arms)))
    yield Column(("first in", "trial"), tuple(map(_first, arms)))
    yield Column(("", "price"), tuple(price_text(arm.price) for arm in arms))
    speeds = [arm.speed for arm in arms]
    yield Column(("", "tokens/s"), tuple(NOTHING if one is None else f"{one.throughput:,.0f}" for one in speeds))
    if any(one is not None and one.gpu_time is not None for one in speeds):
        yield Column(("GPU time", "a trial"), tuple(map(_gpu_time, speeds)))
        yield Column(("its", "price"), tuple(price_text(arm.gpu_price) for arm in arms))


def _gpu_time(speed: Speed | None) -> str:
    return NOTHING if speed is None or speed.gpu_time is None else f"{speed.gpu_time:.3g} s"


def _changed(arm: ArmSummary) -> str:
    if arm.needles is None:
        return NOTHING
    return f"{len(arm.needles.divergences)} of {len(arm.needles.distinct_tokens)}"


def _first(arm: ArmSummary) -> str:
    if arm.needles is None or arm.needles.first is None:
        return NOTHING
    trial = arm.needles.first.trial
    return "alone" if trial is None else trial_name(trial)


def price_text(price: Price | None) -> str:
    """What an arm costs, in a cell: an interval, such as ``+25% to +47%``, or that nobody can tell."""
    if price is None:
        return NOTHING
    if price.low is None or price.high is None:
        return f"{_percent(price.share)}, one trial"
    return f"{_percent(price.low)} to {_percent(price.high)}" if price.known else "inconclusive"


def _percent(share: float) -> str:
    return f"{share:+.1f}%" if abs(share) < 10 else f"{share:+.0f}%"


def _gravest(summary: EngineSummary, manifest: Manifest) -> Iterator[Remark]:
    """One counterexample of each arm that claims to have none; where there is no such arm, one of the baseline."""
    varied = [arm for arm in summary.arms if arm.needles is not None and arm.needles.divergences]
    for arm in [arm for arm in varied if arm.claims] or varied:
        assert arm.needles is not None
        worst = worst_of(arm.needles.divergences)
        again = "" if worst.trial is None else repeat_command(manifest.options, arm.arm, worst.trial, os.environ)
        yield Remark(f"{arm.arm}: {counterexample(worst)} ({_changed(arm)} needles changed)", again)


def counterexample(found: Divergence) -> str:
    """Which needle was answered otherwise than alone, where, and from which token on."""
    name = f"needle {found.needle + 1}"
    where, usual = ("asked again alone", "the first time")
    if found.trial is not None:
        where, usual = f"in {trial_in_words(found.trial)}", "alone"
    apart = "of which one is NaN" if isnan(found.largest) else f"by up to {found.largest:.3g}"
    if found.tokens_differ:
        gap = f"; log probabilities of the same tokens differ {apart}" if found.largest else ""
        return f"{name} was given other tokens {where} than {usual}, and other bits from {_since(found)} on{gap}"
    return (
        f"{name} was given the same tokens {where} as {usual}, with other log probabilities from {_since(found)} on, "
        f"{apart}"
    )


def _since(found: Divergence) -> str:
    if found.prompt_token is not None:
        return f"token {found.prompt_token + 1} of its prompt"
    return f"token {(found.step or 0) + 1} of its answer"


def _unmeasured(summary: EngineSummary, *, on_gpu: bool) -> Iterator[Remark]:
    for arm in summary.arms:
        if arm.reason:
            yield Remark(f"{arm.arm} {arm.state}: {arm.reason}")
        elif arm.needles is not None and arm.needles.missing:
            yield Remark(f"{arm.arm}: {arm.needles.missing} of its trials were not run")
        if arm.lost is not None and arm.needles is not None:
            yield Remark(f"{arm.arm} then {arm.lost}")
    for arm in summary.arms:
        found = arm.price
        if found is None or found.known:
            continue
        if found.low is None or found.high is None:
            why = "one trial tells no interval"
        else:
            why = f"a trial takes {_percent(found.low)} to {_percent(found.high)} more time, which spans zero"
        yield Remark(f"what {arm.arm} costs: {why}; more trials (--num-trials) tell more", aside=True)
    if on_gpu and all(arm.gpu_price is None for arm in summary.arms):
        yield from _waiting_for_the_host(summary)


_UNEVEN = 1.4
"""Trials of one arm whose tokens take so many times as long as another one's differ by more than their batches."""


def _waiting_for_the_host(summary: EngineSummary) -> Iterator[Remark]:
    """Whose trials are too uneven for a GPU's work."""
    for arm in summary.arms:
        least, most = (arm.speed and arm.speed.output_token_range_ms) or (0.0, 0.0)
        if most > _UNEVEN * least:
            yield Remark(
                f"{arm.arm}: a token of an answer took {least:.3g} to {most:.3g} ms, by trial, as where steps wait "
                "for a busy host: --gpu-time tells what the GPU itself takes",
                aside=True,
            )


def _where(summary: EngineSummary, manifest: Manifest, ledger: RunState) -> Iterator[str]:
    provenance = dict.fromkeys(started.provenance for started in ledger.started.values())
    yield " · ".join([f"{summary.model} on {summary.device}", *provenance])
    yield options_text(manifest)
    yield f"results in {summary.directory}"


def options_text(manifest: Manifest) -> str:
    """What engines were asked, in a line."""
    options = manifest.options
    told = (
        f"{options.num_trials} trials of up to {options.batch_size} sequences, of {options.min_prompt} to "
        f"{options.max_prompt} prompt tokens and {options.max_tokens} generated; {options.needles} needles; "
        f"temperature {options.temperature:g}; {'eager' if options.eager else 'compiled'}"
    )
    return f"{told}; {manifest.turns}" if manifest.turns else told


def _rest(summary: EngineSummary) -> Iterator[tuple[str, str]]:
    if any(arm.needles is None or arm.needles.missing for arm in summary.arms):
        yield _command("--resume", summary.directory), "goes on with what is missing"
    yield _command("report", summary.directory, "--full"), "everything, in the form of vLLM's script"
    yield _command("report", summary.directory, "--html", "page.html"), "each needle in each trial, as a page"


def _command(*words: str) -> str:
    return shlex.join([*called("e2e"), *words])
