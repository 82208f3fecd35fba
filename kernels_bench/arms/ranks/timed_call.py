"""A prepared call of some ranks, and what it is timed with: every rank times itself, and the slowest counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernels_bench.device.cuda_graph import NotCapturable
from kernels_bench.device.lazy_torch import torch
from kernels_bench.ranks.group import Place, RankGroup, RankLost
from kernels_bench.ranks.messages import Measured, Sampling

_STOPWATCH = "kernels_bench.timing.stopwatches.of_ranks:RankStopwatch"


class TimedCall:
    """What ranks were given, to be computed again and again.

    Args:
        group: the ranks.
        collective: see `RankGroup.go`.
        places: where their inputs are, the first of which the result belongs to.
        told: where ranks leave the result.
        device: the inputs'.

    Attributes:
        result: the last call's, on that device; None before it.
    """

    def __init__(
        self, group: RankGroup, collective: str, places: Sequence[Place], told: torch.Tensor, device: torch.device
    ) -> None:
        self.group, self.collective, self.places = group, collective, places
        self.result: torch.Tensor | None = None
        self._told = told
        self._held = told if told.device.type == device.type else torch.empty_like(told, device=device)

    def __call__(self) -> torch.Tensor:
        """Compute it once.

        Raises:
            RankLost: a rank ended, hangs or fails.
        """
        first, *others = self.places
        with self.group.lock:
            self.group.go(first, self.collective, *others)
            return self._fetched()

    def replayed(self, inputs: torch.Tensor) -> None:
        """Give the ranks other inputs, and have each replay its graph."""
        first, *others = self.places
        with self.group.lock:
            self.group.put_again(first, inputs)
            self.group.go(first, self.collective, *others, graph=True)
            self._fetched()

    def _fetched(self) -> torch.Tensor:
        if self._held is not self._told:
            self._held.copy_(self._told)
        self.result = self._held
        return self._held

    def stopwatch(self, usual: Any) -> SlowestRank:
        """What times it, instead of the device's own `kernels_bench.timing.meter.Stopwatch`."""
        return SlowestRank(self, usual.full_clock_mhz, usual.sample_us, usual.cold_meters)

    def measured(self, what: str, estimate_us: float, rest: bool) -> list[Measured]:
        """Every rank's samples; see `RankGroup.measure`."""
        first, *others = self.places
        with self.group.lock:
            sampling = Sampling(_STOPWATCH, what, estimate_us, rest)
            found = self.group.measure(first, self.collective, *others, sampling=sampling)
            self._fetched()
        return found


@dataclass(frozen=True)
class CapturedCall:
    """What ranks replay, each from a graph of its own.

    Attributes:
        timed: the call.
        inputs: what it is given, (M, R, K), which may be exchanged before each replay.
    """

    timed: TimedCall
    inputs: torch.Tensor

    @property
    def result(self) -> torch.Tensor:
        """Of the last replay."""
        assert self.timed.result is not None, "nothing was replayed yet"
        return self.timed.result

    def replay(self) -> None:
        """Give the ranks their inputs, and have each replay its graph.

        Raises:
            RankLost: a rank ended, hangs or fails.
        """
        self.timed.replayed(self.inputs)


def captured(timed: TimedCall, inputs: torch.Tensor) -> CapturedCall:
    """A call's graphs, one on each rank.

    Raises:
        NotCapturable: a rank does something that a graph cannot hold.
    """
    call = CapturedCall(timed, inputs)
    try:
        call.replay()
    except RankLost as error:
        raise NotCapturable(str(error)) from None
    return call


@dataclass(frozen=True)
class SlowestRank:
    """A `kernels_bench.timing.meter.Stopwatch` of one call, whichever it is given."""

    timed: TimedCall
    full_clock_mhz: float
    sample_us: float
    cold_meters: int

    def estimate_us(self, call: object) -> float:
        """Of the slowest rank."""
        return self._of_slowest("estimate")

    def rough_us(self, call: object) -> float:
        """Likewise."""
        return self._of_slowest("rough")

    def _of_slowest(self, what: str) -> float:
        return max(found.samples[0][0] for found in self.timed.measured(what, 0.0, rest=False))

    def warm(self, call: object, estimate_us: float) -> RankMeter:
        """A meter of back-to-back calls."""
        return RankMeter(self.timed, "warm", estimate_us)

    def cold(self, call: object, estimate_us: float) -> RankMeter:
        """A meter with every rank's cache filled with other data before each call."""
        return RankMeter(self.timed, "cold", estimate_us)


class RankMeter:
    """A `kernels_bench.timing.meter.Meter`: every rank's samples are taken at once, and the longest of each kept."""

    def __init__(self, timed: TimedCall, what: str, estimate_us: float) -> None:
        self._timed, self._what, self._estimate_us = timed, what, estimate_us
        self.calls, self.method, self.overhead_us = 1, "", 0.0

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """The samples of a turn, each with the lowest of the ranks' clocks."""
        found = self._timed.measured(self._what, self._estimate_us, rest)
        self.calls, self.method = found[0].calls, found[0].method
        self.overhead_us = max(one.overhead_us for one in found)
        return [_slowest(samples) for samples in zip(*(one.samples for one in found), strict=True)]


def _slowest(samples: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    clocks = [clock for _, clock in samples if clock is not None]
    return max(us for us, _ in samples), min(clocks, default=None)
