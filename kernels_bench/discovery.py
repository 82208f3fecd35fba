"""Finds the files of a folder: to add an operator, an arm, a relation or a fault is to add one."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules(package: ModuleType) -> list[ModuleType]:
    """All modules of a package, imported, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."))
    return [importlib.import_module(name) for name in names]
