"""How the three commands are called, and how their processes find these very packages, whose names are common words.

``python -m`` looks into the current directory first, where another package of the same name may lie; the installed
commands do not.  This file uses the standard library alone: it is run by its path where it is not known yet which
``profiles`` an import would find.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

INSTALLED = {"kernels_bench": "kernels-bench", "e2e": "samebits-e2e", "profiles": "samebits-profiles"}
"""The installed command of each package."""

ROOT = Path(__file__).resolve().parents[1]
"""Where the three packages lie side by side."""

VARIABLE = "SAMEBITS_CALLED_AS"
"""Tells processes whether the user called an installed ``command`` or a ``module``; `note_call` sets it."""


def note_call() -> None:
    """Note for this process and those that it starts how the user called it; to be done first of all."""
    os.environ[VARIABLE] = "module" if _is_module() else "command"


def _is_module() -> bool:
    """Whether this process is that of ``python -m``."""
    return Path(sys.argv[0]).name == "__main__.py"


def called(package: str) -> list[str]:
    """The words that a package's command begins with, as the user calls commands."""
    installed = os.environ.get(VARIABLE) == "command"
    return [INSTALLED[package]] if installed else ["python", "-m", package]


def python(*arguments: str) -> list[str]:
    """A command line for a Python process of ours, which looks for no module in the current directory."""
    return [sys.executable, "-P", *arguments]


def import_path() -> dict[str, str]:
    """What a Python process of ours has in its environment to find these packages, installed or run from a checkout."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def foreign(name: str) -> Path | None:
    """Where another package lies that an import of one of ours would find first; None where there is none."""
    found = PathFinder.find_spec(name)
    if found is None:  # ours, which an editable installation finds otherwise
        return None
    place = Path(next(iter(found.submodule_search_locations or ()), found.origin or name))
    return None if place.resolve() == ROOT / name else place


def refuse_others(package: str, *needed: str) -> None:
    """End a command of ``package`` with one clear line where an import of what it needs would find somebody else's."""
    for name in needed:
        if (place := foreign(name)) is not None:
            remedy = _remedy(package, place)
            print(f"{package}: {place} is in the way of samebits' {name}; {remedy}", file=sys.stderr)
            sys.exit(2)


def _remedy(package: str, place: Path) -> str:
    if _is_module() and place.parent == Path.cwd():
        return f"run the installed command {INSTALLED[package]}, or start from another directory"
    return f"take {place.parent} out of PYTHONPATH, or uninstall what brought it"
