"""How the three commands are called, and how their processes find these very packages, whose names are common words.

``python -m`` looks into the current directory first, where another package of the same name may lie; the installed
commands do not.  This file uses the standard library alone: it is run by its path where it is not known yet which
``profiles`` an import would find.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

INSTALLED = {"kernels_bench": "kernels-bench", "e2e": "samebits-e2e", "profiles": "samebits-profiles"}
"""The installed command of each package."""

ROOT = Path(__file__).resolve().parents[1]
"""Where the three packages lie side by side."""

VARIABLE = "SAMEBITS_CALLED_AS"
"""Tells processes whether the user called an installed ``command`` or a ``module``; `note_call` sets it."""


TRACEBACK = "SAMEBITS_TRACEBACK"
"""With this variable set, an error that nobody foresaw is shown with the lines that it came through."""


def begin(package: str) -> None:
    """Have what ends this process before a command is begun be one line, with a status that says nothing of a verdict.

    To be called first of all: imports take most of a second, and what is raised in them Python itself would end with 1.
    """

    def failed(_: type[BaseException], error: BaseException, __: object) -> NoReturn:
        tell_unforeseen(package, error)
        os._exit(4)  # of this hook Python takes no other status

    sys.excepthook = failed
    _end_at_once_when_interrupted(package)


def tell_unforeseen(package: str, error: BaseException) -> None:
    """Print one line about an error that nobody foresaw: what it is and, unless it is the machine's, where it was."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # nobody may listen any more
        line = "".join(c if c.isprintable() else " " for c in _unforeseen(error))  # nothing may steer a terminal
        print(f"{package}: {line}", file=sys.stderr, flush=True)


def _unforeseen(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        names = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{names}: {error.strerror}" if names else error.strerror
    said = next((line for line in str(error).splitlines() if line.strip()), "")
    told = f"{type(error).__name__}: {said}" if said else type(error).__name__
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f", in line {one.lineno} of {one.filename}" for one in last)
    return f"{told}{where}; nobody foresaw this, and {TRACEBACK}=1 shows where it came from"


def _end_at_once_when_interrupted(package: str) -> None:
    """There is nothing to tidy up yet, and an exception would come out of any line of an import."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # who started it in the background ignores it
        return

    def end(*_: object) -> NoReturn:
        with contextlib.suppress(OSError):  # nobody may listen any more
            os.write(2, f"{package}: interrupted\n".encode())
        os._exit(130)

    signal.signal(signal.SIGINT, end)


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


def typed(package: str) -> str:
    """The command of this process as it was typed, to run the same again."""
    return shlex.join([*called(package), *sys.argv[1:]])
