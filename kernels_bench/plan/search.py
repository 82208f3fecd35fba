"""Which of an arm's candidates are verified and timed, by a rough timing of all: the fewest that a plan may need.

A plan takes its kernels from one class of equal bits.  So a candidate that is fast at some M is of use only beside
others of its order that are fast elsewhere: orders are compared first, and then a few of each are taken that together
are nearly as fast at every M as all of that order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kernels_bench.plan.record import LeftOut
from kernels_bench.plan.weights import NAMED
from kernels_bench.records.results import Rough

Times = Mapping[str, Mapping[int, float]]
"""Microseconds by candidate and M; all at the same M."""

NEAR = 0.15
"""An order of addition is tried if, by some of the usual weights, it takes no longer than the best one and this share:
a rough median may be off by half of it."""

LEAST_GAIN = 0.01
"""A further candidate of an order is tried only if the order's mean time falls by this share."""


def finalists(times: Times, orders: Mapping[str, str], most: int) -> tuple[str, ...]:
    """The candidates that are tried, those of the most promising order first.

    Args:
        times: of all.
        orders: what each says of its order of addition; those that say nothing are taken together.
        most: at most so many.
    """
    groups: dict[str, list[str]] = {}
    for name in times:
        groups.setdefault(orders.get(name, ""), []).append(name)
    # One order after the other: a few candidates of each would leave none of them with a fast one at every M.
    taken = [name for names in _promising(times, [*groups.values()]) for name in _covering(times, names)]
    return tuple(taken[:most])


def _promising(times: Times, groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The groups that are nearly the best by some usual weights, the best by all M alike first."""
    kept: dict[int, Sequence[str]] = {}
    for weights in _usual_weights(times):
        costs = [_cost(times, names, weights) for names in groups]
        near = min(costs, default=0.0) + math.log1p(NEAR)
        for place in sorted(range(len(groups)), key=costs.__getitem__):
            if costs[place] <= near:
                kept.setdefault(place, groups[place])
    return [*kept.values()]


def _usual_weights(times: Times) -> Iterator[Mapping[int, float]]:
    sizes = next(iter(times.values()), {})
    for weight in NAMED.values():
        weights = {m: weight(m) for m in sizes}
        if total := sum(weights.values()):
            yield {m: one / total for m, one in weights.items()}


def _cost(times: Times, names: Iterable[str], weights: Mapping[int, float]) -> float:
    """Mean of the logarithms of the least times of some candidates."""
    known = [times[name] for name in names]
    return sum(weight * math.log(min(one[m] for one in known)) for m, weight in weights.items())


def _covering(times: Times, names: Sequence[str]) -> list[str]:
    """A few of one order that together are nearly as fast as all of them, each but the first a gain."""
    even = next(_usual_weights(times))
    taken: list[str] = []
    before = math.inf
    while left := [name for name in names if name not in taken]:
        cost, best = min((_cost(times, [*taken, name], even), name) for name in left)
        if cost > before + math.log1p(-LEAST_GAIN):
            break
        taken.append(best)
        before = cost
    return taken


def left_out(roughs: Sequence[Rough], verified: Iterable[str]) -> Iterator[LeftOut]:
    """What a rough timing left out of one case, and why."""
    tried = {*verified}
    measured = [one for one in roughs if one.status == "measured" and one.us]
    fastest = {m: min(one.us[m] for one in measured if m in one.us) for m in {m for one in measured for m in one.us}}
    for one in roughs:
        if one.case.arm in tried:
            continue
        if one.status != "measured":
            yield LeftOut(arm=one.case.arm, reason=f"{one.status}: {one.reason}")
            continue
        ratios = {m: us / fastest[m] for m, us in one.us.items()}
        m = min(ratios, key=lambda size: (ratios[size], size))
        slower = ratios[m] > 1 + NEAR
        what = "slower at every M tried" if slower else "of its order of addition others do as well"
        reason = (
            f"{what}: roughly {ratios[m]:.2f} times the fastest at best (M={m}), {max(ratios.values()):.2f} at worst"
        )
        yield LeftOut(arm=one.case.arm, reason=reason, slower=ratios[m])
