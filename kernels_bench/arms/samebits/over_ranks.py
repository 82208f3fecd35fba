"""A row-parallel linear whose order is one binary tree over K, however many ranks have parts of it.

K is cut into `LEAVES` parts of equal length.  A rank has one of them or several that follow each other: it computes the
products of each as a linear of its own, in fp32, and adds neighbours, and neighbours of those.  Ranks then do with each
other what each did within itself, so that 1, 2, 4 and 8 of them add in the same order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from kernels_bench.arms.ranks.collectives import gathered
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.layers.ranks import WHOLE

LEAVES = WHOLE


def tree_linear(given: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> None:
    """(M, K / R) times the transpose of (N, K / R), summed over all R ranks -> (M, N), the same on each of them.

    `LEAVES` is a multiple of R.
    """
    leaves = LEAVES // torch.distributed.get_world_size()
    linear = _linear(given.is_cuda)
    parts = [linear(x, w) for x, w in zip(given.chunk(leaves, 1), weight.chunk(leaves, 1), strict=True)]
    result.copy_(in_a_tree(gathered(in_a_tree(torch.stack(parts)))))


def in_a_tree(parts: torch.Tensor) -> torch.Tensor:
    """(a power of two, …) to (…): neighbours are added, then neighbours of those, and so on."""
    while len(parts) > 1:
        parts = parts[0::2] + parts[1::2]
    return parts[0]


def _linear(on_gpu: bool) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """samebits' own, to fp32."""
    own = importlib.import_module(f"kernels_bench.arms.samebits.{'triton' if on_gpu else 'cpu'}.gemm").linear

    def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        # Matrix libraries may choose another path for rows that lie apart; Triton's only loads them otherwise.
        x, weight = (x, weight) if on_gpu else (x.contiguous(), weight.contiguous())
        found: torch.Tensor = own(x, weight, out_dtype=torch.float32)
        return found

    return linear
