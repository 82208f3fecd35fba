"""Graphs, CUDA's and ACL's: launches captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from kernels_bench.console.text import first_line
from kernels_bench.device.errors import is_out_of_memory
from kernels_bench.device.kinds.known import accelerator

T = TypeVar("T")


class NotCapturable(RuntimeError):  # noqa: N818 - a finding about the kernel, not an error of ours
    """A kernel does something that a graph cannot hold; device and memory are as they were before."""


def capture_graph(body: Callable[[], T], warm_up: Callable[[], object] | None = None) -> tuple[Any, T]:
    """Capture ``body``, after running ``warm_up`` (or itself) once to load and compile what it needs.

    What ``torch.cuda.graph`` does, but for emptying the allocator's cache every time: that takes longer than all the
    rest, and the memory of graphs that are gone stays in the cache until somebody does.

    Raises:
        NotCapturable: ``body`` does something that a graph cannot hold.
        RuntimeError: torch's, where there was too little memory or the device is lost.
    """
    device = accelerator()
    side = device.api.Stream()
    side.wait_stream(device.api.current_stream())
    with device.on(side):
        (warm_up or body)()
    device.synchronise()
    graph, pool = device.new_graph(), device.api.graph_pool_handle()
    try:
        with device.on(side):
            return graph, _captured(body, graph, pool)
    except BaseException as error:
        device.forget_capture(pool)
        if not isinstance(error, RuntimeError) or is_out_of_memory(error):
            raise
        device.synchronise()  # raises again if the device itself is lost
        raise NotCapturable(first_line(error)) from error


def _captured(body: Callable[[], T], graph: Any, pool: Any) -> T:
    """What ``body`` returned while it was captured in the current stream."""
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        result = body()
    except BaseException:
        with suppress(RuntimeError):  # says only that there was an error, which goes on to the caller
            graph.capture_end()
        raise
    graph.capture_end()
    return result
