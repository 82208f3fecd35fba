"""Finds the files of a folder: to add an operator, an arm, a relation or a fault is to add one."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from kernels_bench.console.mistakes import PluginError, told


def offering(package: str, *names: str) -> list[ModuleType]:
    """Every module of a package that offers one of some names, in the order of the modules' own names.

    A folder is looked into, unless it offers one itself: then it is one entry, and its files are its own affair.

    Raises:
        PluginError: one does not import.
    """
    found: list[ModuleType] = []
    entries = pkgutil.iter_modules(importlib.import_module(package).__path__, package + ".")
    for entry in sorted(entries, key=lambda entry: entry.name):
        module = _imported(entry.name)
        if any(hasattr(module, name) for name in names):
            found.append(module)
        elif entry.ispkg:
            found += offering(entry.name, *names)
    return found


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        found = importlib.util.find_spec(name)
        file = (found.origin if found is not None else None) or name
        raise PluginError(f"{file} does not import: {told(error, file)}") from error
