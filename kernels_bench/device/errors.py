"""What a device's errors mean: it is lost, or out of memory."""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch

_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def device_lost(device: torch.device) -> bool:
    """Whether a device has not survived what it was given, so that nothing works in this process any more."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory; CUDA, cuBLAS, Triton and torch on a CPU say so in words of their own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
