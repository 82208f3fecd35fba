"""Whether the needles' answers are the same bits in every company: what is concluded from an arm's records."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Literal

from e2e.arms import CLAIMING
from e2e.options import ArmName
from e2e.records import Alone, Answer, Trial
from kernels_bench.cases import Record

Verdict = Literal["invariant", "variant", "inconclusive"]


class Divergence(Record):
    """The first answer that differs from the needle's own, alone.

    Attributes:
        needle: its number.
        trial: where it was seen, see `e2e.records.Trial`; None if the engine alone is not repeatable.
        step: the first token generated whose id or log probability differs; None where none does.
        tokens_differ: whether the ids differ there or later.
        largest: largest difference of two log probabilities of the same token, up to where ids part.
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
        divergences: for each needle that differs, where first.
    """

    arm: ArmName
    verdict: Verdict
    reason: str = ""
    answers: int
    distinct_tokens: tuple[int, ...]
    distinct_bits: tuple[int, ...]
    distinct_prompts: tuple[int, ...]
    divergences: tuple[Divergence, ...]


def judge(alone: Alone, trials: Sequence[Trial], baseline: ArmVerdict | None) -> ArmVerdict:
    """One arm's verdict; of an arm that held, the baseline tells whether this run had the power to see otherwise."""
    count = len(alone.answers) // 2
    own, again = alone.answers[:count], alone.answers[count:]
    seen = [[own[n], again[n], *(trial.answers[n] for trial in trials)] for n in range(count)]
    divergences = tuple(_divergences(own, again, trials))
    verdict, reason = _verdict(alone.arm, divergences, trials, baseline)
    return ArmVerdict(
        arm=alone.arm,
        verdict=verdict,
        reason=reason,
        answers=sum(len(answers) - 1 for answers in seen),
        distinct_tokens=tuple(len({answer.tokens for answer in answers}) for answers in seen),
        distinct_bits=tuple(len({(answer.tokens, answer.logprobs) for answer in answers}) for answers in seen),
        distinct_prompts=tuple(len({answer.prompt for answer in answers if answer.prompt}) for answers in seen),
        divergences=divergences,
    )


def _verdict(
    arm: ArmName, divergences: Sequence[Divergence], trials: Sequence[Trial], baseline: ArmVerdict | None
) -> tuple[Verdict, str]:
    if divergences:
        return "variant", ""
    if not trials:
        return "inconclusive", "no trial was completed"
    more = "more trials (--num-trials), larger batches or longer prompts, or a model with larger layers would have it"
    if arm not in CLAIMING:
        return "inconclusive", f"it did not diverge, so this run has not the power to see divergence; {more}"
    if baseline is None:
        return "inconclusive", "without the baseline nobody knows whether this run could have seen divergence"
    if baseline.verdict != "variant":
        return "inconclusive", f"the baseline did not diverge either, so this run has not the power to see it; {more}"
    return "invariant", ""


def _divergences(own: Sequence[Answer], again: Sequence[Answer], trials: Sequence[Trial]) -> Iterator[Divergence]:
    for needle, expected in enumerate(own):
        others = [(None, again[needle]), *((trial.trial, trial.answers[needle]) for trial in trials)]
        first = next(((trial, got) for trial, got in others if not same(expected, got)), None)
        if first is not None:
            yield difference(expected, first[1], first[0])


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
        largest=max(gaps, default=0.0),
        prompt_token=None if own is None else own + 1,  # a prompt's first token has no log probability
    )


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Where two prompts' bits first differ; None where they do not, or only one was asked for them."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def _number(bits: int) -> float:
    found: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return found
