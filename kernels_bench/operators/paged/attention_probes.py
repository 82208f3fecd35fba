"""Batches of which the order of attention's sum over keys can be read off: values are what is added.

A query's result is a sum of values, each weighed by its probability.  With queries of zero all keys weigh alike (flat
logits).  A kernel that walks the keys rescales its sum whenever the running maximum rises, which flat logits never
show; so there are rising and falling ones too.  They are whole numbers times ln 2, so that every weight and every
rescaling is a power of two, and each value is multiplied by what its weight divides by: all terms count alike, and
nothing is rounded that flat logits would not round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.sequences import Mode, starts
from kernels_bench.records.cases import Logits

# From each to the next, and from the first to each, it is a power of two: multiples of ln 2 whose differences are
# exact in fp32, whatever base a kernel's exponential has.
_LEVELS = (0, 1, 2, 4, 8)

SCALE = math.log(2)
"""What logits are multiplied by."""


def levels(logits: Logits, keys: int) -> torch.Tensor:
    """Each key's logit in multiples of ln 2, fp64 (keys)."""
    if logits == "flat":
        return torch.zeros(keys, dtype=torch.float64)
    staircase = torch.tensor(_LEVELS, dtype=torch.float64)[torch.arange(keys) * len(_LEVELS) // keys]
    return staircase if logits == "rising" else staircase.flip(0)


def weights(logits: Logits, keys: int) -> torch.Tensor:
    """Each key's weight relative to the largest, fp64 (keys)."""
    level = levels(logits, keys)
    return torch.exp2(level - level.max())


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences that all have the same keys, on the same pages.

    Attributes:
        metadata: ``cu_seqlens_q``, ``seqused_k``, the block table and the lengths, see `PagedBatch`.
        last_queries: where each sequence's last query, which sees all keys, stands among all: int64 (sequences).
        queries: how many there are.
        pages: of the cache.
    """

    metadata: tuple[torch.Tensor, ...]
    last_queries: torch.Tensor
    queries: int
    pages: int


@lru_cache(64)
def batch(mode: Mode, keys: int, page: int, sequences: int, device: torch.device) -> Batch:
    """Sequences of ``keys`` tokens: those that decode have one query, those that prefill all, or their second half."""
    kv = np.full(sequences, keys)
    counts = kv - starts(mode, kv)
    ends, pages = np.cumsum(counts), -(-keys // page)
    metadata = (
        torch.tensor(np.concatenate([[0], ends]), dtype=torch.int32, device=device),
        torch.tensor(kv, dtype=torch.int32, device=device),
        torch.arange(pages, dtype=torch.int32, device=device).expand(sequences, -1).contiguous(),
        torch.tensor(np.stack([counts, kv], 1)),
    )
    return Batch(metadata, torch.tensor(ends - 1, device=device), int(ends[-1]), pages)


def paged(tokens: torch.Tensor, pages: int, page: int) -> torch.Tensor:
    """What a cache holds of each token, (keys, …), as pages (pages, page, …); unused slots are zero."""
    slots = tokens.new_zeros(pages * page, *tokens.shape[1:])
    slots[: len(tokens)] = tokens
    return slots.view(pages, page, *tokens.shape[1:])
