"""How long a GPU computes, beside how long is waited for it: no kernel takes longer since its host was late."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_BUSY = ("kernel", "gpu_memcpy", "gpu_memset")
"""What torch's profiler calls the work of a GPU; it has spans of other kinds there, which only name others."""

Span = tuple[int, int]
"""Where something begins and ends, in nanoseconds."""


def gpu_seconds(generate: Callable[[], object]) -> float | None:
    """Seconds in which some kernel or copy ran on the GPU while this was done once, under torch's profiler.

    Times between kernels are not counted, and kernels at the same time are counted once.  What is recorded takes
    longer, so that nothing else is timed meanwhile.

    Args:
        generate: does it; it is not called where there is no GPU.

    Returns:
        None where there is no GPU, or this process gives it no work, such as where an engine has processes of its own.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        generate()
        torch.cuda.synchronize()
    busy = covered(spans_of(recorded))
    return busy / 1e9 if busy else None


def spans_of(recorded: Any) -> list[Span]:
    """The spans of a GPU's work.

    Args:
        recorded: a ``torch.profiler.profile`` that has ended.
    """
    events = recorded.profiler.kineto_results.events()
    return [(one.start_ns(), one.start_ns() + one.duration_ns()) for one in events if _is_busy(one)]


def _is_busy(event: Any) -> bool:
    """Whether a GPU worked; before torch 2.13 an event has no kind, and annotations alone are set apart."""
    if (kind := getattr(event, "activity_type", None)) is not None:
        return kind() in _BUSY
    return event.device_type().name != "CPU" and not event.is_user_annotation()


def covered(spans: Iterable[Span]) -> int:
    """Nanoseconds in which at least one of the spans lies."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
