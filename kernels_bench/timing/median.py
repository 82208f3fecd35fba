"""What samples say: medians, their confidence, and when to stop.  Pure functions; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from kernels_bench.records.results import Samples, SampleSummary

FULL_CLOCK = 0.97
"""Samples whose SM clock is below this share of the full clock are set aside."""

GOOD_ENOUGH = 0.0025
"""Stop when half of the median's 95 % interval is below this share of the median."""

UNKNOWN = 0.5
"""A median of which half of that interval is a larger share is not known."""

FEWEST = 5
"""Fewer samples than this have no 90 % spread worth naming."""


@lru_cache(maxsize=1024)
def median_ranks(count: int) -> tuple[int, int]:
    """Ranks (from 0) of the order statistics that enclose the median with at least 95 % confidence.

    The interval holds whatever the distribution (Conover, *Practical Nonparametric Statistics*, section 3.2).
    Below six samples even the extremes do not enclose it with that confidence; they are given all the same.
    """
    below, rank = 0.0, 0
    while rank <= (count - 1) // 2:
        below += math.comb(count, rank) / 2**count
        if below > 0.025:
            break
        rank += 1
    low = max(0, rank - 1)
    return low, count - 1 - low


def median_error(samples: Sequence[float]) -> float:
    """Half the width of the median's 95 % interval, as a share of the median; infinite for no samples."""
    if not samples:
        return math.inf
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    low, high = median_ranks(len(ordered))
    middle = float(np.median(ordered))
    return float(ordered[high] - ordered[low]) / 2 / middle if middle > 0 else math.inf


def at_full_clock(samples: Samples, full_clock_mhz: float) -> list[float]:
    """The samples taken at full clock, or all of them where fewer than `FEWEST` were."""
    if not samples.clock_mhz or full_clock_mhz <= 0:
        return list(samples.us)
    floor = FULL_CLOCK * full_clock_mhz
    full = [us for us, clock in zip(samples.us, samples.clock_mhz, strict=True) if clock >= floor]
    return full if len(full) >= FEWEST else list(samples.us)


def known_well_enough(samples: Samples, full_clock_mhz: float, fewest: int) -> bool:
    """Whether the median needs no further sample."""
    used = at_full_clock(samples, full_clock_mhz)
    return len(used) >= fewest and median_error(used) <= GOOD_ENOUGH


def summarise(samples: Samples, full_clock_mhz: float = 0.0) -> SampleSummary:
    """Median and spread of the samples at full clock, with what a reader must know of them.

    Raises:
        ValueError: there is no sample.
    """
    if not samples.us:
        raise ValueError("no samples to summarise")
    used = at_full_clock(samples, full_clock_mhz)
    p10, median, p90 = (float(v) for v in np.percentile(used, [10, 50, 90]))
    slowed = len(samples.us) - len(used)
    return SampleSummary(
        median_us=median,
        p10_us=p10,
        p90_us=p90,
        error=median_error(used),
        samples=len(used),
        slowed=slowed,
        warnings=tuple(_warnings(samples, used, full_clock_mhz)),
    )


def _warnings(samples: Samples, used: Sequence[float], full_clock_mhz: float) -> list[str]:
    """What a reader of the median must know, each with its remedy."""
    found = []
    if samples.clock_mhz and len(used) == len(samples.us):
        clock = float(np.median(samples.clock_mhz))
        if clock < FULL_CLOCK * full_clock_mhz:
            found.append(
                f"SM clock {clock:.0f} of {full_clock_mhz:.0f} MHz: compare cycles, or time on a cooler, idle card"
            )
    if len(used) < FEWEST:
        found.append(f"only {len(used)} samples: raise --timeout or choose a smaller shape")
    error = median_error(used)
    if error > UNKNOWN:
        found.append("the median is not known: samples spread too much; close other programs and run again")
    elif error > 0.02:
        found.append(f"median known to ±{100 * error:.1f} % only: close other programs and run again")
    return found
