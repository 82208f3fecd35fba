"""vLLM's server, tied to the process that wants it: ``python -m e2e.serve PARENT ARGUMENTS…``."""

from __future__ import annotations

import runpy
import sys

from kernels_bench.launch import die_with_parent, take_descendants_along


def main() -> None:
    """Serve until the parent ends; the engine is a process of its own, and ends with the server."""
    die_with_parent(int(sys.argv.pop(1)))
    take_descendants_along()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
