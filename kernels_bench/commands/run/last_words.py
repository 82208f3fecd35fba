"""What a command says when another process ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from profiles.command_line import warn

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals of a scheduler's time limit, a container's stop, a terminal that was closed."""


@contextmanager
def last_words(package: str, go_on: str) -> Iterator[None]:
    """Say how to go on before a signal ends this process, which it does as if nothing were here.

    Nothing is tidied up, so that the end is as quick as it was asked for; workers see that their parent is gone.

    Args:
        package: whose command it is.
        go_on: the command that goes on with it.
    """

    def end(number: int, _: FrameType | None) -> None:
        """Say how to go on, and end by the same signal as if nobody had handled it."""
        signal.signal(number, signal.SIG_DFL)
        try:
            if sys.stderr.isatty():  # a line of progress may stand there
                print(file=sys.stderr)
            warn(package, f"ended by {signal.Signals(number).name}; go on with {go_on}")
        finally:
            os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():  # only the main one may set them
        yield
        return
    mine = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]  # not what nohup ignores
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
