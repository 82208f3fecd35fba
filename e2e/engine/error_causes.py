"""Why an engine does not start, or has died, in one line of its own words.

vLLM tells of it where nobody asked: an engine in a process of its own prints its error and ends, and who waits for it
gets "see root cause above". What it printed is in the log that all processes of an arm share.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path

from kernels_bench.console.text import first_line, printable
from profiles.errors import ToldError

_LOG = Path("/proc/self/fd/2")
_READ, _SHOWN = 1 << 16, 400
"""As much of a log as holds the tracebacks of several processes, and as much of an error as one reads."""

_REQUESTS_READ = 1 << 24
"""As much of a log as holds a traceback for each of a thousand requests, which a server prints that lost its engine."""

_PREFIX = r"(?:\([^)]*\) )?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^]]*\] )?"
"""What vLLM puts before the lines of its processes: ``(EngineCore pid=7) ERROR 11-23 08:30:00 [core.py:946] ``."""

_ERROR = re.compile(_PREFIX + r"(?P<name>(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit))(?:: (?P<words>.*))?$")
_PYDANTIC = re.compile(r"\d+ validation errors? for ")
_ELSEWHERE = "root cause"
_KILLED = re.compile(r"samebits: process \d+ of the engine was killed by (?P<name>SIG\w+)$")


class ServerError(ToldError):
    """A server that does not come up, or does not answer; the message says why."""


class Printed:
    """What this process and its children print from now on; nothing where they do not print to a file."""

    def __init__(self) -> None:
        self._since = os.fstat(2).st_size

    def text(self, most: int = _READ) -> str:
        """The end of it, so many bytes at most."""
        if not stat.S_ISREG(os.fstat(2).st_mode):
            return ""
        with _LOG.open("rb") as log:
            log.seek(max(self._since, log.seek(0, os.SEEK_END) - most))
            return log.read().decode(errors="replace")

    def killed_by(self) -> str | None:
        """The signal that killed a process of the engine meanwhile; None where none was."""
        return killed_by(self.text(_REQUESTS_READ))


def root_cause(error: BaseException, printed: str) -> str:
    """Why, in one line.

    Args:
        error: what was raised where the engine was asked.
        printed: what was printed meanwhile, which is searched if the error only points there.
    """
    found = last_error(printed) if _ELSEWHERE in str(error) else None
    if isinstance(error, ToldError):
        return found or _shown(first_line(error))
    return found or _headline(type(error).__name__, str(error).splitlines())


def last_error(printed: str) -> str | None:
    """The last error in a log that says more than where to look; None without any."""
    lines = printed.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        said = _ERROR.match(lines[number])
        if said is not None and _ELSEWHERE not in lines[number]:
            message = [said["words"], *lines[number + 1 :]] if said["words"] else []
            return _headline(said["name"].rpartition(".")[2], message)
    return None


def killed_in_words(process: int, number: int) -> str:
    """The line by which a server tells what killed a process of its engine, which nobody but its parent can know."""
    return f"samebits: process {process} of the engine was killed by {signal.Signals(number).name}"


def killed_by(printed: str) -> str | None:
    """The signal that killed a process of the engine, the first one where others followed; None where none was."""
    found = (_KILLED.search(line) for line in printed.splitlines())
    return next((one["name"] for one in found if one is not None), None)


def last_words(printed: str) -> str | None:
    """The last error in a log, or else its last line; None if nothing was printed."""
    lines = [line for text in printed.splitlines() if (line := printable(text))]
    return last_error(printed) or (_shown(lines[-1]) if lines else None)


def _headline(name: str, message: list[str]) -> str:
    """An error's name and the line of its message that says what is wrong."""
    lines = [line for line in message if printable(line)]
    if lines and _PYDANTIC.match(lines[0]):
        lines = _validation(lines[1:]) or lines
    return _shown(f"{name}: {printable(lines[0])}" if lines else name)


def _validation(lines: list[str]) -> list[str]:
    """What pydantic found wrong first: the field, where there is one, in a line of its own; the reason is indented."""
    for number, line in enumerate(lines):
        if line.startswith("  "):
            reason = line.strip().partition(" [type=")[0].removeprefix("Value error, ")
            return [": ".join([*lines[:number], reason])]
    return []


def _shown(words: str) -> str:
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
