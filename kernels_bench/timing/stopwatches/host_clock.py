"""Times calls by the host's clock, where there is no GPU."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from kernels_bench.timing.meter import Call, Count, Meter, within_turn

_MOST_CALLS = 1000


class HostStopwatch:
    """The CPU's clock around calls on the CPU.

    Args:
        within: counts the samples of a turn.
        then: called once the cache is filled with other data.
    """

    full_clock_mhz = 0.0
    cold_meters = 1
    sample_us = 300.0
    _CACHE_BYTES = 64 << 20

    def __init__(self, within: Count = within_turn, then: Call | None = None) -> None:
        self._within, self._then = within, then
        self._other_data = torch.zeros(self._CACHE_BYTES // 4)
        # With the data the interpreter goes cold too; what that costs an empty call is no kernel's.
        empty = HostMeter(_nothing, 1, self.flush_cache, within=within)
        self._cold_overhead_us = statistics.median(us for _ in range(4) for us, _ in empty.take(rest=False))

    def flush_cache(self) -> None:
        """Read other data, and call what is to come then."""
        self._other_data.sum()
        if self._then is not None:
            self._then()

    def estimate_us(self, call: Call) -> float:
        """The second of two calls."""
        call()
        return max(0.5, host_us(call))

    def rough_us(self, call: Call) -> float:
        """Of two calls."""
        return statistics.median(us for us, _ in self.cold(call, 0.0).take(rest=False))

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """The mean over back-to-back calls."""
        call()
        calls = max(1, min(_MOST_CALLS, round(self.sample_us / estimate_us)))
        return HostMeter(call, calls, None, within=self._within)

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """One call after reading more than the cores' own caches hold, and most shared ones that are theirs alone."""
        return HostMeter(call, 1, self.flush_cache, self._cold_overhead_us, within=self._within)


def _nothing() -> None:
    """What a cold sample costs without a kernel."""


def host_us(call: Call) -> float:
    """One call by the CPU's clock, in microseconds."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e3


@dataclass
class HostMeter:
    """Samples by the CPU's clock; see `Meter`."""

    call: Call
    calls: int
    flush_cache: Call | None
    overhead_us: float = 0.0
    method: str = "host"
    within: Count = within_turn

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Up to four warm samples, or two cold ones."""
        return [(self._sample(), None) for _ in self.within(4 if self.flush_cache is None else 2)]

    def _sample(self) -> float:
        if self.flush_cache is not None:
            self.flush_cache()

        def repeated() -> None:
            for _ in range(self.calls):
                self.call()

        return max(0.0, host_us(repeated) / self.calls - self.overhead_us)
