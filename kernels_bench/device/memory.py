"""Memory of the device: given back, and waited for."""

from __future__ import annotations

import time

from kernels_bench.device.kinds.known import kind_of
from kernels_bench.device.lazy_torch import torch

MOST_RESERVED = 4 << 30
"""Bytes of the device's memory above which a worker gives back what it does not use after a turn, or a timing."""
_WIPING_BYTES_S = 200e9


def release_cached_memory(device: torch.device) -> None:
    """Give back the device's memory that is not used, if it is much, and wait until it can disturb no other arm.

    It is left over by graphs that are gone, above all.  The driver wipes what it gets back, at the memory's speed and
    after the call returned: medians of the arm whose turn was next were up to 18 % too high on an H100.
    """
    kind = kind_of(device.type)
    before = kind.reserved_bytes()
    if before > MOST_RESERVED:
        kind.give_back()
        time.sleep((before - kind.reserved_bytes()) / _WIPING_BYTES_S)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    kind_of(device.type).synchronise()
