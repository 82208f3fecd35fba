"""A file of tests under Triton's interpreter, in a process of its own.

The interpreter is chosen by a variable that Triton reads when it is imported, and it cannot be left again.
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from typing import Any

from kernels_bench.device.triton_interpreter import ROWS_ALIKE

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LIMIT_S = 900


def under_the_interpreter(file: str, which: str) -> subprocess.CompletedProcess[str]:
    """What came of the file's tests that are so marked."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-m", which],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", **ROWS_ALIKE},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def look_through_the_language_once() -> None:
    """Have the interpreter remember which of Triton's functions it is to replace while a kernel runs.

    It looks through all names of the language at every call of every function of a kernel, which takes a third of a
    test's time; they are always the same.
    """
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    core, language = interpreter.tl.core, interpreter.tl
    places = (language, core, language.tensor, language.math, core.tensor_descriptor_base)
    known = {
        place: [(name, member) for name, member in inspect.getmembers(place) if core.is_builtin(member)]
        for place in places
    }

    def patch_builtin(place: Any, *more: Any) -> None:
        for name, member in known[place]:
            interpreter._patch_attr(place, name, member, *more)

    interpreter._patch_builtin = patch_builtin


if INTERPRETED:
    look_through_the_language_once()
