"""The entry point of vLLM's group ``vllm.general_plugins``: puts a plan's kernels into an engine, where one is named.

It is imported by every vLLM of an environment that samebits is installed in, and loads nothing until it is needed.
"""

from __future__ import annotations

import os

from kernels_bench.planned.variables import VARIABLE


def register() -> None:
    """Put the kernels of the plan that is named in the places of vLLM's, once a process.

    Raises:
        CommandError: there is no such plan, it was made elsewhere, or its kernels cannot run in an engine.
    """
    if os.environ.get(VARIABLE):
        from kernels_bench.planned.places import put_in_place

        put_in_place(os.environ)
