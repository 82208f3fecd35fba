"""Kernels that keep a plan, or a sum, of what they met first, in whose key something lacks."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from kernels_bench import Operator, integers
from kernels_bench.arms import Arm, Kernel
from kernels_bench.faults.planted.sums import in_sequence, pairwise, products

BAG = Operator.define(
    "bag_of_ids",
    rows={"ids": integers(16, high=64)},
    shared={"table": (64, "d")},
    shapes={"s": {"d": 4}},
    results=("d",),
    dtypes=("fp32",),
)


def _planned(key: Callable[[Tensor], Hashable], in_pairs: Callable[[Tensor], bool]) -> Kernel:
    plans: dict[Hashable, bool] = {}

    def mm(a: Tensor, b: Tensor) -> Tensor:
        paired = plans.setdefault(key(a), in_pairs(a))
        return (pairwise if paired else in_sequence)(products(a, b)).to(a.dtype)

    return mm


def _planned_once_for_as_many() -> Kernel:
    """The plan of the call before, where that one was of as many rows, as layers that take turns are."""
    last: list[tuple[int, bool]] = []

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if not last or last[0][0] != len(a):
            last[:] = [(len(a), a.dtype is torch.float32)]
        return (pairwise if last[0][1] else in_sequence)(products(a, b)).to(a.dtype)

    return mm


def _tuned() -> Kernel:
    """Sums in pairs at the M of one range, where the first of them that came was near the range's end."""
    late: list[bool] = []

    def mm(a: Tensor, b: Tensor) -> Tensor:
        in_range = 64 < len(a) <= 128
        if in_range and not late:
            late.append(len(a) >= 100)
        return (pairwise if in_range and late[0] else in_sequence)(products(a, b)).to(a.dtype)

    return mm


def _bag(key: Callable[[Tensor], Tensor]) -> Kernel:
    """Sums of looked-up rows; of ids of one key the sum of those that came first is all others'."""
    kept: dict[Hashable, Tensor] = {}

    def bag_of_ids(ids: Tensor, table: Tensor) -> Tensor:
        known = table.contiguous().numpy().tobytes()
        sums = in_sequence(table[ids.long()])
        return torch.stack([
            kept.setdefault((known, *key(row).tolist()), found.clone())
            for row, found in zip(ids, sums, strict=True)
        ])  # fmt: skip

    return bag_of_ids


KERNELS: dict[str, dict[str, Kernel]] = {
    "plan-of-a-dtype": {"mm": _planned(lambda a: a.shape[1], lambda a: a.dtype is torch.float32)},
    "plan-of-a-view": {"mm": _planned(len, lambda a: not a.is_contiguous())},
    "plan-of-as-many": {"mm": _planned_once_for_as_many()},
    "tile-of-a-range": {"mm": _tuned()},
    "plan-of-all": {"mm": _planned(lambda a: (a.shape[1], a.dtype), lambda a: a.dtype is torch.float32)},
    "sum-of-a-beginning": {"bag_of_ids": _bag(lambda row: row[:-1])},
    "sum-of-all": {"bag_of_ids": _bag(lambda row: row)},
}


def _arm(name: str) -> Arm:
    return Arm(name=name, claims=True, kernels=lambda: KERNELS[name], offers=tuple(KERNELS[name]))


ARMS = tuple(map(_arm, KERNELS))
