"""Arms and operators from a user's file, checked at the border."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels_bench.arms.base import STATED_PRECISIONS, Arm, Candidate, Kernel
from kernels_bench.console.mistakes import PluginError, told
from kernels_bench.console.text import suggestion
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.defined import OWN_FAMILY, DefinedOperator
from kernels_bench.records.cases import DTYPES, Device
from kernels_bench.records.definition import DefinitionError
from kernels_bench.relations import relations

LONGEST_NAME = 100
"""Bytes of an arm's name, of which files are called."""


@dataclass(frozen=True)
class Plugin:
    """What a user's file offers.

    Attributes:
        path: as typed: the file, or ``FILE:OPERATOR=FUNCTION`` for one function of it.
        arms: its ``ARM`` or ``ARMS``, or one made of the function.
        operators: those that it defines or imports, by name.
    """

    path: str
    arms: tuple[Arm, ...]
    operators: Mapping[str, DefinedOperator]

    def arm(self, name: str) -> Arm:
        """One of its arms, by its name where there are several.

        Raises:
            PluginError: it has none of that name, as where the file was changed since it was listed.
        """
        if len(self.arms) == 1:
            return self.arms[0]
        found = next((arm for arm in self.arms if arm.name == name), None)
        if found is None:
            raise PluginError(f"plugin {self.path} has no arm {name!r}")
        return found

    def refuse_wrong_references(self) -> None:
        """See that references of its operators give what was said of them; needs torch.

        Raises:
            PluginError: one does not.
        """
        for operator in self.operators.values():
            try:
                operator.refuse_wrong_reference()
            except DefinitionError as error:
                raise PluginError(f"plugin {self.path}: {error}") from error
            except Exception as error:
                raised = told(error, file_of(self.path))
                raise PluginError(
                    f"plugin {self.path}: operator {operator.name!r}: its reference raises {raised}"
                ) from error


_FUNCTION = re.compile(r"(?P<file>.+):(?P<operator>[^:=]+)=(?P<function>\w+)")


def file_of(plugin: str) -> str:
    """The file of a plugin as it is typed."""
    named = _FUNCTION.fullmatch(plugin)
    return named["file"] if named is not None else plugin


def load_plugin(path: str) -> Plugin:
    """What a user's file offers; of ``FILE:OPERATOR=FUNCTION`` an arm that is made of one of its functions.

    Raises:
        PluginError: the file is missing, does not import, or offers no usable arm.
    """
    named = _FUNCTION.fullmatch(path)
    module = _imported(path, file_of(path))
    found = {id(value): value for value in vars(module).values() if isinstance(value, DefinedOperator) and value.own}
    plugin = Plugin(path, (), {one.name: one for one in found.values()})
    known = with_plugins([plugin])
    offered = _arms_of(path, module, plugin) if named is None else (_made_of(path, module, known, named),)
    for arm in offered:
        if wrong := next(_wrong_fields(arm, known), None):
            raise PluginError(f"plugin {path}: {wrong}")
    return replace(plugin, arms=tuple(offered))


def with_plugins(plugins: Sequence[Plugin]) -> dict[str, Operator]:
    """Every operator by name: ours, then those of some plugins.

    Raises:
        PluginError: a plugin's has a name that is taken.
    """
    ours = operators()
    families = {OWN_FAMILY, *(operator.family or _file_name(operator) for operator in ours.values())}
    own: dict[str, DefinedOperator] = {}
    for plugin in plugins:
        for name, operator in plugin.operators.items():
            kind = "an operator" if name in ours else "a family of operators" if name in families else ""
            other = own.setdefault(name, operator)
            if not kind and other.definition != operator.definition:
                kind = "an operator"
            if kind:
                raise PluginError(f"plugin {plugin.path}: there is {kind} {name!r} already; choose another name")
    return {**ours, **own}


def _file_name(operator: Operator) -> str:
    return type(operator).__module__.rpartition(".")[2]


def _imported(path: str, file: str) -> ModuleType:
    if not os.path.isfile(file):  # which no name can upset
        raise PluginError(f"plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location("samebits_plugin_" + Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    _find_siblings(Path(file))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a user's file may raise anything, SystemExit too
        raise PluginError(f"plugin {path} does not import: {told(error, file)}") from error
    return module


def _arms_of(path: str, module: ModuleType, plugin: Plugin) -> tuple[Arm, ...]:
    """A file's ``ARM`` or ``ARMS``; one that defines operators need not have any."""
    single, several = getattr(module, "ARM", None), getattr(module, "ARMS", None)
    offered = (single,) if several is None else several
    if single is None and several is None and plugin.operators:
        return ()
    if not isinstance(offered, Sequence) or not offered or not all(isinstance(arm, Arm) for arm in offered):
        raise PluginError(
            f"plugin {path} has no ARM: end it with ARM = Arm(name=…, kernels=lambda: {{…}}), "
            f"or name one of its functions: --plugin {path}:OPERATOR=FUNCTION"
        )
    return tuple(offered)


def _made_of(path: str, module: ModuleType, known: Mapping[str, object], named: re.Match[str]) -> Arm:
    operator, name = named["operator"], named["function"]
    if operator not in known:
        raise PluginError(f"plugin {path}: there is no operator {operator!r}{suggestion(operator, known)}")
    kernel = getattr(module, name, None)
    if not callable(kernel):
        raise PluginError(f"plugin {path}: {named['file']} has no function {name!r}")
    return Arm(name=name, kernels=lambda: {operator: kernel}, offers=(operator,), summary=f"{name} of {named['file']}")


def _find_siblings(plugin: Path) -> None:
    """Let a plugin import what lies in the current directory, or beside it, though nothing of ours is looked for there.

    The current directory goes first, as in every ``python -m``; by now the modules that this process needs are loaded.
    """
    here, beside = os.getcwd(), str(plugin.resolve().parent)
    sys.path[:] = [here, *(place for place in sys.path if place != here)]
    if beside not in sys.path:
        sys.path.append(beside)


def kernels_of(arm: Arm, known: Mapping[str, Operator] | None = None) -> Mapping[str, Kernel]:
    """An arm's kernels, loaded, for operators that are known; by default ours.

    Raises:
        PluginError: it gives something else than functions by operator; under another name no kernel is ever called.
    """
    return _checked(arm.kernels(), known or operators())


def candidate_kernels_of(arm: Arm, label: str, device: Device, known: Mapping[str, Operator]) -> Mapping[str, Kernel]:
    """The kernels of one of an arm's candidates, loaded.

    Raises:
        PluginError: it has none of that label, as where the file was changed since it was listed, or as `kernels_of`.
    """
    found = arm.candidates(device).get(label)
    if found is None:
        raise PluginError(f"arm {arm.name} has no candidate {label!r}")
    return _checked(found.kernels(), known)


def _checked(kernels: Any, known: Mapping[str, Operator]) -> Mapping[str, Kernel]:
    if not isinstance(kernels, Mapping):
        raise PluginError(f"kernels() gives {kernels!r}: expected kernels by operator, such as {{'mm': my_mm}}")
    if wrong := next(_unknown_names("kernels()", kernels, "operator", known), None):
        raise PluginError(wrong)
    if (name := next((name for name, kernel in kernels.items() if not callable(kernel)), None)) is not None:
        raise PluginError(f"kernels() gives {kernels[name]!r} for {name}: expected a function")
    checked: Mapping[str, Kernel] = kernels
    return checked


_LABEL = re.compile(r"[A-Za-z0-9_.+-]{1,60}")


def candidates_of(arm: Arm, device: Device) -> Mapping[str, Candidate]:
    """An arm's candidates on a device.

    Raises:
        PluginError: it gives something else, or raises something.
    """
    try:
        found: Any = arm.candidates(device)
    except BaseException as error:  # SystemExit too, as in a plugin's import
        code = getattr(arm.candidates, "__code__", None)
        raise PluginError(f"candidates raises {told(error, code.co_filename if code else '')}") from error
    if not isinstance(found, Mapping) or not all(isinstance(one, Candidate) for one in found.values()):
        raise PluginError(f"candidates gives {found!r}: expected a Candidate for each label")
    for label, one in found.items():
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise PluginError(
                f"a candidate's label is {label!r}: expected at most 60 letters, digits and any of _ . + -"
            )
        if wrong := next(_wrong_candidate(label, one), None):
            raise PluginError(wrong)
    checked: Mapping[str, Candidate] = found
    return checked


def _wrong_candidate(label: str, candidate: Candidate) -> Iterator[str]:
    given: dict[str, Any] = vars(candidate)
    for field in ("offers", "dtypes"):
        value = given[field]
        if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(v, str) for v in value):
            yield f"candidate {label}: {field} is {value!r}: expected a tuple of names"
    if unknown := next((name for name in given["dtypes"] if name not in DTYPES), None):
        yield f"candidate {label}: dtypes names {unknown!r}: expected some of {', '.join(DTYPES)}"
    if not isinstance(given["order"], str):
        yield f"candidate {label}: order is {given['order']!r}: expected a text"
    if not callable(given["kernels"]):
        yield f"candidate {label}: kernels is {given['kernels']!r}: expected a function"


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
    "candidates": _CALLBACK,
    "lacking": _CALLBACK,
    "compiles": (lambda value: isinstance(value, bool), "True or False"),
    "precision": (_is_precision, f"one of {', '.join(STATED_PRECISIONS)}, or a unit roundoff below 1"),
}


def _wrong_fields(arm: Arm, known: Mapping[str, Operator]) -> Iterator[str]:
    """What is wrong with the fields of a user's arm, whose types nobody has checked."""
    given: dict[str, Any] = vars(arm)
    name = given["name"]
    if not isinstance(name, str) or not name or set(name) & set("/,:[] ") or not name.isprintable():
        yield f"the arm's name {name!r} must be one word without '/', ',', ':', '[' or ']', all of it printable"
    elif len(name.encode()) > LONGEST_NAME:
        yield f"the arm's name has {len(name.encode())} bytes: expected at most {LONGEST_NAME}"
    for plain, (fits, expected) in _PLAIN_FIELDS.items():
        if not fits(given[plain]):
            yield f"{plain} is {given[plain]!r}: expected {expected}"
    if not isinstance(given["claims"], bool):
        yield from _wrong_names("claims", given["claims"], "relation", relations())
    if given["offers"] is not None:
        yield from _wrong_names("offers", given["offers"], "operator", known)
    for some in ("default_for", "brief"):
        yield from _wrong_names(some, given[some], "operator", known)


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
