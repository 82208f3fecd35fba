"""What a call launches, by PyTorch's profiler: on a GPU its kernels, on a CPU the operator that took most time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

_CALL = "samebits: the saved call"


def marked() -> AbstractContextManager[Any]:
    """What the profiler is to tell apart from what is done around it."""
    import torch

    marker: AbstractContextManager[Any] = torch.profiler.record_function(_CALL)
    return marker


def launched_by(run: Callable[[], object]) -> tuple[str, ...]:
    """Names of what is launched within `marked`, in order; empty where the profiler tells none.

    Args:
        run: makes the call.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as found:
        run()
        if gpu:
            torch.cuda.synchronize()
    calls = [one for one in found.events() or () if one.name == _CALL and one.device_type.name == "CPU"]
    return tuple(name for one in calls for name in (_kernels(one) if gpu else _longest(one)))


def _kernels(event: Any) -> Iterator[str]:
    """The kernels of an event and of all within it."""
    for kernel in event.kernels:
        yield kernel.name
    for child in event.cpu_children:
        yield from _kernels(child)


def _longest(event: Any) -> Iterator[str]:
    """The one of all operators within an event that took most time by itself."""
    within = list(_within(event))
    if within:
        yield max(within, key=lambda one: one.self_cpu_time_total).name


def _within(event: Any) -> Iterator[Any]:
    for child in event.cpu_children:
        yield child
        yield from _within(child)
