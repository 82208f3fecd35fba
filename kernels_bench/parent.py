"""A process that lives no longer than the one that started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent, even in the middle of a kernel that hangs."""
    told_of_parents_death(signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(0)


def told_of_parents_death(by: signal.Signals) -> bool:
    """Whether the kernel will send this process a signal when its parent ends; Linux alone can."""
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by) == 0)
    return False


def name_process(name: str) -> None:
    """Have the system show this process by a name of at most 15 characters; Linux alone does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
