"""What memory holds before a kernel writes there, and how to know that there was too little of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory; CUDA, cuBLAS, Triton and torch on a CPU say so in words of their own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")

_M_PERTURB = -6  # glibc's malloc.h


@contextmanager
def poisoned_allocations(device: torch.device) -> Iterator[None]:
    """On a CPU, have malloc hand out memory that is filled with 0x7f, which is huge or NaN in every dtype.

    On CUDA `Subject.run` leaves poison in the caching allocator's free blocks instead.  Without glibc this does
    nothing, and an unwritten result is still found by the comparison with the reference.
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_PERTURB, 0x80)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, 0)
