"""How long a kernel takes: samples with a warm and with a cold L2, launch latency kept out.

On CUDA everything that is timed is captured in a graph, the events that bracket it included, so that nothing
of the host's lies between them.  A warm sample is the mean over back-to-back calls; a cold one is a single call
after reading twice the L2's size of other data.  What the bracket itself costs is measured with empty kernels in
the same graph and subtracted.  A spin of a known number of cycles, in the graph too, tells the SM clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from kernels_bench.arms import prepared
from kernels_bench.device.memory import release_cached_memory, synchronise
from kernels_bench.records.cases import Load
from kernels_bench.records.results import Timing
from kernels_bench.relations import make_batch
from kernels_bench.timing.meter import Call, Stopwatch, stopwatch_of
from kernels_bench.timing.sampler import Sampler, SamplingBudget
from kernels_bench.verification.bitwise import all_same_bits, digest
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.subject.launched import KernelFault
from profiles.instruments.range_names import TimedRange
from profiles.instruments.ranges import Ranges
from profiles.instruments.telemetry import Telemetry

SMALL_BYTES = 64 << 20
"""Rows, weights and results up to this size are copied for every cold meter; of larger ones a turn has one copy."""

LARGE_BYTES = 256 << 20
"""Weights above this size do not fit in any cache, and are not copied."""


DIGESTED_ELEMENTS = 1 << 22
"""Results of more elements are not digested: it would take longer than their timing."""

_PREPARED_TRIES = 4


@dataclass(frozen=True, eq=False)
class _Samplers:
    """What a timed case has taken, and about how long one call takes."""

    warm: Sampler
    cold: Sampler
    estimate_us: float


class _Observed:
    """A call that keeps what it returned last, in whose place the next call puts its own result."""

    def __init__(self, call: Call, split: Callable[[object], Sequence[torch.Tensor]]) -> None:
        self._call, self._split = call, split
        self._last: object = None

    def __call__(self) -> object:
        self._last = None  # first, so that all calls of a sample share one output
        self._last = self._call()
        return self._last

    def stopwatch(self, usual: Stopwatch) -> Stopwatch:
        """See `stopwatch_of`."""
        return stopwatch_of(self._call, usual)

    def outputs(self) -> Sequence[torch.Tensor]:
        """What came of the last call, or of the last replay of the graph that it was captured in; nothing before it."""
        last = getattr(self._call, "result", self._last)
        return () if last is None else self._split(last)

    def forget(self) -> None:
        """Let go of that, and of the graph's memory that it lies in."""
        self._last = None


class TimedCase:
    """One subject at one M, sampled turn by turn.

    Args:
        subject: what to time.
        m: number of rows, the first of the subject's universe.
        ranges: where each timed region is announced.
        telemetry: the card's, or None on a CPU.
        calls: of a warm sample; None to find out how many make a good one.
        verified: digest of these rows' results as they were verified; empty if there is none.

    Making one calls the kernel once, so that it is compiled, and measures nothing: other arms may be doing the same.
    """

    def __init__(
        self,
        subject: KernelUnderTest,
        m: int,
        ranges: Ranges,
        telemetry: Telemetry | None,
        calls: int | None = None,
        verified: str = "",
    ) -> None:
        start = time.perf_counter()
        self._subject, self._m, self._calls = subject, m, calls
        self._ranges, self._telemetry = ranges, telemetry
        self._throttled: set[str] = set()
        # Held until the end: an allocator gives freed memory out again, and the placement would not change.
        self._placements: list[Call] = []
        self._expected: tuple[torch.Tensor, ...] = ()
        self._other_bits = ""
        case = subject.case
        self._load, self._company = (
            Load(m=m, length=subject.operator.length),
            make_batch(f"first:{m}", subject.universe),
        )
        self._range = TimedRange(case.arm, case.operator, case.shape.token, str(case.precision), self._load.token)
        self._samplers: _Samplers | None = None
        with ranges.range(self._range.warm_up, category="warm-up", payload=m):
            call = self._place()
            call()
            self._check(call)
            if not subject.operator.overwrites:  # of which every call has other inputs
                self._expected = tuple(output.clone() for output in call.outputs())
                self._compare_with(verified)
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
            """A call's results, which the next call does not overwrite."""
            return tuple(output.clone() for output in operator.split_result(call()))

        direct, again = bits_of(partial(kernel, *arguments)), bits_of(partial(kernel, *arguments))
        # More than once, since a kernel that is rarely not repeatable is no fault of its preparation.
        if all_same_bits(direct, again) and not any(
            all_same_bits(direct, bits_of(call)) for _ in range(_PREPARED_TRIES)
        ):
            raise KernelFault(f"its prepare() gives other bits than the call itself, at {self._range.message}")

    def _compare_with(self, verified: str) -> None:
        """Compare what is timed with what was verified, where the digest takes no longer than the timing."""
        elements = sum(output.numel() for output in self._expected)
        if verified and elements <= DIGESTED_ELEMENTS and digest(self._expected) != verified:
            self._other_bits = "the first call, before any was timed, gave other bits than were verified"

    def _look_at(self, calls: Sequence[_Observed]) -> None:
        """Compare the last results of some timed calls with the first call's, and let go of them."""
        seen = [outputs for call in calls if (outputs := call.outputs())]
        if self._expected and not all(all_same_bits(self._expected, outputs) for outputs in seen):
            self._other_bits = self._other_bits or "the last of some timed calls gave other bits than the first call"
        for call in calls:
            call.forget()

    def _bytes(self) -> int:
        """Rows, weights and results together."""
        subject = self._subject
        lines = len(subject.lines(self._company).ids)
        results = lines * subject.line_bytes
        rows = lines * sum(table[0].nbytes for table in subject.tables)
        return rows + results + sum(weight.nbytes for weight in subject.weights)

    def _next_placements(self, cold_meters: int) -> list[_Observed]:
        """Calls of one turn; the warm-up's is among the first turn's."""
        missing = (cold_meters if self._small else 1) - len(self._unsampled)
        calls = [*self._unsampled, *(self._place() for _ in range(missing))]
        self._unsampled = []
        return calls

    def _place(self) -> _Observed:
        """The kernel's call on a fresh copy of its rows and, unless they are large, its weights."""
        subject = self._subject
        inputs = subject.gather(self._company)
        small = sum(weight.nbytes for weight in subject.weights) <= LARGE_BYTES
        weights = tuple(weight.clone() for weight in subject.weights) if small else subject.weights
        kernel = prepared(subject.kernel, subject.operator.arguments(inputs, weights))
        call = _Observed(kernel, subject.operator.split_result)
        self._placements.append(call)
        return call

    def turn(self, stopwatch: Stopwatch) -> bool:
        """Take a few samples of each kind at a new placement; True once both medians are known."""
        start = time.perf_counter()
        chosen = self._samplers = self._samplers or self._begin(stopwatch)
        calls = self._next_placements(stopwatch.cold_meters)
        with self._ranges.range(self._range.message, category=self._subject.case.operator, payload=self._m), no_gc():
            chosen.warm.turn(partial(calls[0].stopwatch(stopwatch).warm, calls[0], chosen.estimate_us))
            chosen.cold.turn(*(partial(call.stopwatch(stopwatch).cold, call, chosen.estimate_us) for call in calls))
        self._look_at(calls)
        state = self._telemetry.state() if self._telemetry is not None else None
        self._throttled |= set(state.slowed or ()) if state is not None else set()
        if not self._small and self._subject.device.type != "cpu":
            release_cached_memory(self._subject.device)
        self._wall_s += time.perf_counter() - start
        return chosen.warm.done and chosen.cold.done

    def _begin(self, stopwatch: Stopwatch) -> _Samplers:
        first = self._unsampled[0]
        with self._ranges.range(self._range.warm_up, category="warm-up", payload=self._m):
            estimate_us = first.stopwatch(stopwatch).estimate_us(first)
        if self._calls is not None:
            estimate_us = stopwatch.sample_us / self._calls
        clock = stopwatch.full_clock_mhz
        return _Samplers(Sampler(SamplingBudget(), clock), Sampler(SamplingBudget(), clock), estimate_us)

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
            message_bytes=operator.message_bytes(case.shape, case.precision, self._m),
            bus_bytes=operator.bus_bytes(case.shape, case.precision, self._m),
            throttle_reasons=tuple(sorted(self._throttled)),
            power_w=state.power_w if state is not None else None,
            temperature_c=state.temperature_c if state is not None else None,
            wall_ms=1e3 * self._wall_s,
            compile_ms=1e3 * self._compile_s,
            other_bits=self._other_bits,
        )


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
