"""Files as this project reads and writes them: nothing but files, up to a size; written whole or not at all.

What is read may be anybody's: a named pipe would be waited for, ``/dev/zero`` never ends, a few bytes of gzip unpack to
gigabytes.  All that goes wrong is an `OSError` whose ``strerror`` says so.
"""

from __future__ import annotations

import errno
import gzip
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO, cast

BESIDE = ".samebits-"
"""Begins the names of files that are being written; one that is left is of a process that was killed."""


def open_file(path: Path) -> BinaryIO:
    """A file to read, unpacked where its name ends in ``.gz``; it is never waited for.

    Raises:
        OSError: it is not there, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    plain = os.fdopen(descriptor, "rb")
    return cast(BinaryIO, _Unpacked(plain)) if path.suffix == ".gz" else plain


class _Unpacked(gzip.GzipFile):
    """A packed file that closes what it unpacks."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed)
        self._packed = packed

    def close(self) -> None:
        """Close both."""
        super().close()
        self._packed.close()


def read_file(path: Path, most: int) -> bytes:
    """All of a file.

    Args:
        path: a regular file, packed if its name ends in ``.gz``.
        most: bytes that it may hold, unpacked.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    with _damage_told(), open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_large(f"it is larger than {in_words(most)}", path)
    return content


def lines_of(path: Path, longest: int, most: int) -> Iterator[bytes]:
    """The lines of a file, each with its end; the last may have none.

    Args:
        path: a regular file, packed if its name ends in ``.gz``.
        longest: bytes that a line may have.
        most: bytes that the file may hold, unpacked.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    left = most
    with _damage_told(), open_file(path) as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            left -= len(line)
            if len(line) > longest:
                raise _too_large(f"line {number} is longer than {in_words(longest)}", path)
            if left < 0:
                raise _too_large(f"it is larger than {in_words(most)}", path)
            yield line


def in_words(size: int) -> str:
    """A number of bytes as people say it, such as ``64 MiB``."""
    return f"{size >> 20} MiB" if size < 1 << 30 else f"{size >> 30} GiB"


def _too_large(reason: str, path: Path) -> OSError:
    return OSError(errno.EFBIG, reason, str(path))


@contextmanager
def _damage_told() -> Iterator[None]:
    """Damage of a packed file as the error that any other file has."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(errno.EIO, str(error)) from error


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A text to write in UTF-8, which takes the place of a file once all of it is on disk; before, nothing is changed.

    A link is followed, and the file that it leads to is replaced.  What is no regular file, such as a pipe, cannot be
    replaced and is written to.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("w", newline="", encoding="utf-8") as stream:
            yield stream
        return
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    beside = target.with_name(f"{BESIDE}{secrets.token_hex(8)}")
    try:
        with beside.open("x", newline="", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # some file systems say only now that the disk is full
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
        beside.replace(target)
    finally:
        with suppress(OSError):
            beside.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text in the place of a file, see `written_whole`.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    with written_whole(path) as stream:
        stream.write(text)
