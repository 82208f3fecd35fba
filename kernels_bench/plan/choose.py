"""The class of least price, and in it the fastest kernel for every range of M."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kernels_bench.plan.classes import classes_of, told_apart
from kernels_bench.plan.record import BitClass, CasePlan, LeftOut, Price, Stretch, Today
from kernels_bench.records.latest_records import STATES, State, measured_in
from kernels_bench.records.results import SampleSummary, Timing, Verification

LEAST_GAIN = 0.02
"""A change of kernel from one M to the next must save at least this share of the time, beyond both medians' intervals:
else noise would choose, and a plan of many ranges says less than one of few."""


@dataclass(frozen=True)
class Times:
    """What one case's kernels took.

    Attributes:
        by_arm: timings of each arm, by M.
        sizes: each M at which the default kernel was timed, or any where it was at none, ascending.
        state: of the L2 that kernels are chosen by: cold where that was measured, as weights are in an engine.
    """

    by_arm: Mapping[str, Mapping[int, Timing]]
    sizes: tuple[int, ...]
    state: State

    @classmethod
    def of(cls, timings: Iterable[Timing], default_arm: str) -> Times:
        """Sort timings of one case; what was not measured, or gave other bits than were verified, is none."""
        by_arm: dict[str, dict[int, Timing]] = {}
        for timing in timings:
            if timing.status == "measured" and not timing.other_bits and timing.length is None:
                by_arm.setdefault(timing.case.arm, {})[timing.m] = timing
        every = sorted({m for known in by_arm.values() for m in known})
        every = sorted(by_arm.get(default_arm, {})) or every
        measured = [timing for known in by_arm.values() for timing in known.values()]
        cold = all(measured_in(timing, "cold") is not None for timing in measured)
        return cls(by_arm, tuple(every), "cold" if cold and measured else "warm")

    def at(self, arm: str, m: int, state: State | None = None) -> SampleSummary | None:
        """What one kernel took at one M."""
        timing = self.by_arm.get(arm, {}).get(m)
        return None if timing is None else measured_in(timing, state or self.state)

    def fastest(self, arms: Sequence[str], m: int) -> str:
        """Whose kernel is the fastest of some; empty where none was timed."""
        timed = [(found.median_us, arm) for arm in arms if (found := self.at(arm, m)) is not None]
        return min(timed)[1] if timed else ""


def plan_case(
    verified: Sequence[Verification],
    timings: Iterable[Timing],
    default_arm: str,
    weights: Mapping[int, float],
    today: str = "",
) -> CasePlan:
    """The plan of one case.

    Args:
        verified: what is known of each kernel's bits.
        timings: of the same kernels.
        default_arm: whose kernel all are compared with.
        weights: how much each M counts.
        today: whose kernel is used now; empty where that is not said.
    """
    case, times = verified[0].case, Times.of(timings, default_arm)
    classes, left_out = classes_of(verified)
    complete = [one for one in classes if _complete(one, times)]
    ordered = sorted(complete, key=lambda one: (_price(one.arms, times, default_arm, weights), one.arms))
    untimed = [arm for one in classes if one not in complete for arm in one.arms]
    found = CasePlan(
        operator=case.operator,
        shape=case.shape,
        precision=case.precision,
        default_arm=default_arm,
        default_keeps=any(default_arm in one.arms for one in classes),
        state=times.state,
        left_out=(*left_out, *(LeftOut(arm=arm, reason="not timed at every M") for arm in untimed)),
    )
    if not ordered:
        return found
    chosen, *others = ordered
    known = {one.case.arm: one for one in verified}
    apart = tuple(told_apart(known[one.arms[0]], known[chosen.arms[0]]) for one in others)
    found = found.model_copy(update={"chosen": chosen, "others": tuple(others), "apart": apart})
    found = _priced(found, chosen, times, weights)
    return found.model_copy(update={"today": _beside(today, found, times, weights)}) if today in known else found


def _beside(today: str, case: CasePlan, times: Times, weights: Mapping[int, float]) -> Today:
    """The plan beside the kernel that is used now."""
    ratios = {}
    for m, weight in weights.items():
        mine, now = times.at(case.arm_at(m), m), times.at(today, m)
        if weight and mine is not None and now is not None:
            ratios[m] = mine.median_us / now.median_us
    same_bits = case.chosen is not None and today in case.chosen.arms
    return Today(arm=today, same_bits=same_bits, mean=_weighted(ratios, weights))


def _priced(case: CasePlan, chosen: BitClass, times: Times, weights: Mapping[int, float]) -> CasePlan:
    """The same with kernels for every range of M, and what they cost."""
    stretches = _stretches(chosen, times)
    prices = tuple(_prices(stretches, times, case.default_arm))
    means = {state: mean for state in STATES if (mean := _mean(prices, state, weights)) is not None}
    steady = min(chosen.arms, key=lambda arm: (_price((arm,), times, case.default_arm, weights), arm))
    update = {"stretches": stretches, "prices": prices, "means": means, "mean": means.get(times.state)}
    return case.model_copy(update={**update, "steady": steady})


def _complete(one: BitClass, times: Times) -> bool:
    """Whether at every M some kernel of the class was timed."""
    return bool(times.sizes) and all(times.fastest(one.arms, m) for m in times.sizes)


def _price(arms: Sequence[str], times: Times, default_arm: str, weights: Mapping[int, float]) -> float:
    """Mean of the logarithms of some kernels' times over the default one's, or of the times where that was not timed.

    Infinite where none of them was timed at some M.
    """
    total = 0.0
    for m in times.sizes:
        mine, base = times.at(times.fastest(arms, m), m), times.at(default_arm, m)
        if mine is None:
            return math.inf
        total += weights.get(m, 0.0) * math.log(mine.median_us / (base.median_us if base is not None else 1.0))
    return total


def _stretches(chosen: BitClass, times: Times) -> tuple[Stretch, ...]:
    """One kernel from each change to the next; between two M that were timed, the one of the smaller."""
    arms: list[str] = []
    for m in times.sizes:
        arms.append(_kept(arms[-1], times.fastest(chosen.arms, m), m, times) if arms else times.fastest(chosen.arms, m))
    changes = [0, *(place for place, (one, other) in enumerate(pairwise(arms), start=1) if one != other)]
    firsts = [1, *(times.sizes[place] for place in changes[1:])]
    lasts = [*(first - 1 for first in firsts[1:]), None]
    return tuple(
        Stretch(first=first, last=last, arm=arms[place])
        for first, last, place in zip(firsts, lasts, changes, strict=True)
    )


def _kept(before: str, fastest: str, m: int, times: Times) -> str:
    """The kernel of the M before, unless the fastest one saves more than noise would show."""
    now, best = times.at(before, m), times.at(fastest, m)
    if now is None or best is None:
        return fastest
    surely = best.median_us * (1 + best.error) < now.median_us * (1 - now.error)
    return fastest if surely and best.median_us < now.median_us * (1 - LEAST_GAIN) else before


def _prices(stretches: Sequence[Stretch], times: Times, default_arm: str) -> Iterator[Price]:
    for m in times.sizes:
        arm = next(one.arm for one in stretches if one.first <= m and (one.last is None or m <= one.last))
        for state in STATES:
            mine, base = times.at(arm, m, state), times.at(default_arm, m, state)
            if mine is not None and base is not None:
                error = 0.0 if arm == default_arm else math.hypot(mine.error, base.error)
                yield Price(
                    m=m, state=state, arm=arm, planned_us=mine.median_us, default_us=base.median_us, error=error
                )


def _mean(prices: Iterable[Price], state: State, weights: Mapping[int, float]) -> float | None:
    """The weighted geometric mean; None where some M that counts has no price."""
    return _weighted({price.m: price.ratio for price in prices if price.state == state}, weights)


def _weighted(known: Mapping[int, float], weights: Mapping[int, float]) -> float | None:
    counted = {m: weight for m, weight in weights.items() if weight}
    if not counted or any(m not in known for m in counted):
        return None
    return math.exp(sum(weight * math.log(known[m]) for m, weight in counted.items()))
