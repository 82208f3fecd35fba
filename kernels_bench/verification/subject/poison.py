"""What memory holds before a kernel writes there, and how to know that there was too little of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kernels_bench.verification.bitwise import bits

_M_PERTURB = -6  # glibc's malloc.h
_FILL = 0x100  # its lowest byte is inverted, and it must not be 0 as a whole


@contextmanager
def poisoned_allocations(device: torch.device) -> Iterator[None]:
    """On a CPU, have malloc hand out memory that is filled with 0xff, which is NaN in every dtype.

    On CUDA `KernelUnderTest.run` leaves poison in the caching allocator's free blocks instead.  Without glibc this does
    nothing, and an unwritten result is still found by the comparison with the reference.
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_PERTURB, _FILL)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, 0)


POISON = -91
"""0x…ffa5 as an integer: a NaN whose payload no arithmetic unit produces, so it marks what was never written."""


def poison(values: torch.Tensor) -> None:
    """Overwrite with `POISON`, in place; whole numbers with one that no kernel returns, eight bits with NaN."""
    bits(values).fill_(_pattern(values))


def still_poison(values: torch.Tensor) -> bool:
    """Whether nothing of what `poison` left was overwritten; waits for the device."""
    return bool((bits(values) == _pattern(values)).all())


def unwritten(values: torch.Tensor) -> torch.Tensor:
    """How many elements still hold the poison: a scalar on the device.

    In eight bits every pattern is something that a kernel may return: of those it is not known. What was not written
    there is NaN, which no reference is near to.
    """
    if values.element_size() == 1:
        return torch.zeros((), dtype=torch.int64, device=values.device)
    return (bits(values) == _pattern(values)).sum()


def _pattern(values: torch.Tensor) -> int:
    if values.element_size() == 1:
        return -1 if values.is_floating_point() else POISON
    if values.is_floating_point():
        return POISON
    return torch.iinfo(values.dtype).min - POISON
