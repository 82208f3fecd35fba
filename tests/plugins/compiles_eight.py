"""A kernel that is compiled for the first eight M that it meets, and adds in another order at others; and a fault."""

from __future__ import annotations

from torch import Tensor

from kernels_bench.arms import Arm
from kernels_bench.faults.planted.sums import in_groups, in_sequence, products

_COMPILED: set[int] = set()
_LIMIT, _FEW = 8, 8


def first_eight(a: Tensor, b: Tensor) -> Tensor:
    if len(_COMPILED) < _LIMIT:
        _COMPILED.add(len(a))
    return (in_groups(16) if len(a) in _COMPILED else in_sequence)(products(a, b)).to(a.dtype)


def few(a: Tensor, b: Tensor) -> Tensor:
    return (in_groups(16) if len(a) < _FEW else in_sequence)(products(a, b)).to(a.dtype)


ARMS = (
    Arm(name="first-eight", claims=True, kernels=lambda: {"mm": first_eight}, offers=("mm",)),
    Arm(name="few", claims=True, kernels=lambda: {"mm": few}, offers=("mm",)),
)
