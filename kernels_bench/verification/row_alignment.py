"""Where the lines that are compared stand in batches; kept on the device, since every case asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.operators import ResultRows
from kernels_bench.relations.batch import Ids

_KEPT = 512
Places = slice | torch.Tensor


@dataclass(frozen=True, eq=False)
class RowAlignment:
    """The lines that some batches compare, in their results, one after the other, and in their reference's.

    Attributes:
        ids: identity of each.
        expected_at: where each stands in the reference's result.
        got_at: where each stands in its own batch's result.
        ends: one after the last line of each batch.
        left: ``expected_at``, to take lines by.
        right: where each stands in all batches' results, to take lines by.
        ids_on_device: ``ids`` on the device.
    """

    ids: Ids
    expected_at: Ids
    got_at: Ids
    ends: Ids
    left: Places
    right: Places
    ids_on_device: torch.Tensor


@lru_cache(_KEPT)
def align_rows(reference: ResultRows, others: tuple[ResultRows, ...], device: torch.device) -> RowAlignment:
    """Pair the lines that ``others`` compare with those of the same identity in ``reference``.

    Raises:
        ValueError: ``reference`` lacks some of them.
    """
    wanted = np.concatenate([other.ids[other.compared] for other in others])
    sizes = np.array([len(other.ids) for other in others])
    starts = np.cumsum(sizes) - sizes
    known, first = np.unique(reference.ids, return_index=True)
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    if (known[place] != wanted).any():
        raise ValueError("a company compares lines that its reference does not have")
    found: Ids = first[place].astype(np.int64)
    within = np.concatenate([other.compared + start for other, start in zip(others, starts, strict=True)])
    return RowAlignment(
        ids=wanted,
        expected_at=found,
        got_at=np.concatenate([other.compared for other in others]),
        ends=np.cumsum([len(other.compared) for other in others]),
        left=_places(found, device),
        right=_places(within, device),
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
