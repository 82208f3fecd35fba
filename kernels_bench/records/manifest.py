"""What a run of kernels holds: what was asked for, what it ran on, and its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from kernels_bench.records.cases import Device
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.results import NUMBERED_FROM, READABLE_VERSIONS, SCHEMA_VERSION, AnyRecord, Timing
from kernels_bench.records.selection import Selection
from profiles.instruments.environment import Environment, differences
from profiles.run_files.record import Record
from profiles.run_files.run_directory import (
    LOGS,
    MANIFEST,
    RECORDS,
    Format,
    ResultsError,
    StoredRun,
    default_directory,
    timestamp,
)

__all__ = [
    "LOGS", "MANIFEST", "RECORDS", "Manifest", "ResultsError", "RunDirectory", "Selection",
    "default_directory", "read_manifest", "read_records", "schema", "timestamp",
]  # fmt: skip


class Manifest(Record):
    """What was run, and where.

    Attributes:
        schema_version: of this file and of the records.
        created: UTC, ISO 8601.
        command: as typed, to run the same again.
        selection: what was asked for.
        device: what the kernels ran on.
        arms: those that were chosen, also where they cannot run.
        planned: how many verifications and timings there are to do.
        environment: versions, settings and hardware that results depend on.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    command: str
    selection: Selection
    device: Device
    arms: tuple[ArmInfo, ...]
    planned: int
    environment: Environment


FORMAT: Format[Manifest, AnyRecord] = Format(
    Manifest, TypeAdapter(AnyRecord), SCHEMA_VERSION, READABLE_VERSIONS, NUMBERED_FROM, "kernels_bench"
)


class RunDirectory(StoredRun[Manifest, AnyRecord]):
    """One run of kernels on disk, open for reading and appending."""

    format = FORMAT

    def records(self) -> Iterator[AnyRecord]:
        """Every record, in the order of writing; see `read_records`."""
        return read_records(self.path)

    def refuse_other_environment(self, now: Environment, device: Device, arms: Sequence[ArmInfo] = ()) -> None:
        """Results of two environments are never mixed.

        Raises:
            ResultsError: naming every difference.
        """
        found = [*differences(self.manifest.environment, now)]
        if device.name != self.manifest.device.name:
            found.append(f"device: {self.manifest.device.name} then, {device.name} now")
        digests = {arm.process: arm.digest for arm in self.manifest.arms}
        found += [f"{a.plugin} has changed" for a in arms if a.plugin and digests.get(a.name, a.digest) != a.digest]
        self.refuse(found)


read_manifest = FORMAT.read_manifest
schema = FORMAT.schema


def read_records(path: Path, samples: bool = False) -> Iterator[AnyRecord]:
    """Every whole record of a run, without the raw samples unless asked for: they are most of a run's size.

    Raises:
        ResultsError: a line in the middle cannot be read.
    """
    for record in FORMAT.read_records(path):
        if isinstance(record, Timing) and not samples:
            yield record.model_copy(update={"warm_samples": None, "cold_samples": None})
        else:
            yield record
