"""Takes samples turn by turn, until the median is known or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kernels_bench.records.results import Samples, SampleSummary
from kernels_bench.timing.median import FULL_CLOCK, known_well_enough, summarise
from kernels_bench.timing.meter import Meter

TURNS = 4
"""Turns that a median is taken over at least, each with the data at other addresses.

What a kernel finds in the L2 depends on where its data happen to lie: over one placement alone, medians of two
processes differed by several per cent on an H100 while each seemed known to a few tenths.
"""


@dataclass(frozen=True)
class SamplingBudget:
    """How much to spend on one kind of samples.

    Attributes:
        fewest: samples without which no median is called known.
        most: samples at which to stop in any case.
        budget_s: time after which to stop, once every turn was taken.
    """

    fewest: int = 16
    most: int = 160
    budget_s: float = 0.018


class Sampler:
    """Collects samples of one kind, over several placements of the data, until the median is known."""

    def __init__(self, effort: SamplingBudget, full_clock_mhz: float) -> None:
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

    def summary(self) -> SampleSummary:
        """Median and spread."""
        return summarise(self.samples(), self._full_clock)
