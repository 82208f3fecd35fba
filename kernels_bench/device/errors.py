"""What a device's errors mean: it is lost, or out of memory."""

from __future__ import annotations

from kernels_bench.device.kinds.known import kind_of
from kernels_bench.device.lazy_torch import torch

_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def device_lost(device: torch.device) -> bool:
    """Whether a device has not survived what it was given, so that nothing works in this process any more."""
    try:
        kind_of(device.type).synchronise()
    except RuntimeError:
        return True
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and tells_of_no_memory(str(error))


def tells_of_no_memory(said: str) -> bool:
    """Whether a library's message says so: CUDA, cuBLAS, Triton and torch on a CPU have no type of error for it."""
    return any(words in said for words in _NO_MEMORY)
