"""What is known of a run: what its directory holds already, and what is found out now."""

from __future__ import annotations

from typing import TypeVar

from kernels_bench.records.manifest import RunDirectory
from kernels_bench.records.results import AnyRecord, Ceiling, Rough, Timing, Verification

R = TypeVar("R", Verification, Timing, Rough)


class Known:
    """The records of a run, of which the last one of a case counts.

    Of the cases whose worker was killed nothing is known: a run that is gone on with tries them again.

    Args:
        run: where the records are, and go.

    Attributes:
        verified: by the case's key.
        timed: by the timing's key.
        rough: by the case's key.
        ceiling: whether the device's are.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.verified: dict[str, Verification] = {}
        self.timed: dict[str, Timing] = {}
        self.rough: dict[str, Rough] = {}
        self.ceiling = False
        self._run = run
        for record in run.records():
            self._recall(record)
        self.verified = _not_killed(self.verified)
        self.timed = _not_killed(self.timed)
        self.rough = _not_killed(self.rough)

    def keep(self, record: Verification | Timing | Rough | Ceiling) -> None:
        """Write a record, and know it from now on.

        Raises:
            ResultsError: it cannot be written.
        """
        self._run.append(record)
        self._recall(record)

    def _recall(self, record: AnyRecord) -> None:
        if isinstance(record, Verification):
            self.verified[record.case.key] = record
        elif isinstance(record, Timing):
            self.timed[record.key] = record
        elif isinstance(record, Rough):
            self.rough[record.case.key] = record
        elif isinstance(record, Ceiling):
            self.ceiling = True


def _not_killed(records: dict[str, R]) -> dict[str, R]:
    return {key: record for key, record in records.items() if record.cause != "killed"}
