"""How fast one arm's kernels are: measured turn by turn with other arms', or roughly for a search."""

from __future__ import annotations

import sys
import time

import torch

from kernels_bench.device.detect import find_device
from kernels_bench.device.memory import release_cached_memory
from kernels_bench.records.cases import Case, Load
from kernels_bench.records.results import Ceiling, Rough, Timing
from kernels_bench.timing.ceiling import measure_ceiling
from kernels_bench.timing.meter import Stopwatch
from kernels_bench.timing.rough import fault_of, rough_times
from kernels_bench.timing.stopwatches.host_clock import HostStopwatch
from kernels_bench.timing.timed_case import TimedCase
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.workers.arm.loaded_arm import LoadedArm
from kernels_bench.workers.messages import FinishTiming, MeasureCeiling, PrepareTiming, Screen, TakeTurn, Turned
from profiles.instruments.open_device import open_device
from profiles.instruments.range_names import CEILING
from profiles.instruments.ranges import Ranges
from profiles.instruments.telemetry import Telemetry, TelemetryUnavailable


class TurnsLostError(Exception):
    """What is to be gone on with was begun in an earlier process, which ended while it was idle."""


class ArmTiming:
    """What is timed of one arm, by its case's key: between two turns it is kept.

    Args:
        arm: whose kernels.
        device: where they run.
        ranges: are around what is timed.
    """

    def __init__(self, arm: LoadedArm, device: torch.device, ranges: Ranges) -> None:
        self._arm, self._device, self._ranges = arm, device, ranges
        self._subjects: dict[str, KernelUnderTest] = {}
        self._timed: dict[str, TimedCase] = {}
        self._kept_stopwatch: Stopwatch | None = None
        self._telemetry = None if device.type == "cpu" else _telemetry()

    def prepare(self, request: PrepareTiming) -> Turned:
        """Make a case ready for its turns.

        Raises:
            Unsupported: the arm has no such kernel.
        """
        case, load = request.case, request.load
        self._timed.pop(case.key, None)
        subject = self._subject(case, request.seed, load, request.largest_m if load.length is None else load.m)
        self._timed[case.key] = TimedCase(
            subject, load.m, self._ranges, self._telemetry, request.calls, request.verified
        )
        return Turned(done=False)

    def turn(self, request: TakeTurn) -> Turned:
        """One turn.

        Raises:
            TurnsLostError: the case was not made ready in this process.
        """
        return Turned(done=self._known(request.case).turn(self._stopwatch()))

    def finish(self, request: FinishTiming) -> Timing:
        """What all turns come to.

        Raises:
            TurnsLostError: the case was not made ready in this process.
        """
        result = self._known(request.case).result()
        del self._timed[request.case.key]
        self._release_memory()
        return result

    def screen(self, request: Screen) -> Rough:
        """About how fast a candidate is.

        Raises:
            Unsupported: the arm has no such kernel.
        """
        start, case = time.perf_counter(), request.case
        largest = Load(m=request.largest_m, length=request.length)
        subject = self._subject(case, request.seed, largest, request.largest_m)
        if request.timed and (fault := fault_of(subject, min(request.sizes))):
            return Rough(case=case, status="failed", reason=fault)
        # A stopwatch is calibrated once, and not while others are at work.
        found = rough_times(subject, request.sizes, self._stopwatch() if request.timed else None)
        self._release_memory()
        return Rough(case=case, status="measured", us=found, seconds=time.perf_counter() - start)

    def ceiling(self, request: MeasureCeiling) -> Ceiling:
        """What the device can do at most."""
        with self._ranges.range(CEILING, category="ceiling"):
            return measure_ceiling(self._stopwatch(), self._device, request.inputs)

    def forget(self) -> None:
        """Let go of all data."""
        self._timed.clear()
        self._subjects.clear()

    def forget_case(self, case: Case) -> None:
        """Let go of one case's data; where candidates are timed turn by turn, the others go on."""
        self._timed.pop(case.key, None)
        self._subjects.pop(case.key, None)

    def _subject(self, case: Case, seed: int, load: Load, universe: int) -> KernelUnderTest:
        """What is timed of a case; candidates share rows and weights with the first one of the same sizes."""
        # Rows of one batch are the first ones of a larger one; of sequences the cache must not be larger than needed.
        known = self._subjects.get(case.key) or next(iter(self._subjects.values()), None)
        if (
            known is None
            or (known.case.without_arm, known.operator.length) != (case.without_arm, load.length)
            or known.universe < load.m
        ):
            self.forget()
            known = self._arm.subject(case, seed, universe, watched=False, length=load.length)
        elif known.case != case:
            known = known.with_kernel(case, self._arm.kernel(case))
        self._subjects[case.key] = known
        return known

    def _known(self, case: Case) -> TimedCase:
        if case.key not in self._timed:
            raise TurnsLostError(f"the worker of {case.arm} ended between two turns of timing, which are lost with it")
        return self._timed[case.key]

    def _stopwatch(self) -> Stopwatch:
        """Calibrated when it is first used, which is while no other arm is at work."""
        if self._kept_stopwatch is None:
            self._kept_stopwatch = stopwatch_for(self._device)
        return self._kept_stopwatch

    def _release_memory(self) -> None:
        if self._device.type != "cpu":
            release_cached_memory(self._device)


def _telemetry() -> Telemetry | None:
    uuid = find_device().uuid
    try:
        return open_device(uuid)
    except TelemetryUnavailable as unavailable:
        print(f"no telemetry: {unavailable}", file=sys.stderr)
        return None


def stopwatch_for(device: torch.device) -> Stopwatch:
    """The device's stopwatch, calibrated."""
    if device.type == "cuda":
        from kernels_bench.timing.stopwatches.cuda_events import CudaStopwatch

        return CudaStopwatch()
    if device.type == "npu":
        from kernels_bench.timing.stopwatches.npu_events import NpuStopwatch

        return NpuStopwatch()
    return HostStopwatch()
