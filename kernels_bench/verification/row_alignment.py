"""Where the lines that are compared stand in two companies; kept on the device, since every case asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.operators import ResultRows
from kernels_bench.relations.batch import Ids

_KEPT = 2048  # a whole sweep has some two hundred companies
Places = slice | torch.Tensor


@dataclass(frozen=True, eq=False)
class RowAlignment:
    """The lines that one company compares, in its result and in its reference's.

    Attributes:
        ids: identity of each.
        expected_at: where each stands in the reference's result.
        got_at: where each stands in the company's own.
        left: ``expected_at``, to take lines by.
        right: ``got_at``, to take lines by.
        ids_on_device: ``ids`` on the device.
    """

    ids: Ids
    expected_at: Ids
    got_at: Ids
    left: Places
    right: Places
    ids_on_device: torch.Tensor


@lru_cache(_KEPT)
def align_rows(reference: ResultRows, other: ResultRows, device: torch.device) -> RowAlignment:
    """Pair the lines that ``other`` compares with those of the same identity in ``reference``.

    Raises:
        ValueError: ``reference`` lacks some of them.
    """
    wanted: Ids = other.ids[other.compared]
    known, first = np.unique(reference.ids, return_index=True)
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    if (known[place] != wanted).any():
        raise ValueError("a company compares lines that its reference does not have")
    found: Ids = first[place].astype(np.int64)
    return RowAlignment(
        ids=wanted,
        expected_at=found,
        got_at=other.compared,
        left=_places(found, device),
        right=_places(other.compared, device),
        ids_on_device=copy_to_device(wanted, device),
    )


def take(tensor: torch.Tensor, places: Places) -> torch.Tensor:
    """Some lines of a tensor; a view where they follow each other."""
    return tensor[places] if isinstance(places, slice) else tensor.index_select(0, places)


def _places(positions: Ids, device: torch.device) -> Places:
    first, count = int(positions[0]), len(positions)
    if np.array_equal(positions, np.arange(first, first + count)):
        return slice(first, first + count)
    return copy_to_device(positions, device)
