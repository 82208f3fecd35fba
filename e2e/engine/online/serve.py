"""vLLM's server, tied to the process that wants it: ``python -m e2e.engine.online.serve PARENT ARGUMENTS…``."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from multiprocessing import resource_tracker

from kernels_bench.workers.lifetime import die_with_parent, take_descendants_along


def main() -> None:
    """Serve until the parent ends; the engine is a process of its own, and ends with the server."""
    die_with_parent(int(sys.argv.pop(1)))
    _have_shared_memory_freed()
    take_descendants_along()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


def _have_shared_memory_freed() -> None:
    """Have Python's resource tracker outlive this process and its descendants, however they end, and free what is left.

    vLLM's processes share hundreds of MB that stay in ``/dev/shm`` where nobody frees them.  The tracker does so once
    the last process is gone that could, but it would be killed with their group; so it is started in another one.
    """
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # of what it frees, in place of last words
    server = os.getpid()
    first = os.fork()
    if first == 0:
        die_with_parent(server)
        signal.pause()
    os.setpgid(first, first)
    os.setpgid(0, first)
    resource_tracker.ensure_running()
    os.setpgid(0, 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


if __name__ == "__main__":
    main()
