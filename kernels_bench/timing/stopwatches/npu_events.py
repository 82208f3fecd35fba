"""Meters for an NPU: eager calls between two events, behind a kernel that holds the stream.

torch_npu's events tell no time inside a graph, so that nothing is captured.  The clock is not read either.  Written to
torch_npu 2.14's sources; not run, for want of an NPU.
"""

from __future__ import annotations

import statistics
import time

import torch

from kernels_bench.device.kinds import npu
from kernels_bench.timing.meter import Call, Meter, within_turn

REST_S = 0.004
_HOLD_CYCLES = 2_000_000
_CACHE_BYTES = 512 << 20
"""More than the L2 of any Atlas A2 or A3 holds, which is 192 MiB."""
_MOST_CALLS = 64
_TAKES = 4
_CALIBRATIONS = 12


class NpuStopwatch:
    """Makes meters for the current NPU.

    Attributes:
        bracket_us: what a pair of events with nothing between them tells.
    """

    full_clock_mhz = 0.0
    cold_meters = 1
    sample_us = 300.0

    def __init__(self) -> None:
        device = npu.KIND.torch_device()
        self._other_data = torch.zeros(_CACHE_BYTES // 4, device=device)
        self._sum = torch.zeros((), device=device)
        self.bracket_us = 0.0
        empty = NpuMeter(self, _nothing, 1, _nothing)
        self.bracket_us = statistics.median(us for _ in range(_CALIBRATIONS) for us, _ in empty.take(rest=False))

    def flush_cache(self) -> None:
        """Fill the L2 with other data by reading them."""
        torch.sum(self._other_data, dim=0, out=self._sum)

    def estimate_us(self, call: Call) -> float:
        """The second of two calls."""
        call()
        return max(1.0, NpuMeter(self, call, 1, _nothing).sample())

    def rough_us(self, call: Call) -> float:
        """Of two to four calls."""
        return max(0.1, statistics.median(us for us, _ in self.cold(call, 0.0).take(rest=False)))

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """The mean over back-to-back calls."""
        return NpuMeter(self, call, max(1, min(_MOST_CALLS, round(self.sample_us / estimate_us))), call)

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """One call a sample, after `flush_cache`."""
        return NpuMeter(self, call, 1, self.flush_cache)


def _nothing() -> None:
    """Launch nothing."""


class NpuMeter:
    """Samples of eager calls; the stream is held until the host has queued them."""

    method = "stream"

    def __init__(self, stopwatch: NpuStopwatch, call: Call, calls: int, before: Call) -> None:
        self.calls, self._call, self._before = calls, call, before
        self.overhead_us = stopwatch.bracket_us / calls

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Up to four samples, of which none tells the clock."""
        if rest:
            time.sleep(REST_S)
        return [(self.sample(), None) for _ in within_turn(_TAKES)]

    def sample(self) -> float:
        """Microseconds of a call."""
        device = npu.KIND
        start, end = device.event(), device.event()
        device.hold(_HOLD_CYCLES)
        self._before()
        start.record()
        for _ in range(self.calls):
            self._call()
        end.record()
        device.synchronise()
        return 1e3 * float(start.elapsed_time(end)) / self.calls - self.overhead_us
