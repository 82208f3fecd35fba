"""How long a kernel takes: samples with a warm and with a cold L2, launch latency kept out.

On CUDA everything that is timed is captured in a graph, the events that bracket it included, so that nothing
of the host's lies between them.  A warm sample is the mean over back-to-back calls; a cold one is a single call
after reading twice the L2's size of other data.  What the bracket itself costs is measured with empty kernels in
the same graph and subtracted.  A spin of a known number of cycles, in the graph too, tells the SM clock.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from kernels_bench.arms import prepared
from kernels_bench.records.cases import Load
from kernels_bench.records.results import Samples, Summary, Timing
from kernels_bench.relations import company
from kernels_bench.timing.median import FULL_CLOCK, known_well_enough, summarise
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.kernel_under_test import KernelFault, Subject
from profiles.instruments.ranges import Ranges
from profiles.instruments.telemetry import Telemetry

Call = Callable[[], object]


TURNS = 4
"""Turns that a median is taken over at least, each with the data at other addresses.

What a kernel finds in the L2 depends on where its data happen to lie: over one placement alone, medians of two
processes differed by several per cent on an H100 while each seemed known to a few tenths.
"""

SMALL_BYTES = 64 << 20
"""Rows, weights and results up to this size are copied for every cold meter; of larger ones a turn has one copy."""

LARGE_BYTES = 256 << 20
"""Weights above this size do not fit in any cache, and are not copied."""

MOST_RESERVED = 4 << 30
"""Bytes of GPU memory above which a worker gives back what it does not use after a turn, or a timing."""

_WIPING_BYTES_S = 200e9
_PREPARED_TRIES = 4
_MOST_CALLS = 1000

TURN_S = 0.008
"""After this time a turn takes no more samples than it must."""


@dataclass(frozen=True)
class Effort:
    """How much to spend on one kind of samples.

    Attributes:
        fewest: samples without which no median is called known.
        most: samples at which to stop in any case.
        budget_s: time after which to stop, once every turn was taken.
    """

    fewest: int = 16
    most: int = 160
    budget_s: float = 0.018


class Meter(Protocol):
    """Takes samples of one call under one state of the cache."""

    calls: int
    method: str
    overhead_us: float

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """A few samples as (microseconds a call, SM clock in MHz); ``rest`` lets the card cool down first."""


class Sampler:
    """Collects samples of one kind, over several placements of the data, until the median is known."""

    def __init__(self, effort: Effort, full_clock_mhz: float) -> None:
        self._effort, self._full_clock = effort, full_clock_mhz
        self._us: list[float] = []
        self._clocks: list[float] = []
        self._spent_s = 0.0
        self._turns = 0
        self._meter: Meter | None = None

    def turn(self, *make_meters: Callable[[], Meter]) -> None:
        """Take a few samples with each meter, unless enough is known."""
        if self.done:
            return
        start = time.perf_counter()
        for make in make_meters:
            self._take(make())
        self._turns += 1
        self._spent_s += time.perf_counter() - start

    def _take(self, meter: Meter) -> None:
        self._meter = meter
        for us, clock in meter.take(self._slowed()):
            self._us.append(us)
            if clock is not None:
                self._clocks.append(clock)

    @property
    def done(self) -> bool:
        """Whether enough is known, or was spent."""
        if self._turns < TURNS:
            return False
        effort = self._effort
        spent = self._spent_s >= effort.budget_s or len(self._us) >= effort.most
        return spent or known_well_enough(self.samples(), self._full_clock, effort.fewest)

    def _slowed(self) -> bool:
        return bool(self._clocks) and min(self._clocks[-3:]) < FULL_CLOCK * self._full_clock

    def samples(self) -> Samples:
        """What was taken so far."""
        assert self._meter is not None, "no turn was taken"
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

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """A meter of as many back-to-back calls as make a good sample, with whatever fits left in the cache."""

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """A meter with the cache filled with other data before each call."""


@dataclass(frozen=True, eq=False)
class _Samplers:
    """What a timed case has taken, and about how long one call takes."""

    warm: Sampler
    cold: Sampler
    estimate_us: float


class TimedCase:
    """One subject at one M, sampled turn by turn.

    Args:
        subject: what to time.
        m: number of rows, the first of the subject's universe.
        ranges: where each timed region is announced.
        telemetry: the card's, or None on a CPU.
        calls: of a warm sample; None to find out how many make a good one.

    Making one calls the kernel once, so that it is compiled, and measures nothing: other arms may be doing the same.
    """

    def __init__(
        self, subject: Subject, m: int, ranges: Ranges, telemetry: Telemetry | None, calls: int | None = None
    ) -> None:
        start = time.perf_counter()
        self._subject, self._m, self._calls = subject, m, calls
        self._ranges, self._telemetry = ranges, telemetry
        self._throttled: set[str] = set()
        # Held until the end: an allocator gives freed memory out again, and the placement would not change.
        self._placements: list[Call] = []
        case = subject.case
        self._load, self._company = Load(m=m, length=subject.operator.length), company(f"first:{m}", subject.universe)
        self._message = f"{case.arm}/{case.operator}/{case.shape.token},{case.precision}/{self._load.token}"
        self._samplers: _Samplers | None = None
        with ranges.range(f"warm-up/{self._message}", category="warm-up", payload=m):
            call = self._place()
            call()
            self._check(call)
            synchronise(subject.device)
        self._compile_s = time.perf_counter() - start
        self._unsampled = [call]
        self._small = self._bytes() <= SMALL_BYTES
        self._wall_s = 0.0

    def _check(self, call: Call) -> None:
        """See that what is timed is what was verified, where a kernel prepares its call.

        Raises:
            KernelFault: the prepared call gives other bits than the kernel itself, which is repeatable.
        """
        kernel, operator = self._subject.kernel, self._subject.operator
        if not hasattr(kernel, "prepare"):
            return
        arguments = operator.arguments(self._subject.gather(self._company), self._subject.weights)

        def bits_of(call: Call) -> tuple[torch.Tensor, ...]:
            return tuple(output.clone() for output in operator.by_row(call()))

        direct, again = bits_of(partial(kernel, *arguments)), bits_of(partial(kernel, *arguments))
        # More than once, since a kernel that is rarely not repeatable is no fault of its preparation.
        if _same(direct, again) and not any(_same(direct, bits_of(call)) for _ in range(_PREPARED_TRIES)):
            raise KernelFault(f"its prepare() gives other bits than the call itself, at {self._message}")

    def _bytes(self) -> int:
        """Rows, weights and results together."""
        subject = self._subject
        lines = len(subject.lines(self._company).ids)
        shapes = subject.operator.result_shapes(subject.case.shape, lines)
        results = sum(math.prod(shape) for shape in shapes) * subject.case.precision.torch_output.itemsize
        rows = lines * sum(table[0].nbytes for table in subject.tables)
        return rows + results + sum(weight.nbytes for weight in subject.weights)

    def _next_placements(self, cold_meters: int) -> list[Call]:
        """Calls of one turn; the warm-up's is among the first turn's."""
        missing = (cold_meters if self._small else 1) - len(self._unsampled)
        calls = [*self._unsampled, *(self._place() for _ in range(missing))]
        self._unsampled = []
        return calls

    def _place(self) -> Call:
        """The kernel's call on a fresh copy of its rows and, unless they are large, its weights."""
        subject = self._subject
        inputs = subject.gather(self._company)
        small = sum(weight.nbytes for weight in subject.weights) <= LARGE_BYTES
        weights = tuple(weight.clone() for weight in subject.weights) if small else subject.weights
        call = prepared(subject.kernel, subject.operator.arguments(inputs, weights))
        self._placements.append(call)
        return call

    def turn(self, stopwatch: Stopwatch) -> bool:
        """Take a few samples of each kind at a new placement; True once both medians are known."""
        start = time.perf_counter()
        chosen = self._samplers = self._samplers or self._begin(stopwatch)
        calls = self._next_placements(stopwatch.cold_meters)
        with self._ranges.range(self._message, category=self._subject.case.operator, payload=self._m), no_gc():
            chosen.warm.turn(partial(stopwatch.warm, calls[0], chosen.estimate_us))
            chosen.cold.turn(*(partial(stopwatch.cold, call, chosen.estimate_us) for call in calls))
        state = self._telemetry.state() if self._telemetry is not None else None
        self._throttled |= set(state.slowed or ()) if state is not None else set()
        if not self._small and self._subject.device.type == "cuda":
            let_go()
        self._wall_s += time.perf_counter() - start
        return chosen.warm.done and chosen.cold.done

    def _begin(self, stopwatch: Stopwatch) -> _Samplers:
        with self._ranges.range(f"warm-up/{self._message}", category="warm-up", payload=self._m):
            estimate_us = stopwatch.estimate_us(self._unsampled[0])
        if self._calls is not None:
            estimate_us = stopwatch.sample_us / self._calls
        clock = stopwatch.full_clock_mhz
        return _Samplers(Sampler(Effort(), clock), Sampler(Effort(), clock), estimate_us)

    def result(self) -> Timing:
        """Everything that was measured, after a turn at least."""
        case, operator, taken = self._subject.case, self._subject.operator, self._samplers
        assert taken is not None, "no turn was taken"
        state = self._telemetry.state() if self._telemetry is not None else None
        return Timing(
            case=case,
            m=self._m,
            length=self._subject.operator.length,
            status="measured",
            warm=taken.warm.summary(),
            cold=taken.cold.summary(),
            warm_samples=taken.warm.samples(),
            cold_samples=taken.cold.samples(),
            bytes_moved=operator.bytes_moved(case.shape, case.precision, self._m),
            operations=operator.operations(case.shape, self._m),
            throttle_reasons=tuple(sorted(self._throttled)),
            power_w=state.power_w if state is not None else None,
            temperature_c=state.temperature_c if state is not None else None,
            wall_ms=1e3 * self._wall_s,
            compile_ms=1e3 * self._compile_s,
        )


def _same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return all(bool(same_bits(a, b)) for a, b in zip(left, right, strict=True))


def let_go() -> None:
    """Give back GPU memory that is not used, if it is much, and wait until nothing of it can disturb the next arm.

    It is left over by graphs that are gone, above all.  The driver wipes what it gets back, at the memory's speed and
    after the call returned: medians of the arm whose turn was next were up to 18 % too high on an H100.
    """
    before = torch.cuda.memory_reserved()
    if before > MOST_RESERVED:
        torch.cuda.empty_cache()
        time.sleep((before - torch.cuda.memory_reserved()) / _WIPING_BYTES_S)


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
        from kernels_bench.timing.cuda_events import CudaStopwatch

        return CudaStopwatch()
    return HostStopwatch()


class HostStopwatch:
    """The CPU's clock around calls on the CPU."""

    full_clock_mhz = 0.0
    cold_meters = 1
    sample_us = 300.0
    _CACHE_BYTES = 64 << 20

    def __init__(self) -> None:
        self._other_data = torch.zeros(self._CACHE_BYTES // 8, dtype=torch.int64)
        # With the data the interpreter goes cold too; what that costs an empty call is no kernel's.
        empty = HostMeter(_nothing, 1, self._spoil)
        self._cold_overhead_us = statistics.median(us for _ in range(4) for us, _ in empty.take(rest=False))

    def _spoil(self) -> None:
        self._other_data.add_(1)

    def estimate_us(self, call: Call) -> float:
        """The second of two calls."""
        call()
        return max(0.5, host_us(call))

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """The mean over back-to-back calls."""
        call()
        return HostMeter(call, max(1, min(_MOST_CALLS, round(self.sample_us / estimate_us))), None)

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """One call after reading and writing more than the last level of cache holds."""
        return HostMeter(call, 1, self._spoil, self._cold_overhead_us)


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
    spoil: Call | None
    overhead_us: float = 0.0
    method: str = "host"

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Up to four warm samples, or two cold ones."""
        return [(self._sample(), None) for _ in within_turn(4 if self.spoil is None else 2)]

    def _sample(self) -> float:
        if self.spoil is not None:
            self.spoil()

        def repeated() -> None:
            for _ in range(self.calls):
                self.call()

        return max(0.0, host_us(repeated) / self.calls - self.overhead_us)
