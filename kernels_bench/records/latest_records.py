"""The records of a run, sorted: the last one of each key counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from kernels_bench.records.cases import Case, ShapeSource
from kernels_bench.records.results import AnyRecord, ArmStart, Ceiling, Rough, Timing, Verification
from kernels_bench.records.results import SampleSummary as Measured

State = Literal["warm", "cold"]
"""What the L2 held before a call: its data as far as they fit, or other data."""

STATES: tuple[State, State] = ("warm", "cold")


@dataclass
class LatestRecords:
    """The last record of each key."""

    verifications: dict[str, Verification] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)
    starts: dict[str, ArmStart] = field(default_factory=dict)
    rough: dict[str, Rough] = field(default_factory=dict)
    ceiling: Ceiling | None = None

    def cases(self) -> Iterator[Verification | Timing]:
        """All that has a case."""
        yield from self.verifications.values()
        yield from self.timings.values()

    def follows(self, record: Verification | Timing) -> bool:
        """Whether a case was not timed for what its verification says already."""
        verification = self.verifications.get(record.case.key)
        if record.kind == "verification" or record.status != "skipped" or verification is None:
            return False
        return verification.status != "measured" or bool(verification.wrong)

    def of_operator(self, name: str) -> LatestRecords:
        """The same for one operator alone."""
        return self._where(lambda case: case.operator == name)

    def of_shapes(self, source: ShapeSource) -> LatestRecords:
        """The same for the shapes of one source alone."""
        return self._where(lambda case: case.shape.source == source)

    def _where(self, wanted: Callable[[Case], bool]) -> LatestRecords:
        return LatestRecords(
            {key: v for key, v in self.verifications.items() if wanted(v.case)},
            {key: t for key, t in self.timings.items() if wanted(t.case)},
            self.starts,
            {key: r for key, r in self.rough.items() if wanted(r.case)},
            self.ceiling,
        )


def latest_records(records: Iterable[AnyRecord]) -> LatestRecords:
    """Sort records as they come; raw samples are let go of."""
    found = LatestRecords()
    for record in records:
        if isinstance(record, Verification):
            found.verifications[record.case.key] = record
        elif isinstance(record, Timing):
            # The samples are nearly all of a timing's size, and the parent's memory must not grow with them.
            found.timings[record.key] = record.model_copy(update={"warm_samples": None, "cold_samples": None})
        elif isinstance(record, Rough):
            found.rough[record.case.key] = record
        elif isinstance(record, Ceiling):
            found.ceiling = record
        elif isinstance(record, ArmStart):
            found.starts[record.arm] = record
    return found


def measured_in(timing: Timing, state: State) -> Measured | None:
    """What was measured with a warm or a cold L2, or None where there is no median to divide by."""
    measured = timing.warm if state == "warm" else timing.cold
    return measured if usable(measured) is not None else None


def usable(measured: Measured | None) -> float | None:
    """The median in µs, or None where there is none to divide by."""
    if measured is None or not math.isfinite(measured.median_us) or measured.median_us <= 0:
        return None
    return measured.median_us


def median_us(timing: Timing, state: State) -> float | None:
    """A timing's median with a warm or a cold L2, in µs, or None where there is none to divide by."""
    measured = measured_in(timing, state)
    return None if measured is None else measured.median_us
