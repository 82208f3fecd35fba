"""Mistakes of the user's that end a command with one line."""

from __future__ import annotations


class ReportError(Exception):
    """A report that cannot be read or made; the message says what is wrong, where, and what to do.

    Attributes:
        status: exit status of a command that it ends: 2 where something else should have been named or installed, 3
            where nothing was recorded.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status
