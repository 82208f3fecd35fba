"""Finds the files of a folder: to add an operator, an arm, a relation or a fault is to add one."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from kernels_bench.mistakes import PluginError, told


def modules(package: ModuleType) -> list[ModuleType]:
    """All modules of a package, imported, by name.

    Raises:
        PluginError: one does not import.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."))
    return [_imported(package, name) for name in names]


def _imported(package: ModuleType, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        found = importlib.util.find_spec(name)
        file = (found.origin if found is not None else None) or name
        raise PluginError(f"{file} does not import: {told(error, file)}") from error
