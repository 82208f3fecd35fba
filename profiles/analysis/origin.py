"""Where a report comes from: the GPU, the date and the command, by what the report and the files beside it say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from profiles.analysis.schema import Origin, Told
from profiles.capture.recorder import RECORD
from profiles.files import read_file
from profiles.run_files.run_directory import MANIFEST, MOST_MANIFEST
from profiles.trace.database import opened

# Nsight Systems lists the machine's GPUs, and when the recording began; a cut report holds neither.
_GPUS, _BEGAN = "SELECT DISTINCT name FROM TARGET_INFO_GPU", "SELECT utcEpochNs FROM TARGET_INFO_SESSION_START_TIME"

_MOST_ROWS = 1000
_END_OF_TIME_NS = 4_102_444_800 * 10**9  # the year 2100: a later date is none


class _Part(BaseModel):
    """What is read of a record; the rest is none of ours."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Device(_Part):
    name: str | None = None


class _Said(_Part):
    """What one file says, with the names that captures and runs share."""

    device: _Device | None = None
    created: str | None = None
    command: str | None = None
    reports: tuple[str, ...] = ()


def origin(report: Path, run: Path | None = None) -> tuple[Origin, tuple[str, ...]]:
    """What is known of a report's origin; the record of its capture comes first, the run's manifest last.

    Args:
        report: as it was named to be analysed.
        run: the kernels_bench run beside it.

    Returns:
        The origin, and what the reader must know of it.
    """
    known: dict[str, Told] = {}
    notes: list[str] = []
    for source, said in _sources(report, run, notes):
        facts = {"device": said.device and said.device.name, "created": said.created, "command": said.command}
        for fact, value in facts.items():
            if value:
                known.setdefault(fact, Told(value=value, by=source))
    return Origin(**known), tuple(notes)


def _sources(report: Path, run: Path | None, notes: list[str]) -> Iterator[tuple[str, _Said]]:
    """Who says what."""
    capture = _read(report.parent / RECORD, notes)
    # Another report may have been put beside the record.
    if report.name in capture.reports:
        yield RECORD, capture
    yield "the report", _report(report.with_suffix(".sqlite") if report.suffix == ".nsys-rep" else report)
    if run is not None:
        yield f"{MANIFEST} of the run", _read(run / MANIFEST, notes)


def _read(path: Path, notes: list[str]) -> _Said:
    """A record; a damaged one is noted and says nothing, since the analysis does not rest on it."""
    try:
        return _Said.model_validate_json(read_file(path, MOST_MANIFEST))
    except FileNotFoundError:
        return _Said()
    except OSError as error:
        notes.append(f"{path.name} cannot be read and is left out: {error.strerror}")
    except ValidationError as error:
        notes.append(f"{path.name} is damaged and left out: {error.errors()[0]['msg']}")
    return _Said()


def _report(path: Path) -> _Said:
    """What Nsight Systems itself wrote down."""
    names, began = _rows(path, _GPUS), _rows(path, _BEGAN)
    created = None
    if began and isinstance(began[0], int) and 0 <= began[0] < _END_OF_TIME_NS:
        created = datetime.fromtimestamp(began[0] / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _Said(device=_Device(name=", ".join(map(str, names))), created=created)


def _rows(path: Path, query: str) -> list[object]:
    """A column; empty where this is no SQLite export, or lacks the table."""
    try:
        with opened(path) as database:
            return [value for (value,) in database.execute(query).fetchmany(_MOST_ROWS)]
    except (sqlite3.Error, OSError, ValueError):
        return []
