"""A run directory: ``run.json`` says what was run where, ``records.jsonl`` holds a record a line.

A line is written whole or not at all, as soon as its case is done; a killed run loses the case at hand.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kernels_bench.cases import Device, Record
from kernels_bench.protocol import ArmInfo
from kernels_bench.records import SCHEMA_VERSION, AnyRecord, Timing
from profiles.environment import Environment, differences

MANIFEST, RECORDS = "run.json", "records.jsonl"

_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)


class ResultsError(Exception):
    """A run directory that cannot be written, read or continued; the message says why and what to do.

    Attributes:
        status: exit status of a command that it ends: 2 where another directory should have been named, 3 where
            results could not be kept.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class Selection(Record):
    """What the user asked for; None leaves the choice to samebits.

    Attributes:
        op: operators.
        arm: arms.
        shapes: names or sizes, as typed.
        batch: values of M.
        length: tokens of the sequences that are timed.
        dtype: precisions.
        relation: relations.
        quick: a short run.
        seed: of all data.
        plugin: paths of users' arms.
        timeout_s: longest that one request to a worker may take.
    """

    op: tuple[str, ...] | None = None
    arm: tuple[str, ...] | None = None
    shapes: tuple[str, ...] | None = None
    batch: tuple[int, ...] | None = None
    length: tuple[int, ...] | None = None
    dtype: tuple[str, ...] | None = None
    relation: tuple[str, ...] | None = None
    quick: bool = False
    seed: int = 0
    plugin: tuple[str, ...] = ()
    timeout_s: float = 60.0


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


def timestamp() -> str:
    """Now, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def default_directory() -> Path:
    """A new name under ``samebits-runs``."""
    stem = Path("samebits-runs") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    return next(p for p in (stem, *(Path(f"{stem}-{i}") for i in range(2, 1000))) if not p.exists())


class RunDirectory:
    """One run on disk, open for reading and appending."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        try:
            self._file = os.open(path / RECORDS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResultsError(f"cannot write to {path}: {error.strerror}", status=3) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise ResultsError(f"{path} is in use by another run; wait for it, or choose another --out") from None

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> RunDirectory:
        """Begin a run in a new or empty directory.

        Raises:
            ResultsError: there is something in it, or it cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ResultsError(f"{path} is not empty; --resume {path} goes on with a run, --out takes a new name")
            (path / "logs").mkdir()
            _write_whole(path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise ResultsError(f"cannot write to {path}: {error.strerror}", status=3) from error
        return cls(path, manifest)

    @classmethod
    def resume(cls, path: Path) -> RunDirectory:
        """Go on with a run; the half-written line of a killed one is dropped.

        Raises:
            ResultsError: this is no run directory, it is damaged, or another process writes to it.
        """
        run = cls(path, read_manifest(path))
        try:
            (path / "logs").mkdir(exist_ok=True)
        except OSError as error:
            raise ResultsError(f"cannot write to {path / 'logs'}: {error.strerror}", status=3) from error
        run._drop_partial_line()
        return run

    def _drop_partial_line(self) -> None:
        data = (self.path / RECORDS).read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path / RECORDS, whole)

    def append(self, record: AnyRecord) -> None:
        """Write one record, whole or not at all.

        Raises:
            ResultsError: the disk is full, say; everything written before is kept.
        """
        line = (record.model_dump_json() + "\n").encode()
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            _cut_back(self._file, before)
            raise ResultsError(
                f"cannot write to {self.path / RECORDS}: {error.strerror}; all earlier results are kept, "
                f"and --resume {self.path} goes on once there is room",
                status=3,
            ) from error

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
        digests = {arm.name: arm.digest for arm in self.manifest.arms}
        found += [f"{a.plugin} has changed" for a in arms if a.plugin and digests.get(a.name, a.digest) != a.digest]
        if found:
            raise ResultsError(
                f"cannot resume {self.path}: the environment differs ({'; '.join(found)}); start a new run"
            )

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._file)


def _cut_back(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:  # a device file cannot be cut, and holds nothing either
        return


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(text)
    partial.replace(path)


def read_manifest(path: Path) -> Manifest:
    """What was run in a directory.

    Raises:
        ResultsError: this is no run directory, or it is damaged or of a newer samebits.
    """
    try:
        data = json.loads((path / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ResultsError(f"{path} is not a run directory: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path / MANIFEST} is damaged: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise ResultsError(f"{path / MANIFEST} has schema {version!r}; this samebits reads schema {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ResultsError(f"{path / MANIFEST} is damaged: {where}: {error.errors()[0]['msg']}") from error


def read_records(path: Path, samples: bool = False) -> Iterator[AnyRecord]:
    """Every whole record of a run, without the raw samples unless asked for: they are most of a run's size.

    Raises:
        ResultsError: a line in the middle cannot be read.
    """
    try:
        with _open_records(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    yield _read_line(path, number, line, samples)
    except FileNotFoundError:
        return


def _open_records(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The records, also where a kept run was compressed with gzip."""
    packed = path / f"{RECORDS}.gz"
    return gzip.open(packed) if packed.exists() else (path / RECORDS).open("rb")


def _read_line(path: Path, number: int, line: bytes, samples: bool) -> AnyRecord:
    try:
        record = _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ResultsError(
            f"{path / RECORDS} line {number} is damaged: {error.errors()[0]['msg']}; delete that line to go on"
        ) from error
    if isinstance(record, Timing) and not samples:
        return record.model_copy(update={"warm_samples": None, "cold_samples": None})
    return record


def schema() -> dict[str, object]:
    """JSON Schema of ``run.json`` (``manifest``) and of a line of ``records.jsonl`` (``record``)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "manifest": Manifest.model_json_schema(mode="serialization"),
        "record": _ADAPTER.json_schema(mode="serialization"),
    }
