"""A file of tests under Triton's interpreter, in a process of its own.

The interpreter is chosen by a variable that Triton reads when it is imported, and it cannot be left again.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from types import SimpleNamespace
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


def replace_the_language_once() -> None:
    """Have what the interpreter replaces in Triton's language stay replaced, and NumPy's types looked up once.

    It replaces all of the language at every call of every function of a kernel, which takes a third of a test's time;
    and nothing but kernels uses the language.
    """
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    language = interpreter.tl
    interpreter._patch_lang(SimpleNamespace(__globals__={"tl": language, "core": language.core}))
    interpreter._patch_lang = lambda _: interpreter._LangPatchScope()
    of_numbers = functools.cache(interpreter._get_np_dtype)

    def np_dtype(kind: Any) -> Any:
        one = kind.scalar
        return of_addresses if isinstance(one, language.pointer_type) else of_numbers(one)

    of_addresses = interpreter._get_np_dtype(language.pointer_type(language.int8))
    interpreter._get_np_dtype = np_dtype


if INTERPRETED:
    replace_the_language_once()
