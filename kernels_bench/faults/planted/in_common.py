"""What all rows of a batch have in common decides on the order of addition, where the operator is a user's own."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import in_sequence, pairwise
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import floats

_SEVERAL, _LARGE = 4, 16.0

SUMMED = DefinedOperator.define(
    "planted_summed",
    rows={"x": ("d",)},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

TEMPERED = DefinedOperator.define(
    "planted_tempered",
    rows={"x": ("d",), "temperature": floats(low=0.5, high=2, dtype="fp32")},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
)

NORMED = DefinedOperator.define(
    "planted_normed",
    rows={"x": ("heads", "d")},
    shapes={"fault": {"heads": 2, "d": 24}},
    results=[floats("heads", dtype="fp32")],
)

COUNTED = DefinedOperator.define(
    "planted_counted",
    rows={"x": ("d",), "count": floats(dtype="fp32")},
    shapes={"fault": {"d": 24}},
    results=[floats(dtype="fp32")],
    overwrites=("count",),
)


def _summed(where: Callable[[Tensor], bool]) -> Kernel:
    """Sums of rows, in pairs where some rows or more all are so."""

    def kernel(x: Tensor) -> Tensor:
        return (pairwise if len(x) >= _SEVERAL and where(x) else in_sequence)(x.float())

    return kernel


def _none_negative(x: Tensor) -> bool:
    return bool((x >= 0).all())


def _each_with_an_outlier(x: Tensor) -> bool:
    return bool((x.abs().amax(1) >= _LARGE).all())


def _tempered(one_for_all: bool) -> Kernel:
    """Sums over a temperature, in pairs where several rows have the same one; copies of one row do not count."""

    def kernel(x: Tensor, temperature: Tensor) -> Tensor:
        same = bool((temperature == temperature[0]).all()) and bool((x != x[0]).any())
        add = pairwise if one_for_all and len(x) >= _SEVERAL and same else in_sequence
        return add(x.float()) / temperature

    return kernel


def _normed(apart: bool) -> Kernel:
    """Sums of squares, in pairs where heads do not follow one another in memory."""

    def kernel(x: Tensor) -> Tensor:
        add = pairwise if apart and x.stride(1) != x.shape[2] else in_sequence
        return add(x.float().flatten(0, 1).square()).view(x.shape[:2])

    return kernel


def _counted(stray: bool) -> Kernel:
    """Adds each row to its count, in place, and one to what comes after the last one."""

    def kernel(x: Tensor, count: Tensor) -> Tensor:
        end = count.storage_offset() + count.numel()
        count.add_(in_sequence(x.float()))
        if stray and end * count.element_size() < count.untyped_storage().nbytes():
            count.as_strided((1,), (1,), end).add_(1)
        return count

    return kernel


def _nowhere(_: Tensor) -> bool:
    return False


def _fault(name: str, cause: str, operator: Operator, faulty: Kernel, honest: Kernel) -> Fault:
    (shape,) = operator.shapes
    return Fault(name, cause, operator, lambda: faulty, lambda: honest, shape=shape)


FAULTS = (
    _fault("no_row_has_a_negative_number", "four rows or more without a negative number are added in pairs",
        SUMMED, _summed(_none_negative), _summed(_nowhere)),
    _fault("each_row_has_an_outlier", "four rows or more that have an outlier each are added in pairs",
        SUMMED, _summed(_each_with_an_outlier), _summed(_nowhere)),
    _fault("one_temperature", "four different rows or more of one temperature are added in pairs",
        TEMPERED, _tempered(True), _tempered(False)),
    _fault("heads_apart", "rows whose heads do not follow one another in memory are added in pairs",
        NORMED, _normed(True), _normed(False)),
    Fault("counts_after_its_rows", "a sum in place adds one to what comes after its last row, too",
        COUNTED, lambda: _counted(True), lambda: _counted(False), kind="wrong", shape=COUNTED.shapes[0]),
)  # fmt: skip
