"""Speeds and shares of the ceiling, from medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from kernels_bench.records.cases import Load
from kernels_bench.records.latest_records import State, median_us
from kernels_bench.records.results import Ceiling, Timing
from kernels_bench.report.summary.schema import CeilingShare, RankBandwidth, Speed


def geometric_mean(ratios: Sequence[float]) -> float:
    """The geometric mean; exactly 1 for ratios that are all exactly 1.

    Raises:
        ValueError: no ratio, or one that is not positive.
    """
    if not ratios:
        raise ValueError("no ratio to average")
    return math.exp(math.fsum(math.log(ratio) for ratio in ratios) / len(ratios))


def speed_over(timed: Sequence[Timing], base: Sequence[Timing], state: State) -> Speed | None:
    """Speed over all pairs of one arm's timings and the default arm's at the same load; None without a pair."""

    def medians(timings: Sequence[Timing]) -> dict[tuple[str, Load], float]:
        """The medians in microseconds, of each case without its arm, and load."""
        values = {(t.case.without_arm, t.load): median_us(t, state) for t in timings}
        return {key: us for key, us in values.items() if us is not None}

    ours, default = medians(timed), medians(base)
    ratios = {key: default[key] / us for key, us in ours.items() if key in default}
    if not ratios:
        return None
    by_m: dict[int, list[float]] = {}
    by_length: dict[int, list[float]] = {}
    for (_, load), ratio in ratios.items():
        by_m.setdefault(load.m, []).append(ratio)
        if load.length is not None:
            by_length.setdefault(load.length, []).append(ratio)
    return Speed(
        ratio=geometric_mean(list(ratios.values())),
        by_m={m: geometric_mean(by_m[m]) for m in sorted(by_m)},
        by_length={length: geometric_mean(by_length[length]) for length in sorted(by_length)},
        cases=len({case for case, _ in ratios}),
        timings=len(ratios),
    )


def share_of_ceiling(timed: Iterable[Timing], ceiling: Ceiling | None) -> CeilingShare | None:
    """How near to the measured ceilings some timings are; None where that cannot be said."""
    if ceiling is None:
        return None
    known = [(timing.length, share) for timing in timed if (share := ceiling_share(timing, ceiling)) is not None]
    if not known:
        return None
    shares = [share for _, share in known]
    by_length: dict[int, list[float]] = {}
    for length, share in known:
        if length is not None:
            by_length.setdefault(length, []).append(share)
    return CeilingShare(
        median=statistics.median(shares),
        best=max(shares),
        timings=len(shares),
        by_length={length: statistics.median(by_length[length]) for length in sorted(by_length)},
    )


def bandwidth_over_ranks(timed: Iterable[Timing]) -> RankBandwidth | None:
    """What ranks moved a second at most; None where none compute together, or no median is known."""
    known = [(timing, us) for timing in timed if timing.message_bytes and (us := median_us(timing, "warm"))]
    if not known:
        return None
    timing, us = max(known, key=lambda one: one[0].bus_bytes / one[1])
    return RankBandwidth(
        case=timing.case.without_arm,
        m=timing.m,
        algorithm_gb_s=timing.message_bytes / us / 1e3,
        bus_gb_s=timing.bus_bytes / us / 1e3,
    )


def ceiling_share(timing: Timing, ceiling: Ceiling) -> float | None:
    """The least time that the device needs for one timing, as a share of the time taken; None if unknown.

    What is bound by bandwidth is judged by its cold time, since warm data may come from L2 and beat the bus.
    """
    peak = ceiling.tflop_s.get(timing.case.precision.input, 0.0)
    if not ceiling.bandwidth_gb_s > 0 or not peak > 0:
        return None
    moving_us = timing.bytes_moved / ceiling.bandwidth_gb_s / 1e3
    computing_us = timing.operations / peak / 1e6
    taken_us = median_us(timing, "cold" if moving_us >= computing_us else "warm")
    least_us = max(moving_us, computing_us)
    return least_us / taken_us if taken_us is not None and least_us > 0 else None
