"""Where the rows that are compared stand in two companies; kept on the device, since every case asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from kernels_bench.relations.base import Company, Ids

_KEPT = 2048  # a whole sweep has some two hundred companies
Places = slice | torch.Tensor


@dataclass(frozen=True, eq=False)
class Pairing:
    """The rows that a company compares, in it and in its reference.

    Attributes:
        positions: where each compared row stands in the reference company.
        left: the same, to take rows by.
        right: where each stands in the company itself, to take rows by.
    """

    positions: Ids
    left: Places
    right: Places


@lru_cache(_KEPT)
def pair(reference: Company, other: Company, device: torch.device) -> Pairing:
    """Pair the rows that ``other`` compares with the same rows of ``reference``.

    Raises:
        ValueError: ``reference`` lacks some of them.
    """
    place = np.full(max(reference.rows.max(), other.rows[other.compared].max()) + 1, -1, dtype=np.int64)
    place[reference.rows] = np.arange(reference.size)
    found: Ids = place[other.rows[other.compared]]
    if (found < 0).any():
        raise ValueError(f"company {other.spec} compares rows that {reference.spec} does not have")
    return Pairing(found, _places(found, device), _places(other.compared, device))


@lru_cache(_KEPT)
def row_ids(company: Company, device: torch.device) -> torch.Tensor:
    """Identities of a company's rows, as an index on a device."""
    return torch.tensor(company.rows, device=device)


def take(tensor: torch.Tensor, places: Places) -> torch.Tensor:
    """Some rows of a tensor; a view where they follow each other."""
    return tensor[places] if isinstance(places, slice) else tensor.index_select(0, places)


def _places(positions: Ids, device: torch.device) -> Places:
    first, count = int(positions[0]), len(positions)
    if np.array_equal(positions, np.arange(first, first + count)):
        return slice(first, first + count)
    return torch.tensor(positions, device=device)
