"""Sums over ranks whose order the message decides on, or the rank that adds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.arms.ranks.kernels import agreed
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import Sum, by_rows, in_groups, in_sequence, pairwise, products
from kernels_bench.records.cases import Shape

RANKS = Shape.of("fault", {"ranks": 8, "hidden": 12})
PARTS = Shape.of("fault", {"ranks": 4, "n": 8, "k": 64})


def all_reduce(add: Sum) -> Callable[[], Kernel]:
    """Makes an ``all_reduce`` that adds ranks in an order."""
    return lambda: lambda x: add(x.float()).to(x.dtype)


def ring(parts: Tensor) -> Tensor:
    """As a ring adds: the message is cut into as many chunks as there are ranks, each begun by another one."""
    m, ranks, columns = parts.shape
    flat = parts.transpose(0, 1).flatten(1)  # (R, M K): what each rank has
    chunks = flat.split(-(-flat.shape[1] // ranks), 1)
    added = [in_sequence(chunk.roll(-number, 0)[None])[0] for number, chunk in enumerate(chunks)]
    return torch.cat(added).view(m, columns)


def row_parallel(over_parts: Callable[[int], Sum]) -> Callable[[], Kernel]:
    """Makes a ``row_parallel_linear`` that adds in an order, which may follow from how many terms a rank has."""

    def kernel(x: Tensor, weight: Tensor) -> Tensor:
        return over_parts(x.shape[2])(products(x.flatten(1), weight.t())).to(x.dtype)

    return lambda: kernel


def _own_term_last(x: Tensor) -> Tensor:
    """Each rank adds what it was sent, and then its own: no two have the same."""
    parts = x.float().transpose(0, 1)
    results = []
    for rank, own in enumerate(parts):
        others = torch.cat([parts[:rank], parts[rank + 1 :]])
        results.append((in_sequence(others[None])[0] + own).to(x.dtype))
    return agreed(torch.stack(results))


FAULTS = (
    Fault(
        name="ranks_by_message_size",
        cause="ranks are added one after the other in small messages, in a tree in large ones (NCCL's choice)",
        operator="all_reduce",
        shape=RANKS,
        make=all_reduce(by_rows(in_sequence, pairwise, 17)),
        control=all_reduce(in_sequence),
    ),
    Fault(
        name="ring_of_ranks",
        cause="a ring begins each part of the message at another rank (gloo's all-reduce)",
        operator="all_reduce",
        shape=RANKS,
        make=all_reduce(ring),
        control=all_reduce(in_sequence),
    ),
    Fault(
        name="part_by_part",
        cause="every rank adds its part of K, then all add what they have: at another TP size in another order",
        operator="row_parallel_linear",
        shape=PARTS,
        make=row_parallel(in_groups),
        control=row_parallel(lambda _: pairwise),
    ),
    Fault(
        name="own_term_last",
        cause="every rank adds its own term last, so that no two ranks have the same sum",
        operator="all_reduce",
        shape=RANKS,
        make=lambda: _own_term_last,
        control=all_reduce(in_sequence),
        kind="wrong",
    ),
)
