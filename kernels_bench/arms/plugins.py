"""An arm from a user's file, checked at the border."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kernels_bench.arms.base import STATED_PRECISIONS, Arm, Kernel
from kernels_bench.console.mistakes import PluginError, told
from kernels_bench.console.text import suggestion
from kernels_bench.operators import operators
from kernels_bench.records.cases import Device
from kernels_bench.relations import relations

LONGEST_NAME = 100
"""Bytes of an arm's name, of which files are called."""


def load_plugin(path: str) -> Arm:
    """The ``ARM`` of a user's file.

    Raises:
        PluginError: the file is missing, does not import, or offers no usable ``ARM``.
    """
    if not os.path.isfile(path):  # which no name can upset
        raise PluginError(f"plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location("samebits_plugin_" + Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    _find_siblings(Path(path))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a user's file may raise anything, SystemExit too
        raise PluginError(f"plugin {path} does not import: {told(error, path)}") from error
    arm = getattr(module, "ARM", None)
    if not isinstance(arm, Arm):
        raise PluginError(f"plugin {path} has no ARM: end it with ARM = Arm(name=…, kernels=lambda: {{…}})")
    if wrong := next(_wrong_fields(arm), None):
        raise PluginError(f"plugin {path}: {wrong}")
    return arm


def _find_siblings(plugin: Path) -> None:
    """Let a plugin import what lies in the current directory, or beside it, though nothing of ours is looked for there.

    The current directory goes first, as in every ``python -m``; by now the modules that this process needs are loaded.
    """
    here, beside = os.getcwd(), str(plugin.resolve().parent)
    sys.path[:] = [here, *(place for place in sys.path if place != here)]
    if beside not in sys.path:
        sys.path.append(beside)


def kernels_of(arm: Arm) -> Mapping[str, Kernel]:
    """An arm's kernels, loaded.

    Raises:
        PluginError: it gives something else than functions by operator; under another name no kernel is ever called.
    """
    kernels: Any = arm.kernels()
    if not isinstance(kernels, Mapping):
        raise PluginError(f"kernels() gives {kernels!r}: expected kernels by operator, such as {{'mm': my_mm}}")
    if wrong := next(_unknown_names("kernels()", kernels, "operator", operators()), None):
        raise PluginError(wrong)
    if (name := next((name for name, kernel in kernels.items() if not callable(kernel)), None)) is not None:
        raise PluginError(f"kernels() gives {kernels[name]!r} for {name}: expected a function")
    return kernels


def said_by(arm: Arm, callback: str, *arguments: Device) -> str:
    """What one of an arm's callbacks says, or nothing.

    Raises:
        PluginError: it raises something, or gives no text.
    """
    asked = getattr(arm, callback)
    try:
        said = asked(*arguments)
    except BaseException as error:  # SystemExit too, as in a plugin's import
        code = getattr(asked, "__code__", None)
        raise PluginError(f"{callback} raises {told(error, code.co_filename if code else '')}") from error
    if said is not None and not isinstance(said, str):
        raise PluginError(f"{callback} gives {said!r} instead of a text")
    return said or ""


def _can_be_set(environment: Any) -> bool:
    """Whether a process can have such an environment."""
    if not isinstance(environment, Mapping) or not all(isinstance(text, str) for text in environment.values()):
        return False
    names = all(isinstance(name, str) and name and not {*name} & {"=", "\0"} for name in environment)
    return names and not any("\0" in text for text in environment.values())


def _is_precision(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("", *STATED_PRECISIONS)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


_CALLBACK: tuple[Callable[[Any], bool], str] = (callable, "a function")
_PLAIN_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "kernels": _CALLBACK,
    "summary": (lambda value: isinstance(value, str), "a text"),
    "environment": (_can_be_set, 'texts by name, such as {"MY_SWITCH": "1"}'),
    "unavailable": _CALLBACK,
    "provenance": _CALLBACK,
    "caveat": _CALLBACK,
    "compiles": (lambda value: isinstance(value, bool), "True or False"),
    "precision": (_is_precision, f"one of {', '.join(STATED_PRECISIONS)}, or a unit roundoff below 1"),
}


def _wrong_fields(arm: Arm) -> Iterator[str]:
    """What is wrong with the fields of a user's arm, whose types nobody has checked."""
    given: dict[str, Any] = vars(arm)
    name = given["name"]
    if not isinstance(name, str) or not name or set(name) & set("/,: ") or not name.isprintable():
        yield f"the arm's name {name!r} must be one word without '/', ',' or ':', all of it printable"
    elif len(name.encode()) > LONGEST_NAME:
        yield f"the arm's name has {len(name.encode())} bytes: expected at most {LONGEST_NAME}"
    for plain, (fits, expected) in _PLAIN_FIELDS.items():
        if not fits(given[plain]):
            yield f"{plain} is {given[plain]!r}: expected {expected}"
    if not isinstance(given["claims"], bool):
        yield from _wrong_names("claims", given["claims"], "relation", relations())
    if given["offers"] is not None:
        yield from _wrong_names("offers", given["offers"], "operator", operators())
    for some in ("default_for", "brief"):
        yield from _wrong_names(some, given[some], "operator", operators())


def _wrong_names(what: str, names: Any, kind: str, known: Mapping[str, object]) -> Iterator[str]:
    """A text is a collection too, of letters: of one in parentheses the comma was forgotten."""
    if isinstance(names, str) or not isinstance(names, Collection):
        example = names if isinstance(names, str) and names in known else next(iter(known))
        yield f"{what} is {names!r}: expected a tuple of {kind}s, such as {what}=({example!r},)"
    else:
        yield from _unknown_names(what, names, kind, known)


def _unknown_names(what: str, names: Collection[Any], kind: str, known: Mapping[str, object]) -> Iterator[str]:
    for name in names:
        if name not in [*known]:
            yield f"{what} names {name!r}, which is no {kind}{suggestion(str(name), known, most=1)}"
