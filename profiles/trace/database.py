"""Open somebody's SQLite file to be read: nothing in it is executed without end, and no value of it is huge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from profiles.files import open_file

LONGEST_VALUE = 16 << 20
"""Bytes of a text or a blob; names of kernels have thousands at most."""

_LEAST_STEPS, _STEPS_A_BYTE, _A_TIME = 100_000_000, 100, 1_000_000
"""Steps of SQLite's machine that reading may take: a row takes tens of steps and has tens of bytes."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An SQLite file, never written to.

    Raises:
        OSError: it is not there, or no regular file.
        sqlite3.Error: while it is read, too: it is damaged, has a value that is too long, or reading it never ends.
    """
    with open_file(path) as file:
        left = _LEAST_STEPS + _STEPS_A_BYTE * file.seek(0, 2)

    def count() -> bool:
        """Whether to end."""
        nonlocal left
        left -= _A_TIME
        return left < 0

    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        database.set_progress_handler(count, _A_TIME)
        database.execute("PRAGMA trusted_schema = OFF")
        yield database


def tables_of(database: sqlite3.Connection) -> frozenset[str]:
    """Names of the tables with rows of their own: a view or a virtual table may be a program that never ends."""
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
    return frozenset(str(name) for (name,) in found)
