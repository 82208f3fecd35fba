"""vLLM's server, tied to the process that wants it: ``python -m e2e.engine.online.serve PARENT ARGUMENTS…``."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import time
from multiprocessing import connection, popen_fork

from e2e.engine.error_causes import killed_in_words
from e2e.engine.shared_memory import have_shared_memory_freed
from kernels_bench.parent import die_with_parent
from kernels_bench.workers.lifetime import made_to_stay, take_descendants_along

DYING_S = 1.0


def main() -> None:
    """Serve until the parent ends; the engine is a process of its own, and ends with the server."""
    die_with_parent(int(sys.argv.pop(1)))
    have_shared_memory_freed()
    take_descendants_along()
    tell_who_is_killed()
    import_engine()
    # Not in this module's place: what is there is imported by the server's processes too, see below.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def import_engine() -> None:
    """Import most of what a server is made of; a fifth of the time would go into looking for garbage."""
    with made_to_stay(), contextlib.suppress(ImportError):  # which the server's own program tells of
        from vllm import LLM  # noqa: F401 - vllm itself imports next to nothing


def tell_who_is_killed() -> None:
    """Have this process print which of its children a signal ended that it had not ended itself.

    Only a parent can know, and vLLM's server does not tell: without its engine it ends in order, with status 0.  All
    that it asks of its children's ends goes through one function of Python's.
    """
    ended: set[int] = set()
    terminate, poll = popen_fork.Popen.terminate, popen_fork.Popen.poll

    def terminated(child: popen_fork.Popen) -> None:
        """End a child, unless it is dying already: only one that we ended is not told of."""
        # Who has lost its end of the pipe is dying already, and not of this; it can be asked why in a moment.
        dead = time.monotonic() + DYING_S if connection.wait([child.sentinel], 0) else 0.0
        while child.poll() is None and time.monotonic() < dead:
            time.sleep(0.01)
        ended.add(child.pid)
        terminate(child)

    def polled(child: popen_fork.Popen, flag: int = os.WNOHANG) -> int | None:
        """The child's exit code, as usual; the first time, a child that a signal ended is told of."""
        known, code = child.returncode, poll(child, flag)
        if known is None and code is not None and code < 0 and child.pid not in ended:
            print(killed_in_words(child.pid, -code), file=sys.stderr, flush=True)
        return code

    popen_fork.Popen.terminate = terminated  # type: ignore[method-assign, assignment]
    popen_fork.Popen.poll = polled  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # in a process that the server starts, for its engine or a worker of that
    import_engine()
