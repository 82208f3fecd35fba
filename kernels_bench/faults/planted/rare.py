"""Differences that come once in hundreds of calls, or in one element of a million."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import Sum, in_parts, in_sequence, matmul
from kernels_bench.records.cases import Shape

_SMALL = Shape(label="fault", n=4, k=8)
_WIDE = Shape(label="fault", n=96, k=4)
_CALLS = 700
_ELEMENTS = 1_000_000


def _once_in(calls: int, other: Sum, usual: Sum, among: Callable[[int], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that joins in another order in one of so many calls of some M, at random."""

    def make() -> Kernel:
        draw = torch.Generator().manual_seed(calls)

        def add(terms: Tensor) -> Tensor:
            rare = among(len(terms)) and int(torch.randint(calls, (), generator=draw)) == 0
            return (other if rare else usual)(terms)

        kernel: Kernel = matmul(add)()
        return kernel

    return make


def _one_element_in(elements: int) -> Callable[[], Kernel]:
    """Makes an ``mm`` of whose elements one in so many is a unit in the last place off, at random."""

    def make() -> Kernel:
        draw = torch.Generator().manual_seed(elements)

        def mm(a: Tensor, b: Tensor) -> Tensor:
            out: Tensor = matmul(in_sequence)()(a, b)
            place = int(torch.randint(elements, (), generator=draw))
            if place < out.numel():
                chosen = out.view(-1)[place]
                out.view(-1)[place] = torch.nextafter(chosen, torch.full_like(chosen, torch.inf))
            return out

        return mm

    return make


def _fault(name: str, cause: str, make: Callable[[], Kernel], add: Sum, shape: Shape = _SMALL) -> Fault:
    return Fault(
        name=name, cause=cause, operator="mm", make=make, control=matmul(add), shape=shape, further=("repeat",)
    )


FAULTS = (
    _fault("one_call_of_700", "parts are joined in another order in one call of 700",
        _once_in(_CALLS, in_parts(4, (3, 1, 2, 0)), in_parts(4), lambda _: True), in_parts(4)),
    _fault("element_in_a_million", "one element in a million is a unit in the last place off",
        _one_element_in(_ELEMENTS), in_sequence, _WIDE),
    _fault("one_call_of_100_of_many_rows", "parts are joined in another order in one call of 100 with 48 rows or more",
        _once_in(100, in_parts(4, (3, 1, 2, 0)), in_parts(4), lambda m: m >= 48), in_parts(4)),
)  # fmt: skip

UNSEEN = (
    _fault("one_call_of_700_of_twelve_rows", "parts are joined in another order in one call of 700 with 12 rows",
        _once_in(_CALLS, in_parts(4, (3, 1, 2, 0)), in_parts(4), lambda m: m == 12), in_parts(4)),
)  # fmt: skip
