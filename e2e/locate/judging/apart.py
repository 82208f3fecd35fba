"""How far rows are from others that should have been the same: elements, units in the last place, and as vectors.

In main memory bits are compared in one thread: so small a thing is not worth waking others, which may be busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from e2e.locate.probing.record import copied_to_host
from e2e.locate.seen.digest import bits_of, whole_numbers

K = TypeVar("K")


@dataclass
class Apart:
    """How far a call's rows are from those alone, on the device until `numbers` asks.

    Attributes:
        elements: by row, how many elements differ.
        ulps: by row, how far apart they are at most; None where they are no numbers with a fraction.
        of: elements of a row.
        same: whether it is known already that nothing differs.
        distance: see `distance_of`; None where it was not asked for.
    """

    elements: Any
    ulps: Any
    of: int
    same: bool = False
    distance: Any = None

    def numbers(self) -> tuple[list[int], list[int] | None]:
        """By row: elements that differ, and ulps."""
        return self.elements.tolist(), None if self.ulps is None else self.ulps.tolist()


def apart_of(mine: Any, theirs: Any, *, far: bool = False) -> Apart:
    """How far rows are from others of the same shape and dtype, which are what they are measured by.

    Args:
        mine: of shape (n, …).
        theirs: likewise.
        far: whether the distance is wanted too.
    """
    if mine.device.type == "cpu":
        return _on_host(mine, theirs, far)
    differ = (bits_of(mine) != bits_of(theirs)).reshape(len(mine), -1)
    wide = max(1, mine.element_size() // 2)
    elements = differ.reshape(len(mine), -1, wide).any(2).sum(1)
    ulps = distance = None
    if far and mine.is_floating_point():
        distance = distance_of(mine, theirs)
    if mine.is_floating_point() and mine.element_size() in (2, 4):
        whole = _torch_whole(mine)
        pair = [_ordered(one.contiguous().view(whole)) for one in (mine, theirs)]
        ulps = (pair[0] - pair[1]).abs().reshape(len(mine), -1).amax(1)
    return Apart(elements, ulps, mine[0].numel(), distance=distance)


def same_apart(rows: Any, far: bool) -> Apart:
    """Of rows in main memory that are known to be the same."""
    return Apart(np.zeros(len(rows), np.int64), None, rows[0].numel(), same=True, distance=0.0 if far else None)


def on_host(found: Mapping[K, Sequence[Apart]]) -> dict[K, list[Apart]]:
    """The same with what was counted in main memory, copied from the device at once."""
    counted = copied_to_host([part for own in found.values() for one in own for part in (one.elements, one.ulps)])
    return {
        key: [
            replace(
                one,
                elements=next(counted),
                ulps=next(counted),
                distance=None if one.distance is None else float(one.distance),
            )
            for one in own
        ]
        for key, own in found.items()
    }


def distance_of(mine: Any, theirs: Any) -> Any:
    """The length of the difference of two tensors over the length of the second, as vectors.

    What is NaN or infinite on one side alone is infinitely far; what is so on both is no difference, and has no length.

    Returns:
        Of shape (), fp64, on the same device.
    """
    import torch

    one, other = mine.double(), theirs.double()
    same = (one == other) | (one.isnan() & other.isnan())
    far = (one - other).masked_fill(same, 0).norm()
    whole = other.masked_fill(~other.isfinite(), 0).norm()
    return torch.where(far == 0, far, far / whole).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _torch_whole(tensor: Any) -> Any:
    import torch

    return torch.int16 if tensor.element_size() == 2 else torch.int32


def _ordered(bits: Any) -> Any:
    """Whole numbers in the order of the numbers whose bits they are, a step an ulp."""
    import torch

    wide = bits.to(torch.int64)
    most = (1 << (8 * bits.element_size() - 1)) - 1
    return wide.where(wide >= 0, -(wide & most))


def _on_host(mine: Any, theirs: Any, far: bool) -> Apart:
    """How far apart two tensors' rows are, with NumPy."""
    one, other = whole_numbers(mine), whole_numbers(theirs)
    differ = one != other
    elements = differ.sum(1)
    rows = np.flatnonzero(elements)
    of = mine[0].numel()
    if not len(rows):
        return same_apart(mine, far)
    if not (mine.is_floating_point() and mine.element_size() in (2, 4)):
        return Apart(elements, None, of)
    most = (1 << (8 * mine.element_size() - 1)) - 1
    wide = [numbers[rows].astype(np.int64) for numbers in (one, other)]
    steps = [np.where(numbers >= 0, numbers, -(numbers & most)) for numbers in wide]
    ulps = np.zeros(len(elements), np.int64)
    ulps[rows] = np.abs(steps[0] - steps[1]).max(1)
    return Apart(elements, ulps, of, distance=float(distance_of(mine, theirs)) if far else None)
