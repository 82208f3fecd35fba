"""What measures a call: the two protocols that the host's clock and CUDA's events implement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

Call = Callable[[], object]
Count = Callable[[int], Iterable[int]]
"""Counts samples, up to a number at most: as `within_turn` does, or as ``range``."""

TURN_S = 0.008
"""After this time a turn takes no more samples than it must."""


class Meter(Protocol):
    """Takes samples of one call under one state of the cache."""

    calls: int
    method: str
    overhead_us: float

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """A few samples as (microseconds a call, SM clock in MHz); ``rest`` lets the card cool down first."""


def within_turn(most: int) -> Iterator[int]:
    """Count to ``most``, but no further than 2 once `TURN_S` has passed, so that slow kernels take short turns."""
    start = time.perf_counter()
    for number in range(most):
        if number >= 2 and time.perf_counter() - start > TURN_S:
            return
        yield number


class Stopwatch(Protocol):
    """A device's way of making meters; keeps what was calibrated once.

    Attributes:
        full_clock_mhz: SM clock of the device doing next to nothing; 0 where it is not known.
        cold_meters: how many meters of cold calls a turn has, each with the data at a place of its own.
        sample_us: what the calls of a warm sample take together, about.
    """

    full_clock_mhz: float
    sample_us: float
    cold_meters: int

    def estimate_us(self, call: Call) -> float:
        """One call's time, roughly, in microseconds; at least a small positive one."""

    def rough_us(self, call: Call) -> float:
        """The median of a few calls with the cache filled with other data before each, in microseconds."""

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """A meter of as many back-to-back calls as make a good sample, with whatever fits left in the cache."""

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """A meter with the cache filled with other data before each call."""


def stopwatch_of(call: Call, usual: Stopwatch) -> Stopwatch:
    """What times a call: the device's stopwatch, unless the call has its own, as one that other processes compute has.

    Such a call has a method ``stopwatch``, which is given the device's, and leaves results in ``result``.
    """
    own: Callable[[Stopwatch], Stopwatch] | None = getattr(call, "stopwatch", None)
    return usual if own is None else own(usual)
