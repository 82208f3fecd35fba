"""How long a process lives, no longer than its parent, nor than its parent's requests; and what it keeps till then."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from kernels_bench.parent import die_with_parent, told_of_parents_death


def take_descendants_along() -> None:
    """Have all processes that this one will start end with it, however it ends.

    The kernel tells a process of its parent's death, but who was started by others' code never asked.  So this process
    becomes the first of a group, and a second one, which does nothing else, kills the group when it is gone.  To be
    called before there are threads.
    """
    os.setpgid(0, 0)
    leader = os.getpid()
    if os.fork():
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT})
    if not told_of_parents_death(signal.SIGUSR1):
        os._exit(0)
    if os.getppid() == leader:
        signal.sigwait({signal.SIGUSR1})
    os.killpg(leader, signal.SIGKILL)  # and itself with it


def attach() -> Connection:
    """The connection whose file descriptor stands on the command line, before the parent's process id."""
    descriptor, parent = (int(word) for word in sys.argv[1:3])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    return Connection(descriptor)


def wait_passively() -> None:
    """Have the threads that libraries will start in this process, and in those that it starts, wait without spinning.

    Those that spin make every other process wait too, and on a busy machine thirty times longer.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def requests(connection: Connection) -> Iterator[Any]:
    """What the parent asks, until it hangs up."""
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        yield request


@contextlib.contextmanager
def made_to_stay() -> Iterator[None]:
    """Look for no garbage while something is imported, nor ever again among what it made.

    A tenth of the time that torch's import takes goes into that; later it would be done while kernels are timed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def ended_children() -> Iterator[tuple[int, int]]:
    """Children of this process that have ended and were not told yet, each with its return code; waits for none."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        yield child, os.waitstatus_to_exitcode(status)
