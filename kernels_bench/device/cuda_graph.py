"""CUDA graphs: launches captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import torch

from kernels_bench.console.text import first_line
from kernels_bench.device.errors import is_out_of_memory

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

T = TypeVar("T")


class NotCapturable(RuntimeError):  # noqa: N818 - a finding about the kernel, not an error of ours
    """A kernel does something that a CUDA graph cannot hold; device and memory are as they were before."""


def capture_graph(body: Callable[[], T], warm_up: Callable[[], object] | None = None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Capture ``body``, after running ``warm_up`` (or itself) once to load and compile what it needs.

    What ``torch.cuda.graph`` does, but for emptying the allocator's cache every time: that takes longer than all the
    rest, and the memory of graphs that are gone stays in the cache until somebody does.

    Raises:
        NotCapturable: ``body`` does something that a graph cannot hold.
        RuntimeError: torch's, where there was too little memory or the device is lost.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        (warm_up or body)()
    torch.cuda.synchronize()
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.stream(side):
            return graph, _captured(body, graph, pool)
    except BaseException as error:
        _end_recording(pool)
        if not isinstance(error, RuntimeError) or is_out_of_memory(error):
            raise
        torch.cuda.synchronize()  # raises again if the device itself is lost
        raise NotCapturable(first_line(error)) from error


def _captured(body: Callable[[], T], graph: torch.cuda.CUDAGraph, pool: _POOL_HANDLE) -> T:
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


def _end_recording(pool: _POOL_HANDLE) -> None:
    """Have torch's allocator forget a capture that failed.

    ``CUDAGraph::capture_end`` (aten/src/ATen/cuda/CUDAGraph.cpp) may raise before it does that itself; newer sources
    do it first.  As long as the allocator believes that a capture is underway, it never gives memory back.
    """
    device = torch.cuda.current_device()
    with suppress(RuntimeError):  # torch did it
        torch._C._cuda_endAllocateToPool(device, pool)
        torch._C._cuda_releasePool(device, pool)
