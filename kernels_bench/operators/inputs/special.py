"""Values that are rare, in every dtype, bit for bit the same on every device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from kernels_bench.device.lazy_torch import torch

LARGER = 2.0**10
"""How many times larger an outlier is than its like."""

EQUAL = 1.1
"""What the elements of something ``constant`` are: no dtype has it exactly, so that sums of it are rounded."""


@dataclass(frozen=True)
class _Format:
    """A binary floating-point format.

    Attributes:
        fraction: bits of the significand that are stored.
        integer: the integers of its width.
        nan: bits of a NaN with a payload, which a kernel may keep or not, but then always.
    """

    fraction: int
    integer: torch.dtype
    nan: int


@cache
def _format(dtype: torch.dtype) -> _Format:
    return {
        torch.bfloat16: _Format(7, torch.int16, 0x7FD5),
        torch.float16: _Format(10, torch.int16, 0x7F55),
        torch.float32: _Format(23, torch.int32, 0x7FD51234),
        torch.float8_e4m3fn: _Format(3, torch.int8, 0x7F),  # it has no other
        torch.float8_e5m2: _Format(2, torch.int8, 0x7E),
    }[dtype]


def subnormal(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Subnormal numbers of either sign made of random int64: as many of each binade, down to the smallest."""
    form = _format(dtype)
    below = (bits & 0x7FFF) % form.fraction
    leading = torch.ones_like(bits) << below
    negative = (bits >> 60) & 1
    pattern = leading | ((bits >> 16) & (leading - 1))
    lowest = torch.iinfo(form.integer).min
    return (pattern + negative * lowest).to(form.integer).view(dtype)


def nan_with_payload(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A quiet NaN, not the one that processors make themselves; a scalar."""
    form = _format(dtype)
    return torch.full((), form.nan, dtype=form.integer, device=device).view(dtype)


def signs(places: torch.Tensor) -> torch.Tensor:
    """+1.0 at even places and -1.0 at odd ones, fp32."""
    return 1.0 - 2.0 * (places % 2).float()
