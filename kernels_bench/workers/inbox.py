"""Whole messages out of a connection on which anything may arrive: in pieces, without end, or what is no message."""

from __future__ import annotations

import os
import pickle
import struct
from multiprocessing.connection import Connection

from profiles.run_files.record import Record

MOST_BYTES = 1 << 28
"""No message is longer: one with all samples of a case has less than a hundredth of it."""

_SHORT, _LONG = struct.Struct("!i"), struct.Struct("!Q")
_MOST_AT_ONCE = 1 << 20


class GarbledError(Exception):
    """What arrived is no message of ours; nothing that comes after it can be told apart."""


class Inbox:
    """What `multiprocessing.connection.Connection.send` sent, read without waiting for a message's end.

    A kernel has its process's connection within reach, and `Connection.recv` would wait for as many bytes as a kernel
    announced, whatever the limit of the request is.

    Args:
        connection: the end that is read; nobody else reads it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held = bytearray()

    def read(self) -> Record | None:
        """Read once what has arrived, or wait until something does.

        Returns:
            The message; None where more of it is to come.

        Raises:
            EOFError: the other side hung up.
            OSError: so did it, in another way.
            GarbledError: this is no message.
        """
        start, size = self._measured()
        missing = start + size - len(self._held)
        if missing > 0:
            data = os.read(self._connection.fileno(), min(missing, _MOST_AT_ONCE))
            if not data:
                raise EOFError
            self._held += data
            start, size = self._measured()
        if len(self._held) < start + size or not size:
            return None
        message, self._held = bytes(self._held[start:]), bytearray()
        return _opened(message)

    def _measured(self) -> tuple[int, int]:
        """How long what precedes a message is, and the message itself; 0 as long as that is not known."""
        start, size = _SHORT.size, 0
        if len(self._held) >= start:
            (size,) = _SHORT.unpack_from(self._held)
            if size == -1:
                start += _LONG.size
                size = _LONG.unpack_from(self._held, _SHORT.size)[0] if len(self._held) >= start else 0
            if not 0 <= size <= MOST_BYTES or (not size and len(self._held) >= start):
                raise GarbledError
        return start, size


def _opened(message: bytes) -> Record:
    try:
        found = pickle.loads(message)
    except Exception as error:  # of bytes that are no pickle anything may come
        raise GarbledError from error
    if not isinstance(found, Record):
        raise GarbledError
    return found
