"""A file of tests under Triton's interpreter, in a process of its own.

The interpreter is chosen by a variable that Triton reads when it is imported, and it cannot be left again.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

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
    language = INTERPRETER.tl
    INTERPRETER._patch_lang(SimpleNamespace(__globals__={"tl": language, "core": language.core}))
    INTERPRETER._patch_lang = lambda _: INTERPRETER._LangPatchScope()
    of_numbers = functools.cache(INTERPRETER._get_np_dtype)

    def np_dtype(kind: Any) -> Any:
        one = kind.scalar
        return of_addresses if isinstance(one, language.pointer_type) else of_numbers(one)

    of_addresses = INTERPRETER._get_np_dtype(language.pointer_type(language.int8))
    INTERPRETER._get_np_dtype = np_dtype


def make_each_type_once() -> None:
    """Have tensors of one type share what follows from it: its name, its size, its shape as the language has it.

    The interpreter makes them anew for every tensor, which takes as long as all else that it does.  None is altered.
    """
    core = INTERPRETER.tl.core
    begin_type = core.block_type.__init__

    @functools.cache
    def of_blocks(element: str, shape: tuple[Any, ...]) -> dict[str, Any]:
        made: Any = core.block_type.__new__(core.block_type)
        begin_type(made, element, [*shape])
        return {**vars(made)}

    def init_type(self: Any, element_ty: Any, shape: Any) -> None:
        vars(self).update(of_blocks(element_ty.name, tuple(shape)), element_ty=element_ty)

    @functools.cache
    def of_shape(shape: tuple[int, ...]) -> tuple[Any, Any]:
        return core.constexpr(math.prod(shape)), core.tuple([core.constexpr(length) for length in shape])

    def init_tensor(self: Any, handle: Any, type: Any) -> None:  # noqa: A002
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.numel, self.shape = of_shape(tuple(type.shape) if type.is_block() else ())

    core.block_type.__init__, core.tensor.__init__ = init_type, init_tensor


def look_for_overflows_in_numpy() -> None:
    """Have sums, differences and products of integers compared with what fits their type by NumPy alone.

    The interpreter does so by five more operations of the language, for every one.
    """
    semantic = INTERPRETER.interpreter_semantic
    functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply}

    def check(lhs: Any, rhs: Any, binary_op: Any) -> None:
        kind = lhs.type.scalar
        if kind.int_bitwidth >= 64:
            return
        whole = functions[binary_op.__name__](lhs.handle.data, rhs.handle.data, dtype=np.int64)
        fits = whole.min() >= kind.get_int_min_value() and whole.max() <= kind.get_int_max_value()
        assert fits, f"int{kind.int_bitwidth} overflow detected for operation {binary_op.__name__}"

    semantic.binary_op_sanitize_overflow_impl = check


if INTERPRETED:
    INTERPRETER: Any = importlib.import_module("triton.runtime.interpreter")
    replace_the_language_once()
    make_each_type_once()
    look_for_overflows_in_numpy()
