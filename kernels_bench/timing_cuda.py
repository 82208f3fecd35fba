"""Meters for CUDA: events inside graphs, or eager launches behind a kernel that holds the stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from kernels_bench.subject import capture_graph
from kernels_bench.timing import Call, Meter, within_turn

# 30 µs at 1980 MHz: long enough to tell the clock to about one per cent.
SPIN_CYCLES = 60_000
REST_S = 0.004
_CALIBRATIONS = 12
_COLD_PER_GRAPH = 10
_WARM_PER_TAKE = 4
_COLD_TAKES = 4
_MOST_CALLS = 64
# 1 ms: the host queues a few dozen eager launches in that time.
_HOLD_CYCLES = 2_000_000


def spin(cycles: int) -> None:
    """Occupy the stream for a number of SM cycles without touching memory."""
    torch.cuda._sleep(cycles)  # torch's own tests rely on it; there is no public name for it


def repeated(call: Call, times: int) -> Callable[[], None]:
    """A function that calls ``call`` so many times and keeps no result, so that all calls share one output."""

    def body() -> None:
        for _ in range(times):
            call()

    return body


def _event(inside_graph: bool) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, external=inside_graph)


class CudaStopwatch:
    """Makes meters for the current device.

    Attributes:
        full_clock_mhz: SM clock of the card doing next to nothing; samples are held against it.
        warm_overhead_us: what a pair of events shows for nothing.
        cold_overhead_us: the same after the cache was filled.
    """

    def __init__(self) -> None:
        l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._other_data = torch.zeros(2 * l2_bytes // 4, device="cuda")
        self._sum = torch.zeros((), device="cuda")
        self.full_clock_mhz = 0.0
        self.warm_overhead_us = self.cold_overhead_us = 0.0
        self._calibrate()

    def spoil(self) -> None:
        """Fill the L2 with other data by reading them.

        Lines that were written would be written back during the call, which no neighbouring layer's weights are.
        """
        torch.sum(self._other_data, dim=0, out=self._sum)

    def calls_for(self, call: Call, sample_us: float) -> int:
        """From one call behind a spin that hides the host's part."""
        return max(1, min(_MOST_CALLS, round(sample_us / max(1.0, self._estimate_us(call)))))

    def warm(self, call: Call, calls: int) -> Meter:
        """The mean over back-to-back calls."""
        return self._captured(partial(WarmGraph, self, call, calls), partial(HeldStream, self, call, calls, False))

    def cold(self, call: Call, calls: int) -> Meter:
        """One call a sample, after `spoil`."""
        rounds = max(2, min(_COLD_PER_GRAPH, calls))
        return self._captured(partial(ColdGraph, self, call, rounds), partial(HeldStream, self, call, 1, True))

    def _captured(self, graph: Callable[[], Meter], stream: Callable[[], Meter]) -> Meter:
        try:
            return graph()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            torch.cuda.synchronize()  # raises again if the device itself is lost
            return stream()

    def _estimate_us(self, call: Call) -> float:
        """One call's time, roughly, without the host's part in it."""
        spin(_HOLD_CYCLES)
        start, end = _event(False), _event(False)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return float(1e3 * start.elapsed_time(end)) - self.warm_overhead_us

    def clock_mhz(self, spin_us: float) -> float:
        """SM clock from the time that `SPIN_CYCLES` took between two events."""
        return SPIN_CYCLES / max(1e-3, spin_us - self.warm_overhead_us)

    def _calibrate(self) -> None:
        """Time an empty kernel alone and many times over: the difference is a call, the rest is the bracket.

        Over several graphs, since what a bracket costs depends a little on where the graph's own data lie.
        """
        trials = [self._empty_kernels() for _ in range(_CALIBRATIONS)]  # all kept, so that no two lie alike
        rounds = [_replayed(*trial) for trial in trials]
        single, many, cold, spins = (np.median(np.concatenate(column)) for column in zip(*rounds, strict=True))
        call = (many - single) / (_MOST_CALLS - 1)
        self.warm_overhead_us = max(0.0, float(single - call))
        self.cold_overhead_us = max(0.0, float(cold - call))
        self.full_clock_mhz = self.clock_mhz(float(spins))

    def _empty_kernels(self) -> tuple[_Bracket, _Bracket, ColdGraph]:
        """One empty kernel, many, and some cold ones."""
        nothing = repeated(lambda: spin(0), 1)
        return (
            _Bracket(nothing),
            _Bracket(repeated(nothing, _MOST_CALLS)),
            ColdGraph(self, nothing, _COLD_PER_GRAPH),
        )


def _replayed(
    single: _Bracket, many: _Bracket, cold: ColdGraph
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Microseconds of one call, of many, of cold ones, and of the spins behind them."""
    alone, together = ([bracket.replay() for _ in range(5)][1:] for bracket in (single, many))
    return (
        [us for us, _ in alone],
        [us for us, _ in together],
        [us for us, _ in cold.take(rest=False)],
        [us for _, us in (*alone, *together)],
    )


class _Bracket:
    """A graph of event, work, event, spin, event."""

    def __init__(self, work: Call, before: Call | None = None) -> None:
        self._events = [_event(True) for _ in range(3)]

        def body() -> None:
            if before is not None:
                before()
            self._events[0].record()
            work()
            self._events[1].record()
            spin(SPIN_CYCLES)
            self._events[2].record()

        self._graph, _ = capture_graph(body, warm_up=before or work)

    def replay(self) -> tuple[float, float]:
        """Microseconds of the work and of the spin."""
        self._graph.replay()
        torch.cuda.synchronize()
        first, second, third = self._events
        return 1e3 * first.elapsed_time(second), 1e3 * second.elapsed_time(third)


class WarmGraph:
    """Back-to-back calls in a graph, after one that is not timed and brings the data into the cache."""

    method = "graph"

    def __init__(self, stopwatch: CudaStopwatch, call: Call, calls: int) -> None:
        self.calls = calls
        self.overhead_us = stopwatch.warm_overhead_us / calls
        self._stopwatch = stopwatch
        self._bracket = _Bracket(repeated(call, calls), before=call)

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Up to four samples, each a replay, after one that brings everything back into the caches."""
        found: list[tuple[float, float | None]] = []
        self._bracket.replay()
        for _ in within_turn(_WARM_PER_TAKE):
            if rest:
                time.sleep(REST_S)
            work_us, spin_us = self._bracket.replay()
            found.append((work_us / self.calls - self.overhead_us, self._stopwatch.clock_mhz(spin_us)))
        return found


class ColdGraph:
    """A graph of some rounds of: fill the cache, event, call, event; then the spin that tells the clock."""

    method = "graph"
    calls = 1

    def __init__(self, stopwatch: CudaStopwatch, call: Call, rounds: int) -> None:
        self.overhead_us = stopwatch.cold_overhead_us
        self._stopwatch = stopwatch
        # The graph refers to its events, so each must live as long as it does, the first pair too, which is not
        # read: the first round of a graph starts later than the others.
        self._unread, *self._pairs = [(_event(True), _event(True)) for _ in range(rounds + 1)]
        self._spun = _event(True)

        def body() -> None:
            for start, end in (self._unread, *self._pairs):
                stopwatch.spoil()
                start.record()
                call()
                end.record()
            spin(SPIN_CYCLES)
            self._spun.record()

        self._graph, _ = capture_graph(body, warm_up=call)

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Up to forty samples of four replays."""
        found: list[tuple[float, float | None]] = []
        for _ in within_turn(_COLD_TAKES):
            if rest:
                time.sleep(REST_S)
            self._graph.replay()
            torch.cuda.synchronize()
            clock = self._stopwatch.clock_mhz(1e3 * self._pairs[-1][1].elapsed_time(self._spun))
            found += [(1e3 * a.elapsed_time(b) - self.overhead_us, clock) for a, b in self._pairs]
        return found


class HeldStream:
    """For what a graph cannot hold: eager calls behind a spin that lasts until the host has queued them."""

    method = "stream"

    def __init__(self, stopwatch: CudaStopwatch, call: Call, calls: int, cold: bool) -> None:
        self.calls, self._call, self._cold, self._stopwatch = calls, call, cold, stopwatch
        bracket = stopwatch.cold_overhead_us if cold else stopwatch.warm_overhead_us
        self.overhead_us = bracket / calls

    def take(self, rest: bool) -> list[tuple[float, float | None]]:
        """Four samples."""
        if rest:
            time.sleep(REST_S)
        return [self._sample() for _ in within_turn(_WARM_PER_TAKE)]

    def _sample(self) -> tuple[float, float | None]:
        start, end, spun = (_event(False) for _ in range(3))
        spin(_HOLD_CYCLES)
        self._stopwatch.spoil() if self._cold else self._call()
        start.record()
        for _ in range(self.calls):
            self._call()
        end.record()
        spin(SPIN_CYCLES)
        spun.record()
        torch.cuda.synchronize()
        us = 1e3 * start.elapsed_time(end) / self.calls - self.overhead_us
        return us, self._stopwatch.clock_mhz(1e3 * end.elapsed_time(spun))
