"""Memory of the device: given back, and waited for."""

from __future__ import annotations

import time

from kernels_bench.device.lazy_torch import torch

MOST_RESERVED = 4 << 30
"""Bytes of GPU memory above which a worker gives back what it does not use after a turn, or a timing."""
_WIPING_BYTES_S = 200e9


def release_cached_memory() -> None:
    """Give back GPU memory that is not used, if it is much, and wait until nothing of it can disturb the next arm.

    It is left over by graphs that are gone, above all.  The driver wipes what it gets back, at the memory's speed and
    after the call returned: medians of the arm whose turn was next were up to 18 % too high on an H100.
    """
    before = torch.cuda.memory_reserved()
    if before > MOST_RESERVED:
        torch.cuda.empty_cache()
        time.sleep((before - torch.cuda.memory_reserved()) / _WIPING_BYTES_S)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
