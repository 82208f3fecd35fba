"""Ranges for msprof and torch_npu's profiler, on machines with an Ascend NPU, by way of ``torch_npu.npu.mstx``.

They are begun on the current stream, so that a profiler times them on the device too; without a profiler they are lost.
So are those of a process that has not loaded torch_npu, and that shall not for their sake.
Written to torch_npu 2.14's sources; not run, for want of an NPU.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any


def torch_npu_is_here() -> bool:
    """Whether torch_npu is installed; it is not imported for that."""
    return importlib.util.find_spec("torch_npu") is not None


class MstxDomain:
    """Ranges of one domain; what `nvtx.Domain` is for nsys."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._of_thread = threading.local()

    def get_event_attributes(self, *, message: str, category: str | None, payload: int | None) -> str:
        """The message; mstx keeps no more of a range."""
        return message

    def push_range(self, attributes: str) -> None:
        """Enter a range."""
        loaded: Any = sys.modules.get("torch_npu")
        if loaded is None:
            self._open().append(None)
            return
        begun = loaded.npu.mstx.range_start(attributes, loaded.npu.current_stream(), domain=self._name)
        self._open().append(begun)

    def pop_range(self) -> None:
        """Leave the last range that this thread entered."""
        begun = self._open().pop()
        if begun is not None:
            sys.modules["torch_npu"].npu.mstx.range_end(begun, self._name)

    def _open(self) -> list[Any]:
        if not hasattr(self._of_thread, "ranges"):
            self._of_thread.ranges = []
        found: list[Any] = self._of_thread.ranges
        return found
