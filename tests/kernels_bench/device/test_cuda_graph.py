"""Captures that work and captures that fail, and what memory is left after either; how want of it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernels_bench.device.cuda_graph import NotCapturable, capture_graph
from kernels_bench.device.errors import is_out_of_memory

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

GIB = 1 << 30


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("out of resource: shared memory, Required: 393216, Hardware limit: 232448"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_too_little_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def held_by_torch() -> int:
    """Bytes that torch has of the device once it was asked to give back what nothing uses."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()


def reads_on_the_host() -> float:
    return float(torch.ones(8, device="cuda").sum())


def asks_for_too_much() -> torch.Tensor:
    return torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


def raises_what_is_no_runtime_error() -> None:
    torch.ones(8, device="cuda")
    raise KeyError("mine")


@pytest.mark.gpu
@needs_gpu
def test_a_captured_graph_computes_anew_at_each_replay() -> None:
    rows = torch.ones(8, device="cuda")
    graph, doubled = capture_graph(lambda: rows * 2)
    for value in (3.0, 5.0):
        rows.fill_(value)
        graph.replay()
        assert doubled.tolist() == [2 * value] * 8


@pytest.mark.gpu
@needs_gpu
def test_what_a_graph_cannot_hold_is_said_in_the_words_of_the_error_itself() -> None:
    with pytest.raises(NotCapturable, match="captur") as raised:
        capture_graph(reads_on_the_host)
    assert str(raised.value) in str(raised.value.__cause__)
    assert reads_on_the_host() == 8


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("body", "warm_up", "expected"),
    [
        (reads_on_the_host, reads_on_the_host, NotCapturable),
        (asks_for_too_much, reads_on_the_host, torch.OutOfMemoryError),
        (raises_what_is_no_runtime_error, reads_on_the_host, KeyError),
    ],
)
def test_a_capture_that_failed_keeps_no_memory(
    body: Callable[[], object], warm_up: Callable[[], object], expected: type[Exception]
) -> None:
    before = held_by_torch()
    large = torch.empty(4 * GIB, dtype=torch.uint8, device="cuda")
    with pytest.raises(expected):
        capture_graph(body, warm_up)
    del large
    assert held_by_torch() < before + GIB
    # The next capture is none the worse for it.
    graph, total = capture_graph(lambda: torch.ones(8, device="cuda").sum())
    graph.replay()
    assert total.item() == 8
