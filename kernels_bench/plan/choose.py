"""The class of least price, and in it the fastest kernel for every range of M."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

from kernels_bench.plan.classes import SAID_NOTHING, classes_of, keeps, parted_by_proof, told_apart
from kernels_bench.plan.record import BitClass, CasePlan, LeftOut, Price, Stretch, Today
from kernels_bench.records.cases import Load
from kernels_bench.records.latest_records import STATES, State, measured_in
from kernels_bench.records.results import SampleSummary, Timing, Verification
from kernels_bench.report.summary.speed import geometric_mean

LEAST_GAIN = 0.02
"""A change of kernel from one M to the next must save at least this share of the time, beyond both medians' intervals:
else noise would choose, and a plan of many ranges says less than one of few."""

PROOF_COSTS = 0.01
"""Kernels whose order of addition is not known must save at least this share of the time beside those of which it is:
bits that are proven to be the same are worth as much."""

NOT_READ = "the same bits at every M tried, and its order of addition is not known"
"""What tells kernels from those of their class whose order was read."""


class Took(NamedTuple):
    """A median in microseconds, and half the width of its 95 % interval as a share of it."""

    median_us: float
    error: float


@dataclass(frozen=True)
class Times:
    """What one case's kernels took.

    Attributes:
        by_arm: timings of each arm, by what was computed.
        loads: all that the default kernel was timed at, or any where it was at none, ascending.
        state: of the L2 that kernels are chosen by: cold where that was measured, as weights are in an engine.
    """

    by_arm: Mapping[str, Mapping[Load, Timing]]
    loads: tuple[Load, ...]
    state: State

    @classmethod
    def of(cls, timings: Iterable[Timing], default_arm: str) -> Times:
        """Sort timings of one case; what was not measured, or gave other bits than were verified, is none."""
        by_arm: dict[str, dict[Load, Timing]] = {}
        for timing in timings:
            if timing.status == "measured" and not timing.other_bits:
                by_arm.setdefault(timing.case.arm, {})[timing.load] = timing
        every = {*by_arm.get(default_arm, {})} or {load for known in by_arm.values() for load in known}
        measured = [timing for known in by_arm.values() for timing in known.values()]
        cold = all(measured_in(timing, "cold") is not None for timing in measured)
        loads = tuple(sorted(every, key=lambda load: (load.m, load.length or 0)))
        return cls(by_arm, loads, "cold" if cold and measured else "warm")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Each M, ascending."""
        return tuple(dict.fromkeys(load.m for load in self.loads))

    def under(self, arm: str, load: Load, state: State) -> SampleSummary | None:
        """What one kernel took under one load."""
        timing = self.by_arm.get(arm, {}).get(load)
        return None if timing is None else measured_in(timing, state)

    def at(self, arm: str, m: int) -> Took | None:
        """What one kernel took at one M; of sequences the geometric mean over all lengths, None if some is missing."""
        found = [self.under(arm, load, self.state) for load in self.loads if load.m == m]
        known = [Took(one.median_us, one.error) for one in found if one is not None]
        if not known or len(known) < len(found):
            return None
        if len(known) == 1:  # whose mean would be rounded
            return known[0]
        mean = geometric_mean([one.median_us for one in known])
        return Took(mean, math.hypot(*(one.error for one in known)) / len(known))

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
    among: Collection[str] | None = None,
    meant: Mapping[str, str] = SAID_NOTHING,
) -> CasePlan:
    """The plan of one case.

    Args:
        verified: what is known of each kernel's bits.
        timings: of the same kernels.
        default_arm: whose kernel all are compared with.
        weights: how much each M counts.
        today: whose kernel is used now; empty where that is not said.
        among: the kernels that may be chosen; None is all.
        meant: what candidates say of their order of addition.
    """
    case, timings = verified[0].case, tuple(timings)
    times = Times.of(timings, default_arm)
    wanted = {one.case.arm for one in verified if among is None or one.case.arm in among}
    kept = {one.case.arm for one in verified if keeps(one)}
    unfit = {one.arm: one for one in _unfit(timings) if one.arm in kept}
    kept -= {*unfit}
    classes, left_out = classes_of([one for one in verified if one.case.arm in wanted - {*unfit}], meant)
    left_out = (*left_out, *(one for arm, one in unfit.items() if arm in wanted))
    complete = [one for one in classes if _complete(one, times)]
    ordered = sorted(complete, key=lambda one: (_price(one.arms, times, default_arm, weights), one.arms))
    untimed = [arm for one in classes if one not in complete for arm in one.arms]
    found = CasePlan(
        operator=case.operator,
        shape=case.shape,
        precision=case.precision,
        default_arm=default_arm,
        default_keeps=default_arm in kept,
        state=times.state,
        left_out=(*left_out, *(LeftOut(arm=arm, reason="not timed at every M") for arm in untimed)),
    )
    if not ordered:
        return found
    chosen, *others = ordered
    known = {one.case.arm: one for one in verified}
    apart = tuple(_apart(one, chosen, known, meant) for one in others)
    if (parts := parted_by_proof(chosen, known)) is not None:
        proven, unread = parts
        least, with_proof = (_price(one.arms, times, default_arm, weights) for one in (chosen, proven))
        if with_proof <= least + math.log1p(PROOF_COSTS):
            chosen, others, apart = proven, [unread, *others], (NOT_READ, *apart)
    found = found.model_copy(update={"chosen": chosen, "others": tuple(others), "apart": apart})
    found = _priced(found, chosen, times, weights)
    if (now := known.get(today)) is None:
        return found
    same_bits = today in kept and not any(told_apart(now, known[arm], meant) for arm in chosen.arms)
    return found.model_copy(update={"today": _beside(now.case.arm, same_bits, found, times, weights)})


def _apart(one: BitClass, chosen: BitClass, known: Mapping[str, Verification], meant: Mapping[str, str]) -> str:
    """What told two classes apart: some kernel of one from some of the other."""
    pairs = product(one.arms, chosen.arms)
    return next(filter(None, (told_apart(known[left], known[right], meant) for left, right in pairs)), "")


def _unfit(timings: Iterable[Timing]) -> Iterator[LeftOut]:
    """Kernels that failed or gave other bits while they were timed: nobody may take their bits for granted."""
    seen: set[str] = set()
    for one in timings:
        failed = one.status == "failed" and one.cause in ("no_answer", "other")
        if (failed or one.other_bits) and one.case.arm not in seen:
            seen.add(one.case.arm)
            what = f"failed while it was timed at M={one.m}" if failed else f"timed at M={one.m}"
            yield LeftOut(arm=one.case.arm, reason=f"{what}: {one.reason if failed else one.other_bits}")


def _beside(today: str, same_bits: bool, case: CasePlan, times: Times, weights: Mapping[int, float]) -> Today:
    """The plan beside the kernel that is used now."""
    us = {m: now.median_us for m in times.sizes if (now := times.at(today, m)) is not None}
    mine = {m: found.median_us for m in us if (found := times.at(case.arm_at(m), m)) is not None}
    ratios = {m: mine[m] / us[m] for m in mine}
    return Today(arm=today, same_bits=same_bits, mean=_weighted(ratios, weights), us=us)


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
    for load in times.loads:
        m = load.m
        arm = next(one.arm for one in stretches if one.first <= m and (one.last is None or m <= one.last))
        for state in STATES:
            mine, base = times.under(arm, load, state), times.under(default_arm, load, state)
            if mine is not None and base is not None:
                error = 0.0 if arm == default_arm else math.hypot(mine.error, base.error)
                yield Price(
                    m=m, state=state, arm=arm, planned_us=mine.median_us, default_us=base.median_us, error=error,
                    length=load.length,
                )  # fmt: skip


def _mean(prices: Iterable[Price], state: State, weights: Mapping[int, float]) -> float | None:
    """The weighted geometric mean, all lengths of sequences alike; None where some M that counts has no price."""
    ratios: dict[int, list[float]] = {}
    for price in prices:
        if price.state == state:
            ratios.setdefault(price.m, []).append(price.ratio)
    return _weighted({m: geometric_mean(known) for m, known in ratios.items()}, weights)


def _weighted(known: Mapping[int, float], weights: Mapping[int, float]) -> float | None:
    counted = {m: weight for m, weight in weights.items() if weight}
    if not counted or any(m not in known for m in counted):
        return None
    return math.exp(sum(weight * math.log(known[m]) for m, weight in counted.items()))
