"""Bitwise comparison, on the device, of every element of every row.

``torch.equal`` takes -0.0 for 0.0 and a NaN for unlike itself, so outputs are compared as integers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kernels_bench.operators.inputs.special import nan_with_payload
from kernels_bench.operators.inputs.splitmix64 import splitmix64_mix

_NAN_OF_EIGHT_BITS = 0x7F
"""In either format of eight bits that has NaN."""
_PAYLOAD = 0x3FFFFF
"""Of a quiet NaN in fp32."""
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(values: torch.Tensor) -> torch.Tensor:
    """The same memory as integers of the same width."""
    return values.view(_INTEGER[values.element_size()])


def with_one_nan(values: torch.Tensor) -> torch.Tensor:
    """The same numbers, with every NaN the same; whole numbers as they are."""
    if not values.is_floating_point():
        return values
    if values.element_size() == 1:  # which torch cannot fill by a mask
        return bits(values).masked_fill(values.isnan(), _NAN_OF_EIGHT_BITS).view(values.dtype)
    return values.masked_fill(values.isnan(), torch.nan)


def with_one_nan_of_its_own(values: torch.Tensor) -> torch.Tensor:
    """The same in fp32, where a NaN that has kept the payload of the rows' own stays as it is."""
    own = bits(nan_with_payload(values.dtype, values.device)) & _PAYLOAD
    return values.masked_fill(values.isnan() & ((bits(values) & _PAYLOAD) != own), torch.nan)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether all bits agree: a boolean scalar on the device, so that the caller chooses when to wait for it."""
    return (bits(a) == bits(b)).all()


def all_same_bits(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    """Whether all bits agree in as many pairs of tensors; waits for the device."""
    return all(torch.equal(bits(a), bits(b)) for a, b in zip(left, right, strict=True))


def same_lines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether all bits of each line agree, likewise: a boolean for each place of dimension 0."""
    return (bits(a) == bits(b)).reshape(len(a), -1).all(1)


@dataclass(frozen=True)
class Difference:
    """What differs between two tensors of the same rows.

    Attributes:
        elements: how many elements differ.
        rows: how many rows differ.
        row: position, in the tensors given, of the first row that differs.
        index: index within that row, flattened, of its first differing element.
        values: both elements, converted to Python floats.
        patterns: both elements' bits, as hexadecimal text.
        ulp: distance of the two in units in the last place; None where one is NaN, and of whole numbers.
        max_ulp: the largest such distance over all elements that differ.
        differing_rows: positions of the rows that differ, on the host, ascending.
    """

    elements: int
    rows: int
    row: int
    index: int
    values: tuple[float, float]
    patterns: tuple[str, str]
    ulp: int | None
    max_ulp: int | None
    differing_rows: tuple[int, ...]


def difference(reference: torch.Tensor, other: torch.Tensor) -> Difference | None:
    """Compare two tensors of shape (rows, …) bit for bit; None if they agree.

    Waits for the device once where they agree.
    """
    width = reference.element_size() * 8
    left, right = (bits(t).reshape(t.shape[0], -1) for t in (reference, other))
    unequal = left != right
    if not bool(unequal.any()):
        return None
    by_row = unequal.any(1).nonzero().flatten()
    row = int(by_row[0])
    index = int(unequal[row].nonzero()[0])
    pair = (int(left[row, index]), int(right[row, index]))
    first, second = (t.reshape(t.shape[0], -1)[row, index] for t in (reference, other))
    no_ulp = not reference.is_floating_point() or first.isnan() or second.isnan()
    return Difference(
        elements=int(unequal.sum()),
        rows=len(by_row),
        row=row,
        index=index,
        values=(float(first), float(second)),
        patterns=(_pattern(pair[0], width), _pattern(pair[1], width)),
        ulp=None if no_ulp else abs(ulp_key(pair[0], width) - ulp_key(pair[1], width)),
        max_ulp=_max_ulp(reference, other, unequal) if reference.is_floating_point() else None,
        differing_rows=tuple(by_row.tolist()),
    )


def _pattern(value: int, width: int) -> str:
    return f"0x{value & ((1 << width) - 1):0{width // 4}x}"


def ulp_key(value: int, width: int) -> int:
    """Map a float's bits, read as a signed integer, to an integer that grows with the float.

    Neighbouring floats map to neighbouring integers, and both zeros to 0, so that the difference counts ULPs.
    """
    return value if value >= 0 else -(value + (1 << (width - 1)))


def _max_ulp(reference: torch.Tensor, other: torch.Tensor, unequal: torch.Tensor) -> int | None:
    pairs = [t.reshape(t.shape[0], -1)[unequal] for t in (reference, other)]
    finite = ~(pairs[0].isnan() | pairs[1].isnan())
    if not bool(finite.any()):
        return None
    width = reference.element_size() * 8
    left, right = (_ordered_tensor(bits(t[finite]).long(), width) for t in pairs)
    return int((left - right).abs().max())


def _ordered_tensor(values: torch.Tensor, width: int) -> torch.Tensor:
    return torch.where(values >= 0, values, -(values + (1 << (width - 1))))


_DIGEST_CHUNK = 1 << 22
_DIGEST_KEYS = (0x5851F42D4C957F2D, 0x14057B7EF767814F)


def digest(outputs: tuple[torch.Tensor, ...]) -> str:
    """128 bits that stand for shapes, dtypes and every bit of some tensors; waits for the device."""
    (found,) = digests_of([summed(outputs)])
    return found


def digests_of(sums: Sequence[torch.Tensor]) -> list[str]:
    """The digests that some `summed` tensors are, waited for together."""
    told = torch.stack([*sums]).tolist() if sums else []
    return ["".join(f"{value & ((1 << 64) - 1):016x}" for value in total) for total in told]


def summed(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """128 bits that stand for shapes, dtypes and every bit of some tensors, (2,) int64; the same on every device.

    Each element is mixed with its place (SplitMix64) under two keys and the results are added modulo 2^64, an
    addition whose order cannot matter.
    """
    form = str([(tuple(output.shape), str(output.dtype)) for output in outputs])
    device = outputs[0].device
    offset = zlib.crc32(form.encode())
    # Filled on the device: a copy from the host would wait for all other processes' turns on a GPU.
    keys = torch.stack([torch.full((1,), key + offset, dtype=torch.int64, device=device) for key in _DIGEST_KEYS])
    total = torch.zeros(len(_DIGEST_KEYS), dtype=torch.int64, device=device)
    for output in outputs:
        for chunk in bits(output).reshape(-1).split(_DIGEST_CHUNK):
            place = keys + torch.arange(len(chunk), dtype=torch.int64, device=device)
            total += splitmix64_mix(splitmix64_mix(place).add_(chunk)).sum(1)
            keys += len(chunk)
    return total
