"""torch's own profiler inside a process: what `profiles capture --collector torch` asks for by `VARIABLE`.

A trace is written whenever the outermost range ends, since nobody knows whether the process will be allowed to end in
peace: kernels_bench kills its workers.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "SAMEBITS_TORCH_TRACES"
"""Names the directory into which this process and its children write their traces."""

DOMAIN_MARK = "@"
"""Between a range's message and its domain, in the names that torch gets."""


def asked_for(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where traces are to be written, None where nobody wants any."""
    return Path(environment[VARIABLE]) if environment.get(VARIABLE) else None


class TorchDomain:
    """Ranges of one domain as torch's profiler gets them; what `nvtx.Domain` is for nsys."""

    def __init__(self, name: str, recorder: Recorder) -> None:
        self._name, self._recorder = name, recorder

    def get_event_attributes(self, *, message: str, category: str | None, payload: int | None) -> str:
        """The range's name; torch keeps no more of it."""
        return f"{message}{DOMAIN_MARK}{self._name}"

    def push_range(self, attributes: str) -> None:
        """Enter a range."""
        self._recorder.push(attributes)

    def pop_range(self) -> None:
        """Leave the last range entered."""
        self._recorder.pop()


class Recorder:
    """The profiler of one process, started by its first range.

    Args:
        folder: where traces are written, one for each outermost range.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profiler: Any = None
        self._open: list[Any] = []
        self._written = 0
        self._thread = threading.get_ident()
        self._before: list[Callable[[], None]] = []
        atexit.register(self._write)

    def push(self, name: str) -> None:
        """Enter a range; other threads' ranges are not recorded."""
        if threading.get_ident() != self._thread:
            return
        from torch.profiler import record_function  # a process without ranges stays without torch

        if self._profiler is None:
            self._profiler = _started()
        entered = record_function(name)
        entered.__enter__()
        self._open.append(entered)

    def pop(self) -> None:
        """Leave the last range entered, and write the trace if it was the outermost."""
        if threading.get_ident() != self._thread or not self._open:
            return
        self._open.pop().__exit__(None, None, None)
        if not self._open:
            self._write()

    def before_writing(self, call: Callable[[], None]) -> None:
        """Have something called whenever a trace is about to be written, such as what has other processes write theirs.

        Args:
            call: raises nothing.
        """
        self._before.append(call)

    def _write(self) -> None:
        if self._profiler is None:
            return
        for call in self._before:
            call()
        while self._open:
            self._open.pop().__exit__(None, None, None)
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self._written += 1
        # Written under another name first: a process that is killed leaves no half of a trace.
        partial = self._folder / f"{os.getpid()}-{self._written}.partial"
        profiler.export_chrome_trace(str(partial))
        partial.rename(partial.with_suffix(".json"))


def _started() -> Any:
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities)
    profiler.start()
    return profiler


_recorders: dict[int, Recorder] = {}


def recorder(folder: Path) -> Recorder:
    """This process's only one; a forked child has its own."""
    if os.getpid() not in _recorders:
        _recorders[os.getpid()] = Recorder(folder)
    return _recorders[os.getpid()]
