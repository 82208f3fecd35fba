"""Shared memory that processes of an engine leave behind."""

from __future__ import annotations

import os
import socket
from multiprocessing import resource_tracker


def have_shared_memory_freed() -> None:
    """Have Python's resource tracker outlive this process and its descendants, however they end, and free what is left.

    vLLM's processes share hundreds of MB that stay in ``/dev/shm`` where nobody frees them.  The tracker does so once
    the last process is gone that could, but it would be killed with their group, as they are at the end of every arm;
    so it is started in another one, by a child, since who leads a session cannot leave its group.  This process and
    those that it starts find it as Python's own children find their parent's.

    To be called before there are threads.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # of what it frees, in place of last words
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = os.fork()
            if child == 0:
                _start_tracker(theirs)
        _, trackers, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    for tracker in trackers:  # none where it could not be started; Python starts another one then, once it is needed
        # As multiprocessing.spawn.spawn_main tells a child of its parent's.
        resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]


def _start_tracker(told: socket.socket) -> None:
    """In a child: start it, hand on where it listens, and end."""
    try:
        os.setpgid(0, 0)
        for name in [name for name in os.environ if name.startswith("SAMEBITS_")]:
            del os.environ[name]  # by which it would be known as a worker's, and ended with it
        resource_tracker.ensure_running()
        tracker = resource_tracker.getfd()
        assert tracker is not None
        socket.send_fds(told, [b"."], [tracker])
    finally:
        os._exit(0)
