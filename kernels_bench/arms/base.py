"""The contract between an arm and everything that knows no arm by name."""

from __future__ import annotations

import importlib.util
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kernels_bench.console.mistakes import PluginError, told
from kernels_bench.discovery import offering
from kernels_bench.operators import operators
from kernels_bench.records.cases import Claims, Device, suggestion
from kernels_bench.relations import relations

Kernel = Callable[..., Any]
"""Takes an operator's arguments in the operator's order; a kernel that can give a result of another dtype than
its inputs' takes it as the keyword ``out_dtype``."""


class PreparedKernel(ABC):
    """A kernel of which a part is done once a step for all layers, such as scheduling or masks: not timed."""

    def __call__(self, *arguments: Any) -> Any:
        """All of it, as it is verified."""
        return self.prepare(*arguments)()

    @abstractmethod
    def prepare(self, *arguments: Any) -> Callable[[], Any]:
        """Do that part, and return the rest as a function of nothing."""


def prepared(kernel: Kernel, arguments: Sequence[Any]) -> Callable[[], Any]:
    """The kernel's call on some arguments, as it is timed.

    Of one that has a method ``prepare``, such as a `PreparedKernel`, what that does is outside.
    """
    prepare = getattr(kernel, "prepare", None)
    call: Callable[[], Any] = prepare(*arguments) if prepare is not None else partial(kernel, *arguments)
    return call


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a kernel for what it does not offer; the case ends as ``unsupported(reason)``."""


def _nothing() -> str:
    return ""


def _available(device: Device) -> str | None:
    return None


def _no_caveat(device: Device) -> str:
    return ""


@dataclass(frozen=True)
class Arm:
    """One implementation of some operators, run in a process of its own.

    Attributes:
        name: as users type it.
        kernels: called once in the arm's process; gives a kernel for each operator that the arm offers.
        claims: the relations that the arm says of itself it keeps, so that to break them is a failure: all of them,
            none, or those named.
        summary: one line for ``--list``.
        environment: set in the arm's process before anything is imported.
        unavailable: why the arm cannot run on a device, or None; called without loading the arm.
        provenance: which version and path was used; called after `kernels`.
        caveat: what a reader of this arm's results on a device must know, or nothing.
        compiles: kernels are compiled for a GPU when they are first used, so that a second process saves time.
        offers: operators that it has; None where that is known only once it is loaded.
        default_for: operators of which it is the default kernel, that the others' speeds are compared with; of
            operators that no arm names it is ``torch``.
        brief: operators over which it takes long: they are measured at the first shape and precision only, unless
            shapes are asked for, and in a short run not at all, unless the arm is.
    """

    name: str
    kernels: Callable[[], Mapping[str, Kernel]]
    claims: bool | Collection[str] = True
    summary: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    unavailable: Callable[[Device], str | None] = _available
    provenance: Callable[[], str] = _nothing
    caveat: Callable[[Device], str] = _no_caveat
    compiles: bool = False
    offers: Collection[str] | None = None
    default_for: Collection[str] = ()
    brief: Collection[str] = ()


def claims_of(arm: Arm) -> Claims:
    """The relations that an arm says of itself it keeps, as records hold them."""
    return arm.claims if isinstance(arm.claims, bool) else tuple(arm.claims)


def arms() -> dict[str, Arm]:
    """The arms that come with samebits: ``torch``, which the others are compared with, then in the order of names."""
    files = offering(__package__, "ARM", "ARMS")
    found = [arm for file in files for arm in (getattr(file, "ARMS", None) or (file.ARM,))]
    return {arm.name: arm for arm in sorted(found, key=lambda arm: (arm.name != "torch", arm.name))}


def load_plugin(path: str) -> Arm:
    """The ``ARM`` of a user's file.

    Raises:
        PluginError: the file is missing, does not import, or offers no usable ``ARM``.
    """
    if not Path(path).is_file():
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


_CALLBACK: tuple[Callable[[Any], bool], str] = (callable, "a function")
_PLAIN_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "kernels": _CALLBACK,
    "summary": (lambda value: isinstance(value, str), "a text"),
    "environment": (_can_be_set, 'texts by name, such as {"MY_SWITCH": "1"}'),
    "unavailable": _CALLBACK,
    "provenance": _CALLBACK,
    "caveat": _CALLBACK,
    "compiles": (lambda value: isinstance(value, bool), "True or False"),
}


def _wrong_fields(arm: Arm) -> Iterator[str]:
    """What is wrong with the fields of a user's arm, whose types nobody has checked."""
    given: dict[str, Any] = vars(arm)
    name = given["name"]
    if not isinstance(name, str) or not name or set(name) & set("/,: \t\n"):
        yield f"the arm's name {name!r} must be one word without '/', ',' or ':'"
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
