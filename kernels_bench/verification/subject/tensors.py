"""What is asked of several tensors together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from kernels_bench.operators import RowTensors, Tensors
from kernels_bench.verification.bitwise import all_same_bits


def on(device: torch.device, tensors: Tensors) -> Tensors:
    """The same tensors there: themselves where they are there already."""
    return tuple(tensor if tensor.device.type == device.type else tensor.to(device) for tensor in tensors)


def rarest(results: Sequence[RowTensors]) -> RowTensors:
    """Of some results of the same call one of which there are fewest: not all that met another call need show it."""
    if len(results) == 1:
        return results[0]
    return min(results, key=lambda one: sum(all_same_bits(one, other) for other in results))


def memory_of(tensors: Iterable[torch.Tensor]) -> frozenset[int]:
    """Where the memory of each begins, whatever part of it the tensor is."""
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)


def tensors_among(arguments: tuple[object, ...]) -> list[tuple[int, torch.Tensor]]:
    """All tensors among some arguments and within their tuples, each with its argument's place."""
    within = ((place, a if isinstance(a, tuple) else (a,)) for place, a in enumerate(arguments))
    return [(place, tensor) for place, group in within for tensor in group if isinstance(tensor, torch.Tensor)]
