"""Entry of a worker's process: ``python -m kernels_bench.launch FD PARENT``.

Its ties to the parent are made before anything heavy is imported, so that no moment is left in which it could
outlive the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent, even in the middle of a kernel that hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(0)


def attach() -> Connection:
    """The connection whose file descriptor stands on the command line, before the parent's process id."""
    descriptor, parent = (int(word) for word in sys.argv[1:3])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    return Connection(descriptor)


def requests(connection: Connection) -> Iterator[Any]:
    """What the parent asks, until it hangs up."""
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        yield request


def main() -> None:
    """Answer what the parent asks."""
    connection = attach()
    # Threads that spin while they wait make every other process wait too, and on a busy machine thirty times longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from kernels_bench.worker import serve

    serve(connection)


if __name__ == "__main__":
    main()
