"""``python -m profiles.capture.torch_program PROGRAM…``: a Python program with torch's profiler around it.

Takes what stands after the name of the interpreter: a file, ``-m MODULE`` or ``-c CODE``, and its arguments.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from profiles.errors import ReportError
from profiles.instruments.torch_ranges import VARIABLE, asked_for, recorder
from profiles.invocation import foreign, import_path

WHOLE = "program"
"""The range around a program that is recorded as a whole."""

# Their own processes announce ranges, and by these they are recorded: the parent has nothing to record.
_ANNOUNCING = ("kernels_bench", "e2e")
_WITH_VALUE = ("-X", "-W")


def recorded_command(command: Sequence[str]) -> list[str]:
    """How a command is started so that torch's profiler records it.

    Raises:
        ReportError: Python would read its program from standard input.
    """
    if not Path(command[0]).name.startswith("python"):
        return list(command)
    options = _options(command[1:])
    program = list(command[1 + len(options) :])
    if not program or program[0] == "-":
        raise ReportError("--collector torch needs a program: python FILE, python -m MODULE or python -c CODE")
    if program[0] == "-m" and program[1:2] and program[1].split(".")[0] in _ANNOUNCING:
        return list(command)
    # Not from the current directory, where another `profiles` may lie; the program itself looks there as ever.
    return [command[0], *options, "-P", "-m", "profiles.capture.torch_program", *program]


def _options(words: Sequence[str]) -> list[str]:
    """The interpreter's own options at the beginning."""
    found: list[str] = []
    rest = iter(words)
    for word in takewhile(lambda word: word.startswith("-") and word not in ("-", "-m", "-c"), rest):
        found.append(word)
        if word in _WITH_VALUE:
            found += [next(rest, "")]
    return found


def recording_environment(folder: Path) -> dict[str, str]:
    """The environment of a command that is recorded into a folder."""
    # The profiler reports every start and stop otherwise.
    quiet = {"KINETO_LOG_LEVEL": "99"}
    return {**quiet, **os.environ, VARIABLE: str(folder.resolve()), **import_path()}


def main() -> None:
    """Run the program that the command line names."""
    folder = asked_for()
    assert folder is not None, f"{VARIABLE} is not set"
    words = sys.argv[1:]
    recording = recorder(folder)
    recording.push(WHOLE)
    try:
        _run(words)
    finally:
        recording.pop()


def _run(words: Sequence[str]) -> None:
    if words[0] == "-m":
        sys.argv = list(words[1:])
        _look_first(os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        _look_first("")
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        _look_first(str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


def _look_first(place: str) -> None:
    """Look for the program's modules where Python would; a ``profiles`` of its own takes the place of ours."""
    sys.path.insert(0, place)
    if foreign("profiles") is not None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "profiles"]:
            del sys.modules[name]


if __name__ == "__main__":
    main()
