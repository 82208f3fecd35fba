"""How long a kernel takes: samples with a warm and with a cold L2, launch latency kept out.

On CUDA everything that is timed is captured in a graph, the events that bracket it included, so that nothing
of the host's lies between them.  A warm sample is the mean over back-to-back calls; a cold one is a single call
after a memset of twice the L2's size.  What the bracket itself costs is measured with an empty kernel and
subtracted.  Each sample ends with a spin of a known number of cycles, which tells the SM clock it ran at.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from kernels_bench.records import Samples, Summary, Timing
from kernels_bench.relations import company
from kernels_bench.sampling import FULL_CLOCK, known_well_enough, summarise
from kernels_bench.subject import Subject
from profiles.ranges import Ranges
from profiles.telemetry import Telemetry

Call = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How much to spend on one set of samples.

    Attributes:
        sample_us: length that one warm sample aims at.
        fewest: samples without which no median is called known.
        most: samples at which to stop in any case.
        budget_s: time after which to stop, once there are five samples.
    """

    sample_us: float = 400.0
    fewest: int = 18
    most: int = 120
    budget_s: float = 0.02


class Meter(Protocol):
    """Takes samples of one call under one state of the cache."""

    calls: int
    method: str
    overhead_us: float

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """A few samples as (microseconds a call, SM clock in MHz); ``rest`` lets the card cool down first."""


class Sampler:
    """Collects one meter's samples until the median is known."""

    def __init__(self, meter: Meter, effort: Effort, full_clock_mhz: float) -> None:
        self._meter, self._effort, self._full_clock = meter, effort, full_clock_mhz
        self._us: list[float] = []
        self._clocks: list[float] = []
        self._spent_s = 0.0
        self.done = False

    def turn(self) -> None:
        """Take a few samples, unless enough is known."""
        if self.done:
            return
        start = time.perf_counter()
        for us, clock in self._meter.take(self._slowed()):
            self._us.append(us)
            if clock is not None:
                self._clocks.append(clock)
        self._spent_s += time.perf_counter() - start
        count, effort = len(self._us), self._effort
        spent = self._spent_s >= effort.budget_s and count >= min(5, effort.fewest)
        self.done = spent or count >= effort.most or known_well_enough(self.samples(), self._full_clock, effort.fewest)

    def _slowed(self) -> bool:
        return bool(self._clocks) and min(self._clocks[-3:]) < FULL_CLOCK * self._full_clock

    def samples(self) -> Samples:
        """What was taken so far."""
        return Samples.model_validate(
            {
                "us": tuple(self._us),
                "clock_mhz": tuple(self._clocks),
                "calls": self._meter.calls,
                "method": self._meter.method,
                "overhead_us": self._meter.overhead_us,
            }
        )

    def summary(self) -> Summary:
        """Median and spread."""
        return summarise(self.samples(), self._full_clock)


class Stopwatch(Protocol):
    """A device's way of making meters; keeps what was calibrated once."""

    full_clock_mhz: float

    def warm(self, call: Call, effort: Effort) -> Meter:
        """A meter with whatever fits left in the cache."""

    def cold(self, call: Call, effort: Effort) -> Meter:
        """A meter with the cache filled with other data before each call."""


class TimedCase:
    """One subject at one M, sampled turn by turn.

    Args:
        subject: what to time.
        m: number of rows, the first of the subject's universe.
        stopwatch: the device's.
        ranges: where each timed region is announced.
        telemetry: the card's, or None on a CPU.
    """

    def __init__(
        self, subject: Subject, m: int, stopwatch: Stopwatch, ranges: Ranges, telemetry: Telemetry | None
    ) -> None:
        start = time.perf_counter()
        self._subject, self._m, self._ranges, self._telemetry = subject, m, ranges, telemetry
        inputs = subject.gather(company(f"first:{m}", subject.universe))
        arguments = subject.operator.arguments(inputs, subject.weights)
        self._throttled: set[str] = set()
        case = subject.case
        self._message = f"{case.arm}/{case.operator}/{case.shape.token},{case.precision}/{m}"

        def call() -> object:
            return subject.kernel(*arguments)

        with ranges.range(f"warm-up/{self._message}", category="warm-up", payload=m):
            call()
            synchronise(subject.device)
            self._compile_s = time.perf_counter() - start
            effort = Effort()
            self._warm = Sampler(stopwatch.warm(call, effort), effort, stopwatch.full_clock_mhz)
            self._cold = Sampler(stopwatch.cold(call, effort), effort, stopwatch.full_clock_mhz)
        self._wall_s = time.perf_counter() - start - self._compile_s

    def turn(self) -> bool:
        """Take a few samples of each kind; True once both medians are known."""
        start = time.perf_counter()
        with (
            self._ranges.range(self._message, category=self._subject.case.operator, payload=self._m),
            no_gc(),
        ):
            self._warm.turn()
            self._cold.turn()
        state = self._telemetry.state() if self._telemetry is not None else None
        self._throttled |= set(state.slowed or ()) if state is not None else set()
        self._wall_s += time.perf_counter() - start
        return self._warm.done and self._cold.done

    def result(self) -> Timing:
        """Everything that was measured."""
        case, operator = self._subject.case, self._subject.operator
        state = self._telemetry.state() if self._telemetry is not None else None
        return Timing(
            case=case,
            m=self._m,
            status="measured",
            warm=self._warm.summary(),
            cold=self._cold.summary(),
            warm_samples=self._warm.samples(),
            cold_samples=self._cold.samples(),
            bytes_moved=operator.bytes_moved(case.shape, case.precision, self._m),
            operations=operator.operations(case.shape, self._m),
            throttle_reasons=tuple(sorted(self._throttled)),
            power_w=state.power_w if state is not None else None,
            temperature_c=state.temperature_c if state is not None else None,
            wall_ms=1e3 * self._wall_s,
            compile_ms=1e3 * self._compile_s,
        )


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def no_gc() -> Iterator[None]:
    """No garbage collection in the middle of a sample."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def stopwatch_for(device: torch.device) -> Stopwatch:
    """The device's stopwatch, calibrated."""
    if device.type == "cuda":
        from kernels_bench.timing_cuda import CudaStopwatch

        return CudaStopwatch()
    return HostStopwatch()


class HostStopwatch:
    """The CPU's clock around calls on the CPU."""

    full_clock_mhz = 0.0
    _CACHE_BYTES = 64 << 20

    def __init__(self) -> None:
        self._other_data = torch.zeros(self._CACHE_BYTES // 8, dtype=torch.int64)

    def warm(self, call: Call, effort: Effort) -> Meter:
        """The mean over back-to-back calls."""
        call()
        once_us = max(0.5, host_us(call))
        return HostMeter(call, max(1, min(1000, round(effort.sample_us / once_us))), None)

    def cold(self, call: Call, effort: Effort) -> Meter:
        """One call after reading and writing more than the last level of cache holds."""
        return HostMeter(call, 1, lambda: self._other_data.add_(1))


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
    spoil: Call | None
    method: str = "host"
    overhead_us: float = 0.0

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Four warm samples, or two cold ones."""
        return [(self._sample(), None) for _ in range(4 if self.spoil is None else 2)]

    def _sample(self) -> float:
        if self.spoil is not None:
            self.spoil()

        def repeated() -> None:
            for _ in range(self.calls):
                self.call()

        return host_us(repeated) / self.calls
