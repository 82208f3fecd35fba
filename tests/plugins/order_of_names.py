"""Arms that add parts of a sum by name: in the order of a set, which changes from process to process, or sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from kernels_bench.arms import Arm
from kernels_bench.faults.planted.sums import in_sequence, products

_NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


def _by_name(order: Callable[[tuple[str, ...]], Iterable[str]]) -> Callable[[Tensor, Tensor], Tensor]:
    def mm(a: Tensor, b: Tensor) -> Tensor:
        terms = products(a, b)
        parts = {name: in_sequence(terms[:, number :: len(_NAMES)]) for number, name in enumerate(_NAMES)}
        first, *others = order(_NAMES)
        total = parts[first].clone()
        for name in others:
            total += parts[name]
        return total.to(a.dtype)

    return mm


ARMS = (
    Arm(name="in-a-set", claims=True, kernels=lambda: {"mm": _by_name(set)}, offers=("mm",)),
    Arm(name="in-a-row", claims=True, kernels=lambda: {"mm": _by_name(sorted)}, offers=("mm",)),
)
