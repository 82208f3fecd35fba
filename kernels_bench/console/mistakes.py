"""A mistake in a file that was added, on one line: what is wrong, in which line of it, and what is expected there."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pydantic import ValidationError

from kernels_bench.console.text import first_line, printable
from profiles.errors import CommandError, ExitStatus


class PluginError(CommandError):
    """A plugin, or a file of our folders, that cannot be used; the message says why."""

    status = ExitStatus.INCOMPLETE  # where it ends a command it lies in a file of ours; workers tell of users' own


def told(error: BaseException, file: str) -> str:
    """An error that came out of a file, in one line."""
    file = os.path.abspath(file)
    if isinstance(error, SyntaxError) and error.filename == file:
        return _placed(f"{type(error).__name__}: {error.msg}", error.lineno or 1, error.text or "")
    what = _problems(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {first_line(error)}"
    inside = [(frame, number) for frame, number in _frames(error) if frame.f_code.co_filename == file]
    if not inside:
        return what
    frame, number = inside[-1]
    line = _source(file, number)
    expected = _expected(line, frame) if isinstance(error, (TypeError, ValidationError)) else ""
    return _placed(what, number, line) + expected


def _placed(what: str, number: int, line: str) -> str:
    shown = printable(line)
    return f"{what}, in line {number}" + (f" ({shown})" if shown else "")


def _problems(error: ValidationError) -> str:
    each = (f"{'.'.join(map(str, one['loc']))}: {printable(one['msg'])}" for one in error.errors())
    return f"{error.title} cannot be made: {'; '.join(each)}"


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame, step.tb_lineno
        step = step.tb_next


def _source(file: str, number: int) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.read().splitlines()[number - 1].strip()
    except (OSError, IndexError):
        return ""


def _expected(line: str, frame: FrameType) -> str:
    """How the first class that a line calls is to be called, as the end of a sentence."""
    names: dict[str, Any] = {**frame.f_globals, **frame.f_locals}
    made = (names.get(name) for name in re.findall(r"(\w+)\(", line))
    found = next((one for one in made if inspect.isclass(one) and one.__module__.startswith("kernels_bench.")), None)
    if found is None:
        return ""
    fields = inspect.signature(found).parameters.values()
    needed = ", ".join(f"{field.name}=\N{HORIZONTAL ELLIPSIS}" for field in fields if field.default is field.empty)
    further = ", ".join(field.name for field in fields if field.default is not field.empty)
    return f"; expected {found.__name__}({needed})" + (f" and, where wanted, {further}" if further else "")
