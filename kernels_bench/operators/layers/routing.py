"""Which experts, or which adapter, each row of a universe chooses: made from the seed, the same on every device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.described import FURTHER
from kernels_bench.operators.inputs.splitmix64 import hashed
from kernels_bench.relations.batch import ELSEWHERE, HOSTILE, routed_alike

_POPULAR = 8
"""One choice in so many is twice as likely as others, since experts and adapters are never equally busy."""
_DOUBLED = 1 << 46


def routed_ids(seed: int, count: int, choices: int, top: int, device: torch.device) -> torch.Tensor:
    """Distinct choices of each row of a universe and of the rows that follow it, int32 of shape (rows, top).

    Rows that are `routed_alike` have the same ones; so have hostile and special rows, which thereby stand beside them
    in an expert's tile. But infinite ones have the first there are, and NaN the last: where rows are sorted by their
    choices, they come before and after all others, on either side of where another expert's tile ends. The row
    `ELSEWHERE` has none of those that are alike, if there are twice as many. All others draw theirs.

    Args:
        seed: of all data.
        count: ordinary rows.
        choices: how many experts, or adapters, there are.
        top: how many of them a row has.
        device: where they are made.

    Raises:
        ValueError: a row would have more than there are.
    """
    if top > choices:
        raise ValueError(f"a row cannot have {top} of {choices} experts: they must be distinct")
    keys = (hashed(seed, "choices", 0, count + FURTHER, choices, device) >> 16) & (2 * _DOUBLED - 1)
    keys |= (torch.arange(choices, device=device) % _POPULAR == 0).long() * _DOUBLED
    ids = keys.sort(dim=1, descending=True, stable=True).indices[:, :top]
    order = hashed(seed, "order of choices", 0, 1, choices, device)[0].sort(stable=True).indices
    rows = np.arange(count + FURTHER)
    alike = copy_to_device((rows >= count) | routed_alike(rows), device)
    ids = torch.where(alike[:, None], order[:top], ids)
    ids[count + ELSEWHERE] = order.flip(0)[:top]
    numbers = torch.arange(choices, device=device)
    ids[count + HOSTILE.index("inf")], ids[count + HOSTILE.index("nan")] = numbers[:top], numbers[choices - top :]
    return ids.int().contiguous()


@lru_cache(1 << 12)
def choices_met(count: int, choices: int, top: int) -> int:
    """How many different experts, or adapters, the first ``count`` rows of a universe have, with the usual seed."""
    return len(routed_ids(0, count, choices, top, torch.device("cpu"))[:count].unique())
