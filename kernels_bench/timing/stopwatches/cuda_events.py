"""Meters for CUDA: events inside graphs, or eager launches behind a kernel that holds the stream."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from kernels_bench.device.cuda_graph import NotCapturable, capture_graph
from kernels_bench.timing.meter import Call, Count, Meter, within_turn

# 30 µs at 1980 MHz: long enough to tell the clock to about one per cent.
SPIN_CYCLES = 60_000
REST_S = 0.004
# 50 ms: an idle card needs a while to reach its clock.
_WAKING_CYCLES = 100_000_000
_CALIBRATIONS = 12
_MOST_CALLS = 64
# What the calls of one graph take together, about.
_COLD_US = 300.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 2, 5
_TAKES = 4
# 1 ms: the host queues a few dozen eager launches in that time.
_HOLD_CYCLES = 2_000_000


def spin(cycles: int) -> None:
    """Occupy the stream for a number of SM cycles without touching memory."""
    torch.cuda._sleep(cycles)  # torch's own tests rely on it; there is no public name for it


def nothing() -> None:
    """Launch a kernel that does nothing."""
    spin(0)


def repeated(call: Call, times: int) -> Callable[[], None]:
    """A function that calls ``call`` so many times and keeps no result, so that all calls share one output."""

    def body() -> None:
        for _ in range(times):
            call()

    return body


@dataclass(frozen=True)
class Region:
    """Something that is timed inside a graph.

    Attributes:
        kind: ``call``: what is to be measured; ``empty``: an empty kernel, for what the events cost; ``clock``: the
            spin that tells the SM clock; ``unread``: brings data into the cache, or is the first of its kind.
        work: what the events enclose.
        before: launched before the first event.
    """

    kind: Literal["call", "empty", "clock", "unread"]
    work: Call
    before: Call | None = None


# At the end of every graph: what tells the clock, and what tells the cost of the events.
GAUGES = (Region("clock", partial(spin, SPIN_CYCLES)), *[Region("empty", nothing)] * 4)


class BracketedGraph:
    """Regions captured one after the other, each between two events."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self._regions = regions
        # The graph refers to its events, so they must live as long as it does.
        self._pairs = [(_event(True), _event(True)) for _ in regions]

        def body() -> None:
            """All regions, one after the other."""
            stream = torch.cuda.current_stream()  # asked for by every event otherwise, and that is slow
            for region, (start, end) in zip(regions, self._pairs, strict=True):
                if region.before is not None:
                    region.before()
                start.record(stream)
                region.work()
                end.record(stream)

        self._graph, _ = capture_graph(body, warm_up=regions[0].work)

    def replay(self) -> dict[str, list[float]]:
        """Microseconds of the regions, by kind."""
        self._graph.replay()
        torch.cuda.synchronize()
        found: dict[str, list[float]] = {}
        for region, (start, end) in zip(self._regions, self._pairs, strict=True):
            found.setdefault(region.kind, []).append(1e3 * start.elapsed_time(end))
        return found


def _event(inside_graph: bool) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, external=inside_graph)


class CudaStopwatch:
    """Makes meters for the current device.

    Args:
        within: counts the samples of a turn.
        then: called once the L2 is filled with other data.

    Attributes:
        within: as given.
        full_clock_mhz: SM clock of the card doing next to nothing; samples are held against it.
        empty_us: what an empty kernel takes among others of its kind.
        bracket_us: what a pair of events adds, about; each graph finds out for itself.
        cold_meters: how many graphs of cold calls a turn has. All samples of a graph are a tenth or two of a
            microsecond too long or too short, whatever its data (seen on an H100), so many small graphs tell more
            than a large one.
        sample_us: what the warm calls of one graph take together, about.
    """

    cold_meters = 2
    sample_us = 150.0

    def __init__(self, within: Count = within_turn, then: Call | None = None) -> None:
        self.within, self._then = within, then
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self._other_data = torch.zeros(2 * l2_bytes // 4, device="cuda")
        self._sum = torch.zeros((), device="cuda")
        self.full_clock_mhz = self.empty_us = self.bracket_us = 0.0
        self._calibrate()

    def flush_cache(self) -> None:
        """Fill the L2 with other data by reading them.

        Lines that were written would be written back during the call, which no neighbouring layer's weights are.
        """
        torch.sum(self._other_data, dim=0, out=self._sum)
        if self._then is not None:
            self._then()

    def estimate_us(self, call: Call) -> float:
        """One call's time, roughly, behind a spin that hides the host's part of it."""
        spin(_HOLD_CYCLES)
        start, end = _event(False), _event(False)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return max(1.0, float(1e3 * start.elapsed_time(end)) - self.bracket_us)

    def rough_us(self, call: Call) -> float:
        """Of two to four eager calls: to capture a graph takes longer than all of them."""
        meter = StreamMeter(self, call, 1, before=self.flush_cache)
        return max(0.1, statistics.median(us for us, _ in meter.take(rest=False)))

    def warm(self, call: Call, estimate_us: float) -> Meter:
        """The mean over back-to-back calls."""
        calls = max(1, min(_MOST_CALLS, round(self.sample_us / estimate_us)))
        regions = [Region("unread", call), Region("call", repeated(call, calls)), *GAUGES]
        return self._captured(regions, StreamMeter(self, call, calls, before=call), calls)

    def cold(self, call: Call, estimate_us: float) -> Meter:
        """One call a sample, after `flush_cache`."""
        rounds = max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, round(_COLD_US / estimate_us)))
        # The first round of a graph starts later than the others.
        regions = [
            Region("unread", call, self.flush_cache),
            *[Region("call", call, self.flush_cache)] * rounds,
            *GAUGES,
        ]
        return self._captured(regions, StreamMeter(self, call, 1, before=self.flush_cache), 1)

    def _captured(self, regions: Sequence[Region], otherwise: Meter, calls: int) -> Meter:
        try:
            return GraphMeter(self, BracketedGraph(regions), calls)
        except NotCapturable:
            return otherwise

    def _calibrate(self) -> None:
        """Time an empty kernel alone and many times over: the difference is a call, the rest is the bracket."""
        spin(_WAKING_CYCLES)
        regions = [Region("unread", nothing), Region("call", repeated(nothing, _MOST_CALLS)), *GAUGES]
        graphs = [BracketedGraph(regions) for _ in range(_CALIBRATIONS)]
        replays = [graph.replay() for graph in graphs for _ in range(_TAKES)]
        single, many, spun = (
            statistics.median(us for found in replays for us in found[kind]) for kind in ("empty", "call", "clock")
        )
        self.empty_us = (many - single) / (_MOST_CALLS - 1)
        self.bracket_us = single - self.empty_us
        self.full_clock_mhz = clock_mhz(spun - self.bracket_us)


def clock_mhz(spin_us: float) -> float:
    """SM clock from the time that `SPIN_CYCLES` took."""
    return SPIN_CYCLES / max(1e-3, spin_us)


class GraphMeter:
    """Samples from the replays of one graph.

    What a pair of events adds depends on the graph and on the moment, by a tenth of a microsecond or two on an H100,
    so empty kernels in the same graph tell it.
    """

    method = "graph"

    def __init__(self, stopwatch: CudaStopwatch, graph: BracketedGraph, calls: int) -> None:
        self.calls, self.overhead_us = calls, 0.0
        self._stopwatch, self._graph = stopwatch, graph

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """The calls of up to four replays, after one that is not read: a graph's first is slower than the rest."""
        self._graph.replay()
        replays = []
        for _ in self._stopwatch.within(_TAKES):
            if rest:
                time.sleep(REST_S)
            replays.append(self._graph.replay())
        bracket = statistics.median(us for found in replays for us in found["empty"]) - self._stopwatch.empty_us
        self.overhead_us = bracket / self.calls
        return [
            (us / self.calls - self.overhead_us, clock_mhz(found["clock"][0] - bracket))
            for found in replays
            for us in found["call"]
        ]


class StreamMeter:
    """For what a graph cannot hold: eager calls behind a spin that lasts until the host has queued them."""

    method = "stream"

    def __init__(self, stopwatch: CudaStopwatch, call: Call, calls: int, before: Call) -> None:
        self.calls, self._call, self._before, self._stopwatch = calls, call, before, stopwatch
        self.overhead_us = stopwatch.bracket_us / calls

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Four samples."""
        if rest:
            time.sleep(REST_S)
        return [self._sample() for _ in self._stopwatch.within(_TAKES)]

    def _sample(self) -> tuple[float, float | None]:
        """Microseconds a call, and the SM clock in MHz where it can be told."""
        start, end, spun = (_event(False) for _ in range(3))
        spin(_HOLD_CYCLES)
        self._before()
        start.record()
        for _ in range(self.calls):
            self._call()
        end.record()
        spin(SPIN_CYCLES)
        spun.record()
        torch.cuda.synchronize()
        us = 1e3 * start.elapsed_time(end) / self.calls - self.overhead_us
        return us, clock_mhz(1e3 * end.elapsed_time(spun) - self._stopwatch.bracket_us)
