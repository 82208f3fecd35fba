"""64 bits of every row, computed where the row is, in whole numbers alone: the same on every device.

A row's raw bits are read as numbers ``e[j]`` of at most 16 bits; its digest is the sum of ``e[j] * key[j]`` modulo
2^64, with odd keys drawn once.  Rows that differ in one place always have different digests, and others with a chance
of at most 2^-48 the same (multilinear hashing).  The sum is exact, so that its order does not matter; where the row
stands, and how its tensor lies in memory, does not enter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

_SEED = 20261129
_AT_ONCE = 1 << 24
"""Numbers that are multiplied at once: as many words of 8 bytes, twice, are held beside the rows."""
_AT_ONCE_HERE = 1 << 16
"""Likewise in main memory: few enough that the words stay near the processor."""


class RawRows(NamedTuple):
    """A copy of a tensor's rows, which may be digested later, together with others.

    Attributes:
        bits: in main memory bytes, elsewhere a tensor there, of the rows' own dtype or of whole numbers.
        rows: how many.
        narrow: whether elements are single bytes.
    """

    bits: Any
    rows: int
    narrow: bool


def raw_rows(rows: Any) -> RawRows:
    """What rows are now; nothing waits for it.

    Args:
        rows: as of `row_digests`.
    """
    if not rows.is_cpu:
        return RawRows(rows.detach().clone(), len(rows), rows.element_size() == 1)
    array = array_of(rows)
    return RawRows(array.tobytes(), len(array), array.itemsize == 1)


def digests_of(parts: Sequence[RawRows]) -> list[Any]:
    """The digests of rows that were copied, those of one width at once.

    Returns:
        Of each part what `row_digests` gives of its rows; in main memory an array of numpy's.
    """
    found: list[Any] = [None] * len(parts)
    alike: dict[tuple[int, Any], list[int]] = defaultdict(list)
    for number, one in enumerate(parts):
        there = not isinstance(one.bits, bytes)
        size, kind = (one.bits.numel(), one.bits.dtype) if there else (len(one.bits), one.narrow)
        alike[size // max(1, one.rows), kind].append(number)
    for (width, _), numbers in alike.items():
        whole = _digests_of([parts[number] for number in numbers], width)
        at = 0
        for number in numbers:
            found[number] = whole[at : at + parts[number].rows]
            at += parts[number].rows
    return found


def _digests_of(parts: Sequence[RawRows], width: int) -> Any:
    import torch

    if not isinstance(parts[0].bits, bytes):
        return row_digests(torch.cat([one.bits.reshape(one.rows, width) for one in parts]))
    count = sum(one.rows for one in parts)
    joined = parts[0].bits if len(parts) == 1 else b"".join([one.bits for one in parts])
    numbers = np.frombuffer(joined, np.uint8 if parts[0].narrow else np.int16)
    return _hashed(numbers.reshape(count, -1 if width and count else 0))


def row_digests(rows: Any) -> Any:
    """The digests of a tensor's rows.

    Args:
        rows: of shape (n, …), on any device, of any dtype with whole bytes.

    Returns:
        Of shape (n,), int64, on the same device.
    """
    import torch

    count = rows.shape[0]
    if rows.device.type == "cpu":
        return torch.from_numpy(_hashed(_numbers(rows)))
    bits = bits_of(rows)
    if count == 0 or bits.shape[1] == 0:
        return torch.zeros(count, dtype=torch.int64, device=rows.device)
    keys = keys_on(bits.shape[1], rows.device)
    step = max(1, _AT_ONCE // bits.shape[1])
    parts = [(bits[at : at + step].to(torch.int64) * keys).sum(1) for at in range(0, count, step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _hashed(numbers: Any) -> Any:
    """In main memory, in one thread: so small a sum is not worth waking others, which may be busy."""
    count, width = numbers.shape
    keys = keys_on(width, "cpu").numpy()
    step = max(1, _AT_ONCE_HERE // max(1, width))
    if count <= step:
        return numbers.astype(np.int64) @ keys
    found = np.empty(count, np.int64)
    for at in range(0, count, step):
        found[at : at + step] = numbers[at : at + step].astype(np.int64) @ keys
    return found


def bits_of(rows: Any) -> Any:
    """The raw bits of rows, as whole numbers of 16 bits, or of 8 where elements are single bytes.

    Returns:
        Of shape (n, numbers), a view where the rows lie in one piece.
    """
    import torch

    flat = rows.detach().reshape(rows.shape[0], -1) if rows.numel() else rows.detach().new_empty(rows.shape[0], 0)
    flat = torch.view_as_real(flat).reshape(rows.shape[0], -1) if flat.is_complex() else flat
    narrow = torch.uint8 if flat.element_size() == 1 else torch.int16
    return flat.contiguous().view(narrow)


def _numbers(rows: Any) -> Any:
    """`bits_of` rows in main memory, as an array of numpy's."""
    array = whole_numbers(rows)
    return array.view(np.int16) if array.itemsize > 1 else array


def whole_numbers(rows: Any) -> Any:
    """The bits of rows in main memory as whole numbers, one an element: an array of numpy's of shape (n, elements)."""
    array = array_of(rows)
    return np.ascontiguousarray(array).reshape(len(array), -1 if array.size else 0)


def array_of(rows: Any) -> Any:
    """Rows in main memory as an array of numpy's of whole numbers, which lies where they do."""
    import torch

    own = rows.detach() if rows.requires_grad else rows
    plain = torch.view_as_real(own) if own.is_complex() else own
    return plain.view(_whole()[plain.element_size()]).numpy()


@lru_cache(maxsize=1)
def _whole() -> dict[int, Any]:
    import torch

    return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def keys_on(count: int, device: Any) -> Any:
    """The first keys, of shape (count,), int64, odd; made once for a device and a power of two."""
    return _keys(1 << max(0, count - 1).bit_length(), str(device))[:count]


@lru_cache(maxsize=64)
def _keys(count: int, device: str) -> Any:
    import torch

    # Of each count the first keys are those of every larger one.
    drawn = np.random.Generator(np.random.Philox(_SEED)).integers(0, 1 << 64, count, dtype=np.uint64)
    return torch.from_numpy((drawn | np.uint64(1)).view(np.int64)).to(device)
