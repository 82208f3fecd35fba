"""What is wrong with a plugin as it was typed, as far as it shows before a process is started, which takes seconds."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import warnings
from pathlib import Path

from kernels_bench.arms.plugins import file_of
from kernels_bench.console.text import suggestion
from kernels_bench.operators import operators

_KNOWN_MODULES = {*sys.stdlib_module_names, "numpy", "torch", "triton"} - {"importlib", "runpy"}
"""Of these none has operators of its own, or gives a file names that are not in it."""

_MAKES_NAMES = re.compile(r"\b(__(?!future__)|(globals|locals|vars|exec|eval)\b)")
"""By one of these a file can have a function of a name that is nowhere in it."""


def mistake_in(plugin: str) -> str | None:
    """Why a plugin cannot be used; None where nothing but its import can tell.

    Args:
        plugin: a file, or ``FILE:OPERATOR=FUNCTION``.
    """
    file = file_of(plugin)
    if not os.path.isfile(file):  # which no name can upset
        return "no such file"
    if importlib.util.spec_from_file_location("samebits_plugin", file) is None:
        return "not a Python file; its name must end in .py"
    operator, _, function = plugin.removeprefix(file).removeprefix(":").rpartition("=")
    text = _plain_text(Path(file)) if function else None
    if text is None:
        return None
    if operator not in operators():
        return f"there is no operator {operator!r}{suggestion(operator, operators())}"
    if not re.search(rf"\b{function}\b", text):
        return f"{file} has no function {function!r}"
    return None


def _plain_text(file: Path) -> str | None:
    """A file's text, where the names of all that it has are in it, and it has no operators; None where it may."""
    try:
        text = file.read_bytes().decode("ascii")  # of other letters several may be the same one
        with warnings.catch_warnings(action="ignore"):  # the import tells of it, as of all that is raised here
            nodes = [*ast.walk(ast.parse(text))]
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    imported = [name.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names]
    modules = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    modules += ["." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)]
    known = all(module.partition(".")[0] in _KNOWN_MODULES for module in modules)
    return text if known and "*" not in imported and not _MAKES_NAMES.search(text) else None
