"""A run directory, whatever is measured: ``run.json`` says what was run where, ``records.jsonl`` holds a record a line.

A line is written whole or not at all, as soon as its measurement is done; a killed run loses the one at hand.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from profiles.errors import CommandError, ExitStatus
from profiles.run_files.published_schema import described
from profiles.run_files.record import Record

MANIFEST, RECORDS = "run.json", "records.jsonl"

M = TypeVar("M", bound=Record)
R = TypeVar("R")


class ResultsError(CommandError):
    """A run directory that cannot be written, read or continued; the message says why and what to do.

    Its status is 2 where another directory should have been named, 3 where results could not be kept.
    """


@dataclass(frozen=True)
class Format(Generic[M, R]):
    """What a program's runs hold.

    Attributes:
        manifest: the record in ``run.json``; it has a field ``schema_version``.
        records: reads a line of ``records.jsonl``.
        version: of the schema that is written.
        readable: of the schemas that can be read; none but the written one where it is empty.
    """

    manifest: type[M]
    records: TypeAdapter[R]
    version: int
    readable: tuple[int, ...] = ()

    def read_manifest(self, path: Path) -> M:
        """What was run in a directory.

        Raises:
            ResultsError: this is no run directory, or it is damaged or of a newer samebits.
        """
        data = _object_in(path / MANIFEST)
        version = data.get("schema_version")
        readable = self.readable or (self.version,)
        if version not in readable:
            *others, newest = map(str, readable)
            known = f"{', '.join(others)} and {newest}" if others else newest
            raise ResultsError(f"{path / MANIFEST} has schema {version!r}; this samebits reads schema {known}")
        try:
            return self.manifest.model_validate(data)
        except ValidationError as error:
            raise ResultsError(f"{path / MANIFEST} is damaged: {_first(error)}") from error

    def is_of(self, path: Path) -> bool:
        """Whether a directory holds a run with this manifest's fields, in whatever version of them.

        Raises:
            ResultsError: this is no run directory, or it is damaged.
        """
        required = {name for name, field in self.manifest.model_fields.items() if field.is_required()}
        return required <= _object_in(path / MANIFEST).keys()

    def read_records(self, path: Path) -> Iterator[R]:
        """Every whole record of a run.

        Raises:
            ResultsError: the file, or a line in its middle, cannot be read.
        """
        file = _records_of(path)
        try:
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.endswith(b"\n"):
                        yield self._read_line(path, number, line)
        except FileNotFoundError:
            return
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ResultsError(f"cannot read {file}: {reason}; if it is a copy, copy it again") from error

    def _read_line(self, path: Path, number: int, line: bytes) -> R:
        try:
            return self.records.validate_json(line)
        except ValidationError as error:
            raise ResultsError(
                f"{path / RECORDS} line {number} is damaged: {_first(error)}; delete that line to go on"
            ) from error

    def schema(self) -> dict[str, object]:
        """JSON Schema of ``run.json`` (``manifest``) and of a line of ``records.jsonl`` (``record``)."""
        return {
            "schema_version": self.version,
            "manifest": described(self.manifest.model_json_schema(mode="serialization")),
            "record": described(self.records.json_schema(mode="serialization")),
        }


def _object_in(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a run directory."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ResultsError(f"{file.parent} is not a run directory: it has no {file.name}") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{file} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise ResultsError(f"{file} is damaged: it holds no object")
    return data


def _first(error: ValidationError) -> str:
    """Where the first mistake is, if it is in a field, and what."""
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


class StoredRun(Generic[M, R]):
    """One run on disk, open for reading and appending; subclasses say what it holds."""

    format: ClassVar[Format[Any, Any]]

    def __init__(self, path: Path, manifest: M) -> None:
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
    def create(cls, path: Path, manifest: M) -> Self:
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
    def resume(cls, path: Path) -> Self:
        """Go on with a run; the half-written line of a killed one is dropped.

        Raises:
            ResultsError: this is no run directory, it is damaged or packed, or another process writes to it.
        """
        manifest = cls.format.read_manifest(path)
        if (packed := _records_of(path)).suffix == ".gz":  # what is appended beside it nobody would read
            raise ResultsError(
                f"cannot resume {path}: its records are packed; gunzip {packed} first, and keep one file"
            )
        run = cls(path, manifest)
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

    def append(self, record: Record) -> None:
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

    def restate(self, manifest: M) -> None:
        """Write what is said of the run anew, as a whole.

        Raises:
            ResultsError: it cannot be written; what was said before still stands.
        """
        try:
            _write_whole(self.path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise ResultsError(f"cannot write to {self.path}: {error.strerror}", ExitStatus.INCOMPLETE) from error
        self.manifest = manifest

    def refuse(self, differences: Sequence[str]) -> None:
        """Results of two environments are never mixed.

        Raises:
            ResultsError: there are differences; it names every one.
        """
        if differences:
            raise ResultsError(
                f"cannot resume {self.path}: the environment differs ({'; '.join(differences)}); start a new run"
            )

    def records(self) -> Iterator[R]:
        """Every record, in the order of writing."""
        return self.format.read_records(self.path)

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._file)


def timestamp() -> str:
    """Now, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def default_directory() -> Path:
    """A new name under ``samebits-runs``."""
    stem = Path("samebits-runs") / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    return next(p for p in (stem, *(Path(f"{stem}-{i}") for i in range(2, 1000))) if not p.exists())


def _cut_back(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:  # a device file cannot be cut, and holds nothing either
        return


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _records_of(path: Path) -> Path:
    """The file of a run's records, also where a kept run was compressed with gzip."""
    packed = path / f"{RECORDS}.gz"
    return packed if packed.exists() else path / RECORDS
