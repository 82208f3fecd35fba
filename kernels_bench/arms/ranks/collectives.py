"""What ranks call together: each takes the rank's input (rows, K) and where its result belongs."""

from __future__ import annotations

from typing import Any

from kernels_bench.device.lazy_torch import torch


def all_reduce(given: torch.Tensor, result: torch.Tensor) -> None:
    """The library's own, which adds in place."""
    result.copy_(given)
    torch.distributed.all_reduce(result)


def reduced_linear(given: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> None:
    """As engines do: the rank's products in the inputs' dtype, then the library's all-reduce."""
    all_reduce(torch.nn.functional.linear(given, weight), result)


def reduce_scatter(given: torch.Tensor, result: torch.Tensor) -> None:
    """The library's own."""
    _named("reduce_scatter_single", "reduce_scatter_tensor")(result, given)


def gathered_sum(given: torch.Tensor, result: torch.Tensor) -> None:
    """Every rank gets all inputs and adds them in the order of ranks."""
    result.copy_(in_rank_order(gathered(given)))


def gathered(given: torch.Tensor) -> torch.Tensor:
    """What every rank has, (R, …), in the order of ranks."""
    everything = given.new_empty(torch.distributed.get_world_size(), *given.shape)
    _named("all_gather_single", "all_gather_into_tensor")(everything.flatten(0, 1), given)
    return everything


def exchanged_sum(given: torch.Tensor, result: torch.Tensor) -> None:
    """Every rank gets its rows of all inputs and adds them in the order of ranks."""
    mine = torch.empty_like(given)
    torch.distributed.all_to_all_single(mine, given)
    result.copy_(in_rank_order(mine.unflatten(0, (torch.distributed.get_world_size(), -1))))


def _named(*names: str) -> Any:
    """What torch.distributed has under the first of some names that it knows: they have changed."""
    return next(getattr(torch.distributed, name) for name in names if hasattr(torch.distributed, name))


def in_rank_order(parts: torch.Tensor) -> torch.Tensor:
    """(R, …) to (…): one rank after the other in fp32, rounded once."""
    first, *others = parts.float().unbind(0)
    total = first.clone()
    for part in others:
        total += part
    return total.to(parts.dtype)
