"""Lines of ``records.jsonl`` that tell which they are and what they hold, so that a lost or altered one is noticed.

A line is the record's JSON object, with a running number and a digest in front: ``{"line":1,"digest":"…","kind":…}``.
The digest is SHA-256 over the number, a line feed and the object without the two, as 16 hexadecimal digits: it finds
damage and mistakes, and keeps nobody from forging a line.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

_FRONT = re.compile(rb'\{"line":([1-9][0-9]{0,17}),"digest":"([0-9a-f]{16})",')

FIELDS: dict[str, dict[str, Any]] = {
    "line": {
        "description": "Which line of the file this is, counted from 1.",
        "minimum": 1,
        "title": "Line",
        "type": "integer",
    },
    "digest": {
        "description": "First 16 hexadecimal digits of SHA-256 over the number, a line feed and the line without these "
        "two fields and its end.",
        "pattern": "^[0-9a-f]{16}$",
        "title": "Digest",
        "type": "string",
    },
}
"""The two in a JSON Schema."""


class LineError(ValueError):
    """A line that is not the expected one; the message says what became of it, as the end of a sentence."""


def numbered(number: int, record: bytes) -> bytes:
    """A line without its end.

    Args:
        number: which line it is, from 1.
        record: a JSON object with a field at least.
    """
    return b'{"line":%d,"digest":"%s",' % (number, _digest(number, record)) + record[1:]


def record_in(line: bytes, number: int) -> bytes:
    """The record in a line.

    Args:
        line: without its end.
        number: which line it should be.

    Raises:
        LineError: it is another, or was altered.
    """
    front = _FRONT.match(line)
    record = b"" if front is None else b"{" + line[front.end() :]
    if front is None or front[2] != _digest(int(front[1]), record):
        raise LineError(f"line {number} is altered: its digest is of another content")
    if int(front[1]) != number:
        raise LineError(f"line {number} is missing: line {int(front[1])} stands in its place")
    return record


def is_numbered(line: bytes) -> bool:
    """Whether a line begins as `numbered` ones do."""
    return line.startswith(b'{"line":')


def _digest(number: int, record: bytes) -> bytes:
    return hashlib.sha256(b"%d\n" % number + record).hexdigest()[:16].encode()
