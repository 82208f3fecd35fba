"""Experts that have room for a part of a batch: which rows they take depends on it and on its order by definition."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import integers

_EXPERTS, _AT_ONCE = 4, 8


def _within(room: int, x: Tensor, expert: Tensor) -> Tensor:
    """The rows that still find room, and zeros for the others."""
    before = torch.nn.functional.one_hot(expert, _EXPERTS).cumsum(0).gather(1, expert[:, None])
    return torch.where(before <= room, x, torch.zeros_like(x))


def _room(rows: int) -> int:
    return rows // _EXPERTS + 2


ROOM = DefinedOperator.define(
    "planted_room",
    rows={"x": ("d",), "expert": integers(high=_EXPERTS)},
    shapes={"fault": {"d": 12}},
    results=("d",),
    dtypes=("fp32",),
    depends_on_batch="an expert takes so many of the batch's rows, the first ones",
    reference=lambda x, expert: _within(_room(len(x)), x, expert),
)


def _taken(rounded_up: bool) -> Kernel:
    """The room of larger batches is rounded up to whole tiles."""

    def kernel(x: Tensor, expert: Tensor) -> Tensor:
        room = _room(len(x))
        return _within(-(-room // _AT_ONCE) * _AT_ONCE if rounded_up and len(x) > _AT_ONCE else room, x, expert)

    return kernel


FAULTS = (
    Fault("room_in_whole_tiles", "from nine rows on experts have room for whole tiles of rows", ROOM,
          giving(_taken(True)), giving(_taken(False)), kind="wrong", shape=ROOM.shapes[0], precision="fp32"),
)  # fmt: skip
