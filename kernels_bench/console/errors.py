"""Mistakes of the user's, and what is checked of every command line."""

from __future__ import annotations

from profiles.errors import CommandError

# A day; what can be waited for ends at some 24 of them.
LONGEST_S = 86400


class UsageError(CommandError):
    """What the user typed cannot be done; the message says why and what can."""


def timeout_of(seconds: float) -> float:
    """What ``--timeout`` may be.

    Raises:
        UsageError: so long cannot be waited.
    """
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"--timeout {seconds:g}: expected a number of seconds above 0, at most {LONGEST_S}")
    return seconds
