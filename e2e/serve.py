"""vLLM's server, tied to the process that wants it: ``python -m e2e.serve PARENT ARGUMENTS…``."""

from __future__ import annotations

import runpy
import sys

from kernels_bench.launch import die_with_parent


def main() -> None:
    """Serve until the parent ends."""
    die_with_parent(int(sys.argv.pop(1)))
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
