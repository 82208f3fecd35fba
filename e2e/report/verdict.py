"""Whether the needles' answers are the same bits in every company: what is concluded from an arm's records."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from math import inf, isnan, nan
from typing import Literal

from e2e.records import Answer, SoloAnswers, Trial
from e2e.workload.arms import CLAIMING
from e2e.workload.options import ArmName
from e2e.workload.trials import STAGGERED
from profiles.run_files.record import Record

Verdict = Literal["invariant", "variant", "inconclusive"]


class Divergence(Record):
    """An answer that differs from the needle's own, alone.

    Attributes:
        needle: its number.
        trial: where it was seen, see `e2e.records.Trial`; None if the engine alone is not repeatable.
        step: the first token generated whose id or log probability differs; None where none does.
        tokens_differ: whether the ids differ there or later.
        largest: largest difference of two log probabilities of the same token, up to where ids part; NaN where one of
            two that differ is NaN.
        prompt_token: the first of the needle's own tokens, counted from 0, whose log probability differs; None where
            none does, or they were not compared.
    """

    needle: int
    trial: int | None
    step: int | None
    tokens_differ: bool
    largest: float
    prompt_token: int | None = None


class ArmVerdict(Record):
    """What the needles say of one arm.

    Attributes:
        arm: its name.
        verdict: ``invariant``: all bits agree, in a run that could have seen otherwise; ``variant``: they do not;
            ``inconclusive``: see ``reason``.
        reason: for ``inconclusive``.
        answers: how many answers were compared with a needle's own.
        distinct_tokens: for each needle, how many different token sequences it gave.
        distinct_bits: for each needle, how many different sequences of log probabilities' bits.
        distinct_prompts: likewise of the needle's own tokens; 0 where they were not asked for.
        missing: how many of the trials that were asked for have not been run.
        divergences: for each needle that differs, the `worst_of` them.
        widest: the answer whose log probabilities differ by most, of whichever needle.
        first: the earliest answer that differs: alone, then by trial; the staggered trial comes last.
    """

    arm: ArmName
    verdict: Verdict
    reason: str = ""
    answers: int
    distinct_tokens: tuple[int, ...]
    distinct_bits: tuple[int, ...]
    distinct_prompts: tuple[int, ...]
    missing: int = 0
    divergences: tuple[Divergence, ...]
    widest: Divergence | None = None
    first: Divergence | None = None


def judge(
    alone: SoloAnswers, trials: Sequence[Trial], baseline: ArmVerdict | None, asked: Collection[int] | None = None
) -> ArmVerdict:
    """One arm's verdict.

    Args:
        alone: the needles' own answers.
        trials: those that were run.
        baseline: its verdict, which tells of an arm that held whether this run had the power to see otherwise.
        asked: numbers of the trials that were to be run; None if these are all.
    """
    count = len(alone.answers) // 2
    own, again = alone.answers[:count], alone.answers[count:]
    seen = [[own[n], again[n], *(trial.answers[n] for trial in trials)] for n in range(count)]
    every = list(_divergences(own, again, trials))
    missing = set(asked or ()) - {trial.trial for trial in trials}
    reason = "" if every else _doubt(alone, trials, len(missing), baseline)
    return ArmVerdict(
        arm=alone.arm,
        verdict="variant" if every else "inconclusive" if reason else "invariant",
        reason=reason,
        answers=sum(len(answers) - 1 for answers in seen),
        distinct_tokens=tuple(len({answer.tokens for answer in answers}) for answers in seen),
        distinct_bits=tuple(len({(answer.tokens, answer.logprobs) for answer in answers}) for answers in seen),
        distinct_prompts=tuple(len({answer.prompt for answer in answers if answer.prompt}) for answers in seen),
        missing=len(missing),
        divergences=tuple(worst_of(each) for n in range(count) if (each := [d for d in every if d.needle == n])),
        widest=max(every, key=_width, default=None),
        first=min(every, key=_when, default=None),
    )


def _doubt(alone: SoloAnswers, trials: Sequence[Trial], missing: int, baseline: ArmVerdict | None) -> str:
    """Why an arm that did not diverge may still not be called invariant; nothing if it may."""
    if not trials:
        return "no trial was completed"
    if missing:
        return f"{missing} of its {missing + len(trials)} trials were not run; go on with --resume"
    if any(isnan(_number(bits)) for answer in alone.answers for bits in (*answer.logprobs, *answer.prompt)):
        return "log probabilities are NaN, of which nobody can tell whether they are the same number"
    return _blindness(alone.arm, baseline)


def _blindness(arm: ArmName, baseline: ArmVerdict | None) -> str:
    """Why a run in which an arm did not diverge may have been unable to see it; nothing if it was able."""
    more = "more trials (--num-trials), larger batches or longer prompts, or a model with larger layers would have it"
    if arm not in CLAIMING:
        return f"it did not diverge, so this run has not the power to see divergence; {more}"
    if baseline is None:
        return "without the baseline nobody knows whether this run could have seen divergence"
    if baseline.verdict != "variant":
        return f"the baseline did not diverge either, so this run has not the power to see it; {more}"
    return ""


def worst_of(divergences: Sequence[Divergence]) -> Divergence:
    """The one that tells most: alone, from one run to the next; in token ids; by most; of equals the first."""
    return max(divergences, key=lambda one: (one.trial is None, one.tokens_differ, _width(one)))


def _when(found: Divergence) -> tuple[bool, bool, int]:
    return (found.trial is not None, found.trial == STAGGERED, found.trial or 0)


def _width(found: Divergence) -> float:
    return inf if isnan(found.largest) else found.largest


def _divergences(own: Sequence[Answer], again: Sequence[Answer], trials: Sequence[Trial]) -> Iterator[Divergence]:
    for needle, expected in enumerate(own):
        others = [(None, again[needle]), *((trial.trial, trial.answers[needle]) for trial in trials)]
        yield from (difference(expected, got, trial) for trial, got in others if not same(expected, got))


def same(a: Answer, b: Answer) -> bool:
    """Whether all tokens and all bits agree, as far as both answers have them."""
    return (a.tokens, a.logprobs) == (b.tokens, b.logprobs) and _first_difference(a.prompt, b.prompt) is None


def difference(expected: Answer, got: Answer, trial: int | None) -> Divergence:
    """Where two answers to one needle part."""
    pairs = list(zip(expected.tokens, got.tokens, expected.logprobs, got.logprobs, strict=False))
    parted = next((step for step, (a, b, _, _) in enumerate(pairs) if a != b), len(pairs))
    shorter = len(pairs) if len(expected.tokens) != len(got.tokens) else None
    step = next((step for step, (a, b, x, y) in enumerate(pairs) if (a, x) != (b, y)), shorter)
    own = _first_difference(expected.prompt, got.prompt)
    bits = [*((x, y) for _, _, x, y in pairs[:parted]), *zip(expected.prompt, got.prompt, strict=False)]
    gaps = [abs(_number(x) - _number(y)) for x, y in bits if x != y]  # equal infinities have no difference
    return Divergence(
        needle=expected.needle,
        trial=trial,
        step=step,
        tokens_differ=expected.tokens != got.tokens,
        largest=nan if any(map(isnan, gaps)) else max(gaps, default=0.0),
        prompt_token=None if own is None else own + 1,  # a prompt's first token has no log probability
    )


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Where two prompts' bits first differ; None where they do not, or only one was asked for them."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def _number(bits: int) -> float:
    found: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return found
