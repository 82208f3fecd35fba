"""NVTX ranges that a profiler can select by domain, category and message.

Messages are registered strings, which `nsys profile --capture-range=nvtx` needs. Without a profiler, or
without the `nvtx` package, a range is a shared no-op of about 0.3 µs. Where `profiles capture --collector torch` asks
for it, ranges go to torch's profiler instead; where torch_npu is installed they go to msprof.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from profiles.installing import pip_install
from profiles.instruments.mstx_ranges import MstxDomain, torch_npu_is_here
from profiles.instruments.torch_ranges import TorchDomain, asked_for, recorder

_NO_RANGE = nullcontext()


class RangesNotRecorded(RuntimeError):  # noqa: N818 - it reads as the fact it states
    """Nsight Systems runs this process but would receive none of its ranges; the message names the remedy."""


class _Domain(Protocol):
    """The part of `nvtx.Domain` that is used; it is the same from nvtx 0.2.12 to 0.2.17, and `_Earlier` before."""

    def get_event_attributes(self, *, message: str, category: str | None, payload: int | None) -> Any: ...

    def push_range(self, attributes: Any) -> None: ...

    def pop_range(self) -> None: ...


class _Earlier:
    """A domain of nvtx before 0.2.12, in which functions of the package do what domains themselves do later.

    Nsight Systems up to 2024.2 records nothing of later ones.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def get_event_attributes(self, *, message: str, category: str | None, payload: int | None) -> Any:
        return {"message": message, "category": category, "payload": payload}

    def push_range(self, attributes: Any) -> None:
        import nvtx

        nvtx.push_range(domain=self._name, **attributes)

    def pop_range(self) -> None:
        import nvtx

        nvtx.pop_range(domain=self._name)


class Ranges:
    """The NVTX ranges of one domain.

    Args:
        domain: The name under which a profiler selects the ranges, as in
            `nsys profile --capture-range=nvtx --nvtx-capture=message@domain`.

    Raises:
        RangesNotRecorded: Nsight Systems runs this process but nvtx would silently record nothing.
            `NVTX_DISABLE=1` says that this is intended.
    """

    def __init__(self, domain: str) -> None:
        self._domain = _recording_domain(domain)

    @property
    def recorded(self) -> bool:
        """Whether a profiler receives the ranges."""
        return self._domain is not None

    def range(
        self, message: str, *, category: str | None = None, payload: int | None = None
    ) -> AbstractContextManager[None]:
        """A range around the body of a `with`, ended also by an exception.

        Ranges nest, and belong to the thread that enters them.

        Args:
            message: What the range measures. nvtx keeps every distinct message until the process ends.
            category: The group of ranges within the domain that this one belongs to.
            payload: A signed 64-bit number kept beside the message (`int64Value` in an nsys export).

        Raises:
            OverflowError: The payload does not fit into 64 bits (seen only while recording).
        """
        if self._domain is None:
            return _NO_RANGE
        attributes = self._domain.get_event_attributes(message=message, category=category, payload=payload)
        return _Range(self._domain, attributes)


class _Range:
    """One range, pushed on entry and popped on exit."""

    __slots__ = ("_attributes", "_domain")

    def __init__(self, domain: _Domain, attributes: Any) -> None:
        self._domain = domain
        self._attributes = attributes

    def __enter__(self) -> None:
        self._domain.push_range(self._attributes)

    def __exit__(self, *_: object) -> None:
        self._domain.pop_range()


def under_nsys() -> bool:
    """Whether Nsight Systems runs this process."""
    return "NSYS_PROFILING_SESSION_ID" in os.environ


def _recording_domain(name: str) -> _Domain | None:
    """The domain, or None if nothing records it.

    Raises:
        RangesNotRecorded: Nsight Systems expects ranges that it would not get.
    """
    folder = asked_for()
    if folder is not None:
        return TorchDomain(name, recorder(folder))
    if torch_npu_is_here():
        return MstxDomain(name)
    return _nvtx_domain(name)


def _nvtx_domain(name: str) -> _Domain | None:
    """nvtx's domain, or None if no tool listens.

    Raises:
        RangesNotRecorded: as `_recording_domain`.
    """
    try:
        import nvtx
    except ImportError:
        if under_nsys():
            raise RangesNotRecorded(f"nsys would see no range: nvtx is missing: {pip_install('nvtx')}") from None
        return None
    if not nvtx.enabled():
        return None
    if not hasattr(nvtx, "Domain"):  # nor can it tell whether any tool listens
        return _Earlier(name) if under_nsys() else None
    # Without a tool that listens, nvtx gives a DummyDomain instead.
    domain = nvtx.get_domain(name)
    if isinstance(domain, nvtx.Domain):
        recording: _Domain = domain
        return recording
    if under_nsys():
        raise RangesNotRecorded(
            "nsys would see no range: nvtx >= 0.2.12 records nothing under nsys 2022.4-2024.2 (use nsys 2025 "
            "or newer, or nvtx < 0.2.12), and none does without `nsys profile --trace=cuda,nvtx`; "
            "NVTX_DISABLE=1 goes on without ranges"
        )
    return None
