"""Random bits by integer arithmetic alone (SplitMix64), the same on every device and in every process."""

from __future__ import annotations

import zlib

from kernels_bench.device.lazy_torch import torch

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift_xor(z: torch.Tensor, shift: int) -> torch.Tensor:
    # torch shifts int64 arithmetically; the mask makes it the logical shift that SplitMix64 asks for.
    return z.bitwise_xor_((z >> shift).bitwise_and_((1 << (64 - shift)) - 1))


def splitmix64_mix(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser over an int64 tensor, in place."""
    _shift_xor(z, 30).mul_(_signed(_MIX_1))
    _shift_xor(z, 27).mul_(_signed(_MIX_2))
    return _shift_xor(z, 31)


def hashed(seed: int, stream: str, first: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """64 random bits for each of ``rows`` rows from ``first`` on: int64 of shape (rows, columns)."""
    return hashed_at(seed, stream, torch.arange(first, first + rows, device=device, dtype=torch.int64), columns)


def hashed_at(seed: int, stream: str, rows: torch.Tensor, columns: int) -> torch.Tensor:
    """64 random bits for each of some rows, given by their numbers: int64 of shape (rows, columns)."""
    key = _signed(seed * _MIX_1 + zlib.crc32(stream.encode()) * _MIX_2)
    row = rows.mul(_signed(_GOLDEN)).add_(key)
    column = torch.arange(columns, device=rows.device, dtype=torch.int64).mul_(_signed(_MIX_1))
    return splitmix64_mix(splitmix64_mix(row)[:, None] + column[None, :])
