"""vLLM's all-reduces, started outside an engine: what ranks call together, as in 0.26 to 0.33.

An engine tries its own all-reduce first and calls NCCL for what that does not take, such as messages whose bytes are no
multiple of 16; so do these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from kernels_bench.arms.ranks.collectives import all_reduce as torchs_all_reduce
from kernels_bench.arms.vllm.batch_invariant import switch_on
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch

_COMMUNICATORS = "distributed.device_communicators"


F = TypeVar("F", bound=Callable[..., None])


def _captured_within(function: F) -> F:
    """Its graphs are captured as engines do it: at the end ranks tell each other which addresses the graphs read."""
    function.capturing = _telling_addresses  # type: ignore[attr-defined]
    return function


@contextmanager
def _telling_addresses() -> Iterator[None]:
    custom, _ = _communicators(torch.cuda.current_device())
    with custom.capture():
        yield


@_captured_within
def custom_all_reduce(given: torch.Tensor, result: torch.Tensor) -> None:
    """vLLM's own, one stage or two as ``VLLM_CUSTOM_ALLREDUCE_ALGO`` says, or as it chooses itself."""
    custom, _ = _communicators(given.device.index)
    found = custom.custom_all_reduce(given)
    if found is None:
        pynccl_all_reduce(given, result)
    else:
        result.copy_(found)


def pynccl_all_reduce(given: torch.Tensor, result: torch.Tensor) -> None:
    """NCCL's, by a communicator of vLLM's own."""
    _, pynccl = _communicators(given.device.index)
    if pynccl.disabled:  # of one rank
        torchs_all_reduce(given, result)
    else:
        pynccl.all_reduce(given, result)


def pynccl_reduce_scatter(given: torch.Tensor, result: torch.Tensor) -> None:
    """Likewise."""
    _, pynccl = _communicators(given.device.index)
    pynccl.reduce_scatter(result, given)


@_captured_within
def batch_invariant_linear(given: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> None:
    """As in vLLM's batch-invariant mode: its persistent GEMM, then its all-reduce."""
    custom_all_reduce(_switched_on().linear_batch_invariant(given, weight), result)


@cache
def _switched_on() -> Any:
    return switch_on()


@cache
def _communicators(device: int) -> tuple[Any, Any]:
    """vLLM's own and PyNccl; both are made by all ranks together, over a group that is not NCCL's."""
    group, place = torch.distributed.new_group(backend="gloo"), torch.device("cuda", device)
    custom = loaded(f"{_COMMUNICATORS}.custom_all_reduce", "CustomAllreduce")
    pynccl = loaded(f"{_COMMUNICATORS}.pynccl", "PyNcclCommunicator")
    return custom(group, place), pynccl(group, place)
