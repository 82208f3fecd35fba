"""Run directories to read from and to write into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels_bench.records.manifest import RunDirectory
from support.run_directories import EVERY_KIND
from support.stored_records import manifest


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    directory = RunDirectory.create(tmp_path / "run", manifest())
    yield directory
    directory.close()


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A run directory that nobody holds, with every kind of record in it."""
    directory = RunDirectory.create(tmp_path / "ended", manifest())
    for record in EVERY_KIND:
        directory.append(record)
    directory.close()
    return directory.path
