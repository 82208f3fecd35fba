"""The contract of a planted fault, and where they are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from kernels_bench.arms import Kernel
from kernels_bench.discovery import offering
from kernels_bench.operators import Operator, operators
from kernels_bench.records.cases import Shape

GEMM = Shape(label="fault", n=8, k=48)
ROW = Shape(label="fault", k=48)
HEADS = Shape(label="fault", heads=2, kv_heads=1, k=8, page=8, tokens=33)
UNIVERSE = 65


@dataclass(frozen=True)
class Fault:
    """One cause, and its control.

    Attributes:
        name: of the fault.
        cause: in a line.
        operator: what the kernels compute: the name of one of ours, or one that is defined for the fault.
        make: gives the kernel with the fault; called anew for every examination, since some remember things.
        control: gives the same kernel without it.
        kind: ``variant``: bits depend on the batch; ``wrong``: the result is not the operator's, or inputs are written.
        precision: of inputs and result.
        shape: sizes.
        subtle: comparing bf16 results of random inputs is known to miss it.
        universe: number of rows.
        further: relations whose further comparisons are made too, all of them, however long they take: what shows a
            fault that is rare or narrow.
        devices: kinds of devices on which there is such a fault.
    """

    name: str
    cause: str
    operator: str | Operator
    make: Callable[[], Kernel]
    control: Callable[[], Kernel]
    kind: Literal["variant", "wrong"] = "variant"
    precision: str = "fp32"
    shape: Shape = field(default=GEMM)
    subtle: bool = False
    universe: int = UNIVERSE
    further: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def computed(self) -> Operator:
        """The operator, at the fault's shape."""
        known = operators()[self.operator] if isinstance(self.operator, str) else self.operator
        return known.for_shape(self.shape)


@cache
def giving(kernel: Kernel) -> Callable[[], Kernel]:
    """Makes a kernel that remembers nothing: of the same kernel the same, so that its faults have one control."""
    return lambda: kernel


@cache
def faults(device: str = "cpu") -> dict[str, Fault]:
    """Every fault that a kind of device can have, by name: the ``FAULTS`` of the files in this folder."""
    found = [fault for file in offering(__package__, "FAULTS") for fault in file.FAULTS]
    return {fault.name: fault for fault in found if device in fault.devices}
