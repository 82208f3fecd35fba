"""A run directory, whatever is measured: ``run.json`` says what was run where, ``records.jsonl`` holds a record a line.

A line is written whole or not at all, as soon as its measurement is done; a killed run loses the one at hand.  Each
tells its number and a digest of what it holds, see `profiles.run_files.numbered_lines`.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from profiles.command_line import warn
from profiles.errors import CommandError, ExitStatus
from profiles.files import BESIDE, lines_of, read_file, write_whole
from profiles.run_files.numbered_lines import FIELDS, LineError, is_numbered, numbered, record_in
from profiles.run_files.published_schema import described
from profiles.run_files.record import Record

MANIFEST, RECORDS, LOGS = "run.json", "records.jsonl", "logs"

MOST_MANIFEST, LONGEST_LINE, MOST_RECORDS = 16 << 20, 64 << 20, 1 << 30
"""Bytes of ``run.json``, of a line of records, and of all of them; those of the largest runs so far are a hundredth."""

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
        readable: of the schemas that can be read.
        numbered_from: the first schema whose lines have a number and a digest.
        reader: the package that reads, whose name begins what it says.
    """

    manifest: type[M]
    records: TypeAdapter[R]
    version: int
    readable: tuple[int, ...]
    numbered_from: int
    reader: str

    def read_manifest(self, path: Path) -> M:
        """What was run in a directory.

        Raises:
            ResultsError: this is no run directory, or it is damaged or of a newer samebits.
        """
        self.schema_of(path)
        try:
            return self.manifest.model_validate_json(_content_of(path / MANIFEST))
        except ValidationError as error:
            raise ResultsError(f"{path / MANIFEST} is damaged: {_first(error)}") from error

    def schema_of(self, path: Path) -> int:
        """The schema of a run, which is one that can be read.

        Raises:
            ResultsError: as of `read_manifest`.
        """
        version = _object_in(path / MANIFEST, _content_of(path / MANIFEST)).get("schema_version")
        if type(version) is not int or version not in self.readable:
            *others, newest = map(str, self.readable)
            known = f"{', '.join(others)} and {newest}" if others else newest
            raise ResultsError(f"{path / MANIFEST} has schema {version!r}; this samebits reads schema {known}")
        return version

    def is_of(self, path: Path) -> bool:
        """Whether a directory holds a run with this manifest's fields, in whatever version of them.

        Raises:
            ResultsError: this is no run directory, or it is damaged.
        """
        required = {name for name, field in self.manifest.model_fields.items() if field.is_required()}
        return required <= _object_in(path / MANIFEST, _content_of(path / MANIFEST)).keys()

    def read_records(self, path: Path) -> Iterator[R]:
        """Every whole record of a run; half a line at its end, of a run that was killed, is told of and left out.

        Raises:
            ResultsError: the file or a line cannot be read, or a line is missing or altered.
        """
        return (record for _, record in self.read_lines(path))

    def read_lines(self, path: Path) -> Iterator[tuple[bytes, R]]:
        """The same, each with the line in which it stands.

        Raises:
            ResultsError: as of `read_records`.
        """
        are_numbered = self.schema_of(path) >= self.numbered_from
        file = _records_of(path)
        try:
            for number, line in enumerate(lines_of(file, LONGEST_LINE, MOST_RECORDS), start=1):
                if line.endswith(b"\n"):
                    yield line, self._read_line(path, number, line, are_numbered)
                else:
                    half = f"{path / RECORDS} line {number} was written by half, as by a run that is killed"
                    warn(self.reader, f"{half}: it is left out")
        except FileNotFoundError:
            return
        except OSError as error:
            raise ResultsError(f"cannot read {file}: {error.strerror}; if it is a copy, copy it again") from error

    def _read_line(self, path: Path, number: int, line: bytes, are_numbered: bool) -> R:
        try:
            if not are_numbered and is_numbered(line):
                raise LineError(f"line {number} is of a newer schema than {MANIFEST} names, so that one is altered")
            return self.records.validate_json(record_in(line[:-1], number) if are_numbered else line)
        except LineError as error:
            rest = "copy it again, or cut the file before that line and go on with --resume"
            raise ResultsError(f"{path / RECORDS} {error}; {rest}") from error
        except ValidationError as error:
            damage = f"{path / RECORDS} line {number} is damaged: {_first(error)}"
            raise ResultsError(f"{damage}; copy it again, or delete that line to go on") from error

    def schema(self) -> dict[str, object]:
        """JSON Schema of ``run.json`` (``manifest``) and of a line of ``records.jsonl`` (``record``)."""
        return {
            "schema_version": self.version,
            "manifest": described(self.manifest.model_json_schema(mode="serialization")),
            "record": _with_number(described(self.records.json_schema(mode="serialization"))),
        }


def _content_of(file: Path) -> bytes:
    """What a file of a run directory holds."""
    try:
        return read_file(file, MOST_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        there = file.parent.parent
        instead = f"; the directory is {there}" if file.parent.is_file() and (there / file.name).is_file() else ""
        raise ResultsError(f"{file.parent} is not a run directory: it has no {file.name}{instead}") from None
    except OSError as error:
        raise ResultsError(f"{file} is damaged: {error.strerror}") from error
    except ValueError as error:  # no file can have such a name
        raise ResultsError(f"{file.parent} is not a run directory: {error}") from error


def _object_in(file: Path, content: bytes) -> dict[str, Any]:
    """The JSON object in a file of a run directory."""
    try:
        data = json.loads(content)
    except RecursionError as error:
        raise ResultsError(f"{file} is damaged: it is nested too deep") from error
    except ValueError as error:
        raise ResultsError(f"{file} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise ResultsError(f"{file} is damaged: it holds no object")
    return data


def _with_number(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a record, as a line that has a number and a digest too."""
    variants = {variant["$ref"].rpartition("/")[2] for variant in schema["oneOf"]}
    for name in variants:
        record = schema["$defs"][name]
        record["properties"] = {**FIELDS, **record["properties"]}
        record["required"] = [*FIELDS, *record.get("required", ())]
    return schema


def _first(error: ValidationError) -> str:
    """Where the first mistake is, if it is in a field, and what."""
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


class StoredRun(Generic[M, R]):
    """One run on disk, open for reading and appending; subclasses say what it holds.

    Of a run that is gone on with nothing is changed before `begin`.

    Args:
        path: its directory.
        manifest: what its ``run.json`` holds.
        file: its records, locked; None where there are none yet.

    Attributes:
        go_on: what goes on with the run, to be told where it cannot.
    """

    format: ClassVar[Format[Any, Any]]

    def __init__(self, path: Path, manifest: M, file: int | None) -> None:
        self.path, self.manifest = path, manifest
        self.go_on = f"--resume {path}"
        self._file = file
        self._lines, self._whole, self._begun = 0, 0, False

    @classmethod
    def create(cls, path: Path, manifest: M) -> Self:
        """Begin a run in a new or empty directory.

        Raises:
            ResultsError: there is something in it, or it cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            unfinished = set(path.glob(f"{BESIDE}*"))  # of a process that was killed while it began a run here
            if set(path.iterdir()) - unfinished:
                raise ResultsError(f"{path} is not empty; --resume {path} goes on with a run, --out takes a new name")
            write_whole(path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
            for file in unfinished:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"cannot write to {path}: {error.strerror}", ExitStatus.INCOMPLETE) from error
        run = cls(path, manifest, None)
        run.begin()
        return run

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Go on with a run, of which every record is looked at; nothing is changed yet.

        Raises:
            ResultsError: this is no run directory, it is damaged or packed, another process writes to it, or something
                in it leads out of it.
        """
        manifest = cls.format.read_manifest(path)
        if (schema := cls.format.schema_of(path)) != cls.format.version:  # whose lines are others
            raise ResultsError(
                f"cannot resume {path}: it has schema {schema}, and this samebits writes {cls.format.version}; "
                "start a new run"
            )
        if (packed := _records_of(path)).suffix == ".gz":  # what is appended beside it nobody would read
            raise ResultsError(
                f"cannot resume {path}: its records are packed; gunzip {packed} first, and keep one file"
            )
        _refuse_strange_logs(path)
        run = cls(path, manifest, _held(path, 0))
        try:
            for line, _ in cls.format.read_lines(path):
                run._lines, run._whole = run._lines + 1, run._whole + len(line)
        except BaseException:
            run.close()
            raise
        return run

    def begin(self) -> None:
        """Make the directory ready for what comes; the half-written line of a killed run is dropped.

        Raises:
            ResultsError: it cannot be written.
        """
        if self._begun:
            return
        if self._file is None:
            self._file = _held(self.path, os.O_CREAT | os.O_EXCL)
            assert self._file is not None
        try:
            (self.path / LOGS).mkdir(exist_ok=True)
            if os.fstat(self._file).st_size != self._whole:
                os.ftruncate(self._file, self._whole)
        except OSError as error:
            raise ResultsError(f"cannot write to {self.path}: {error.strerror}", ExitStatus.INCOMPLETE) from error
        self._begun = True

    def append(self, record: Record) -> None:
        """Write one record, whole or not at all.

        Raises:
            ResultsError: the disk is full, say; everything written before is kept.
        """
        self.begin()
        assert self._file is not None
        line = numbered(self._lines + 1, record.model_dump_json().encode()) + b"\n"
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            _cut_back(self._file, before)
            raise ResultsError(
                f"cannot write to {self.path / RECORDS}: {error.strerror}; all earlier results are kept, "
                f"and {self.go_on} goes on once there is room",
                ExitStatus.INCOMPLETE,
            ) from error
        self._lines += 1

    def restate(self, manifest: M) -> None:
        """Write what is said of the run anew, as a whole.

        Raises:
            ResultsError: it cannot be written; what was said before still stands.
        """
        try:
            write_whole(self.path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
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
        if self._file is not None:
            os.close(self._file)
            self._file = None


def timestamp() -> str:
    """Now, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def default_directory(under: str = "samebits-runs") -> Path:
    """A new name of this second in a directory."""
    stem = Path(under) / datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    return next(p for p in (stem, *(Path(f"{stem}-{i}") for i in range(2, 1000))) if not p.exists())


def _cut_back(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:  # a device file cannot be cut, and holds nothing either
        return


def _held(path: Path, how: int) -> int | None:
    """A run's records, open and locked; no link is followed to them.

    Args:
        path: the run's directory.
        how: further flags of ``open``; without `os.O_CREAT` there may be none, which is None.

    Raises:
        ResultsError: they cannot be written, or another process does.
    """
    try:
        file = os.open(path / RECORDS, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | how, 0o644)
    except FileNotFoundError:
        return None
    except OSError as error:
        if (path / RECORDS).is_symlink():
            raise ResultsError(f"cannot resume {path}: {RECORDS} is a link; put the file in its place") from error
        raise ResultsError(f"cannot write to {path}: {error.strerror}", ExitStatus.INCOMPLETE) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ResultsError(f"cannot resume {path}: {RECORDS} is no regular file")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ResultsError(f"{path} is in use by another run; wait for it, or choose another --out") from None
    return file


def _refuse_strange_logs(path: Path) -> None:
    """Refuse that what processes print be written anywhere but to files in the run's own directory."""
    logs = path / LOGS
    try:
        if logs.is_symlink() or (logs.exists() and not logs.is_dir()):
            raise ResultsError(f"cannot resume {path}: {logs} is no directory of its own; remove it to go on")
        for log in logs.iterdir() if logs.exists() else ():
            if log.is_symlink() or not log.is_file():
                raise ResultsError(f"cannot resume {path}: {log} is no regular file; remove it to go on")
    except OSError as error:
        raise ResultsError(f"cannot read {logs}: {error.strerror}") from error


def _records_of(path: Path) -> Path:
    """The file of a run's records, also where a kept run was compressed with gzip."""
    packed = path / f"{RECORDS}.gz"
    return packed if packed.exists() else path / RECORDS
