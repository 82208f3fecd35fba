"""How commands end: the exit statuses of all three packages, and the mistakes that end one with one line."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command tells the one that called it; ``--help`` of each says what counts as what.

    A program that a signal ends has 128 and the signal's number, as shells count: 130 after Ctrl-C, 143 after SIGTERM.
    `profiles capture` passes on the status of the command that it records.

    Attributes:
        GOOD: what was asked for was done, and whatever was judged is as it should be.
        VERDICT: it was done, and something that was judged is not; nothing else has this status.
        USAGE: the command line, or what it names, cannot be used; nothing was done.
        INCOMPLETE: something could not be measured, judged or kept.
        ERROR: a mistake of samebits' own, or of the machine's, that nobody foresaw; it says nothing about what was
            judged.
        INTERRUPTED: Ctrl-C; what was measured is kept.
    """

    GOOD = 0
    VERDICT = 1
    USAGE = 2
    INCOMPLETE = 3
    ERROR = 4
    INTERRUPTED = 130


class ToldError(Exception):
    """What happened in a process that is asked for something, in whole words: its name says nothing more."""


class CommandError(Exception):
    """What ends a command with one line, and is the user's to mend: what is wrong, where, and what to do.

    Args:
        message: that line, without the package's name in front.
        status: instead of the class's own.

    Attributes:
        status: exit status of a command that it ends.
    """

    status: int = ExitStatus.USAGE

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class ReportError(CommandError):
    """A report that cannot be read or made.

    Its status is 2 where something else should have been named or installed, 3 where nothing was recorded.
    """
