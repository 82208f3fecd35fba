"""A kernel of a function that ranks call together, and what becomes of their results."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel, Unsupported, WrongResult
from kernels_bench.arms.ranks.timed_call import CapturedCall, TimedCall, captured
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.layers.ranks import SIZES, split
from kernels_bench.ranks.across import GroupAcross, ranks_of_torchrun
from kernels_bench.ranks.group import Place, RankGroup, RankParent

COLLECTIVES = ("all_reduce", "reduce_scatter")
OPERATORS = (*COLLECTIVES, "row_parallel_linear")
_COLLECTIVES = "kernels_bench.arms.ranks.collectives"

_GROUPS = 4
"""Groups of ranks that an arm keeps: one of each TP size that a row-parallel linear is compared at."""


@dataclass
class Groups:
    """The ranks of one arm, by their number; they are started when they are first needed, and again once lost.

    All have one parent.

    The last `_GROUPS` that were asked for are kept: of others processes would take memory, and on GPUs a context each.
    """

    _known: dict[int, RankGroup] = field(default_factory=dict)
    _parent: RankParent | None = None

    def of(self, ranks: int, device: torch.device) -> RankGroup:
        """A group of some ranks.

        Raises:
            RankLost: they do not come up.
            Unsupported: there are not as many GPUs.
        """
        known = self._known.pop(ranks, None)
        if known is None or not known.alive:
            _refuse(ranks, device)
            while len(self._known) >= _GROUPS:
                oldest = self._known.pop(next(iter(self._known)))
                oldest.write_traces()
                oldest.close()
            known = self._started(ranks, "nccl" if device.type == "cuda" else "gloo")
        self._known[ranks] = known  # the last one, now
        return known

    def _started(self, ranks: int, backend: str) -> RankGroup:
        if ranks_of_torchrun() is not None:
            return GroupAcross(ranks, backend)
        if self._parent is None or not self._parent.alive:
            self._parent = RankParent()
        return RankGroup(ranks, backend, parent=self._parent)


def most_ranks(device: torch.device) -> int:
    """So many ranks can compute together here: as torchrun started, one a GPU, or on a CPU eight."""
    by_torchrun = ranks_of_torchrun()
    if by_torchrun is not None:
        return by_torchrun
    return torch.cuda.device_count() if device.type == "cuda" else SIZES[-1]


def _refuse(ranks: int, device: torch.device) -> None:
    if not hasattr(os, "memfd_create"):
        raise Unsupported("ranks share memory without a name, which Linux alone has")
    if (count := ranks_of_torchrun()) is not None:
        if count < ranks:
            raise Unsupported(f"{ranks} ranks need as many of torchrun's, which started {count}")
    elif device.type == "cuda" and torch.cuda.device_count() < ranks:
        count = torch.cuda.device_count()
        raise Unsupported(f"{ranks} ranks need {ranks} GPUs, and here {'is 1' if count == 1 else f'are {count}'}")


class _OverRanks(PreparedKernel):
    """What ranks compute together."""

    @abstractmethod
    def prepare(self, *arguments: Any) -> TimedCall:
        """Give each rank its inputs, of which the first argument is the rows."""

    def captured(self, *arguments: Any) -> CapturedCall:
        """Graphs of a call on all ranks, see `CapturedCall`."""
        return captured(self.prepare(*arguments), arguments[0])


class Collective(_OverRanks):
    """All ranks' collective as a kernel of (M, R, K).

    Every rank times itself, and the slowest counts, see `TimedCall`.

    Args:
        groups: the arm's ranks.
        function: ``module:name``, see `kernels_bench.ranks.member.Collective`.
        scattered: whether each rank's result is its share of the rows.
        whole_bytes: of each row of a result the bytes must be a multiple of it.
    """

    def __init__(self, groups: Groups, function: str, scattered: bool = False, whole_bytes: int = 1) -> None:
        self._groups, self._function, self._scattered = groups, function, scattered
        self._whole_bytes = whole_bytes

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """The result, once every rank has the same.

        Raises:
            RankLost: a rank ended, hangs or fails.
            WrongResult: a rank has other bits than rank 0.
        """
        (x,) = arguments
        _refuse_parts(x.shape[2], x.dtype, self._whole_bytes)
        group = self._groups.of(x.shape[1], x.device)
        with group.lock:
            place, layout = group.put(x, self._scattered)
            group.go(place, self._function)
            _, results = layout.tensors(place.memory)
            found = results.flatten(0, 1)[: len(x)] if self._scattered else agreed(results)
            return found.to(x.device, copy=True)

    def prepare(self, *arguments: Any) -> TimedCall:
        """Give each rank its input; what is timed is the rest.

        Raises:
            RankLost: see `__call__`.
            Unsupported: likewise.
        """
        (x,) = arguments
        _refuse_parts(x.shape[2], x.dtype, self._whole_bytes)
        group = self._groups.of(x.shape[1], x.device)
        with group.lock:
            place, layout = group.put(x, self._scattered, own=True)
        _, results = layout.tensors(place.memory)
        result = results.flatten(0, 1)[: len(x)] if self._scattered else results[0]
        return TimedCall(group, self._function, (place,), result, x.device)


@dataclass(frozen=True, eq=False)
class _Shared:
    """A weight that ranks have their parts of, as it was when they got them."""

    group: RankGroup
    weight: torch.Tensor
    version: int
    place: Place

    def is_of(self, group: RankGroup, weight: torch.Tensor) -> bool:
        """Whether the ranks of a group have a weight as it is now."""
        return self.group is group and self.weight is weight and self.version == weight._version


class RowParallelLinear(_OverRanks):
    """All ranks' row-parallel linear as a kernel of (M, R, K / R) and of the whole weight (N, K).

    Ranks keep their parts of the weight, as an engine's do, and get them anew once anything was written into it.

    Args:
        groups: the arm's ranks.
        function: see `Collective`; it takes the rank's part of the rows, that of the weight (N, K / R), and a result.
        ranks: of how many there may be; of any number where it is empty.
        whole_bytes: see `Collective`.
    """

    def __init__(self, groups: Groups, function: str, ranks: Sequence[int] = (), whole_bytes: int = 1) -> None:
        self._groups, self._function, self._ranks, self._whole_bytes = groups, function, ranks, whole_bytes
        self._shared: dict[int, _Shared] = {}

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """The result, once every rank has the same; see `Collective`."""
        x, weight = arguments
        _refuse_parts(len(weight), x.dtype, self._whole_bytes)
        group = self._group(x)
        with group.lock:
            place, layout = group.put(x, result_columns=len(weight))
            group.go(place, self._function, self._part_of(weight, group))
            _, results = layout.tensors(place.memory)
            return agreed(results).to(x.device, copy=True)

    def prepare(self, *arguments: Any) -> TimedCall:
        """Give each rank its inputs; what is timed is the rest, see `Collective`."""
        x, weight = arguments
        _refuse_parts(len(weight), x.dtype, self._whole_bytes)
        group = self._group(x)
        with group.lock:
            place, layout = group.put(x, own=True, result_columns=len(weight))
            shared = self._part_of(weight, group)
        _, results = layout.tensors(place.memory)
        return TimedCall(group, self._function, (place, shared), results[0], x.device)

    def _group(self, x: torch.Tensor) -> RankGroup:
        ranks = x.shape[1]
        if self._ranks and ranks not in self._ranks:
            raise Unsupported(f"it adds in one order at {', '.join(map(str, self._ranks))} ranks, and not at {ranks}")
        return self._groups.of(ranks, x.device)

    def _part_of(self, weight: torch.Tensor, group: RankGroup) -> Place:
        known = self._shared.get(group.ranks)
        if known is None or not known.is_of(group, weight):
            place, _ = group.put(split(weight, group.ranks), own=True, result_columns=0)
            known = self._shared[group.ranks] = _Shared(group, weight, weight._version, place)
        return known.place


def _refuse_parts(columns: int, dtype: torch.dtype, whole: int) -> None:
    """Of messages whose bytes are no multiple of a number some libraries promise nothing."""
    if columns * dtype.itemsize % whole:
        raise Unsupported(
            f"a row of {columns * dtype.itemsize} bytes is no multiple of {whole}: of such messages nothing is promised"
        )


def agreed(results: torch.Tensor) -> torch.Tensor:
    """Rank 0's result, of every rank's (R, M, K).

    An all-reduce gives every rank the same: ranks that go on with other bits choose other tokens, whatever the batch.
    So one that does not is wrong, and not merely variant.

    Raises:
        WrongResult: a rank has other bits.
    """
    integers = {2: torch.int16, 4: torch.int32}[results.element_size()]
    raw = results.view(integers)
    differs = (raw != raw[0]) & ~(results.isnan() & results[0].isnan())
    if bool(differs.any()):
        rank, row, column = differs.nonzero()[0].tolist()
        count = int(differs[rank].sum())
        raise WrongResult(
            f"rank {rank}'s result differs from rank 0's in {count} of {differs[rank].numel()} elements: "
            f"row {row} of the batch, column {column}: {float(results[rank, row, column]):.9g} "
            f"instead of {float(results[0, row, column]):.9g}"
        )
    return results[0]


def library_kernels() -> Mapping[str, Kernel]:
    """torch.distributed's own collectives; before the last of them torch's linear."""
    return _kernels("all_reduce", "reduce_scatter", f"{_COLLECTIVES}:reduced_linear")


def rank_order_kernels(linear: str) -> Mapping[str, Kernel]:
    """Copies over the library, and a sum in the order of ranks; and a linear that has an order of its own.

    Args:
        linear: ``module:name`` of it, see `RowParallelLinear`; it is one for any of `SIZES`.
    """
    return _kernels("gathered_sum", "exchanged_sum", linear, SIZES)


def _kernels(all_reduce: str, reduce_scatter: str, linear: str, sizes: Sequence[int] = ()) -> Mapping[str, Kernel]:
    groups = Groups()
    made = (
        Collective(groups, f"{_COLLECTIVES}:{all_reduce}"),
        Collective(groups, f"{_COLLECTIVES}:{reduce_scatter}", scattered=True),
        RowParallelLinear(groups, linear, sizes),
    )
    return dict(zip(OPERATORS, made, strict=True))
