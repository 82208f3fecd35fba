"""How a kernel at hand can be named on a command line: as a function of a file."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator

_NOT_A_WORD = re.compile(r"\W+")


def name_of(kernel: Callable[..., Any]) -> str:
    """A word for a kernel: its own name, or its class's."""
    own = getattr(kernel, "__name__", None) or type(kernel).__name__
    return _NOT_A_WORD.sub("_", str(own)).strip("_") or "kernel"


def plugin_of(kernel: Callable[..., Any], operator: Operator) -> str | None:
    """What ``--plugin`` takes for a kernel, such as ``kernels.py:rms_norm=fast``; None where no file has it by a name.

    A closure, a bound method or a compiled module is known to this process alone; so is a kernel of an operator of
    one's own that its file does not have. A file of a package may import its neighbours by a dot, which works in the
    package alone.
    """
    module = sys.modules.get(getattr(kernel, "__module__", None) or "")
    name = name_of(kernel)
    if module is None or module.__package__ or getattr(module, name, None) is not kernel:
        return None
    own = isinstance(operator, DefinedOperator) and operator.own
    if own and not any(value is operator for value in vars(module).values()):
        return None
    file = _file(module)
    return None if file is None else f"{file}:{operator.name}={name}"


def _file(module: ModuleType) -> str | None:
    """A module's file, seen from the current directory where it lies below it."""
    try:
        path = inspect.getsourcefile(module)
    except TypeError:
        return None
    if path is None or not path.endswith(".py") or not Path(path).is_file():
        return None
    near = os.path.relpath(path)
    return path if near.startswith(os.pardir) else near
