"""Which kernel at which M, as an engine looks it up: a dictionary by shape, and a search among a few bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from kernels_bench.arms.base import Kernel
from kernels_bench.console.errors import UsageError
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.planned.kernels import DEFAULT_ARM, NORMS, RESTRICTED, kernel_of, why_not
from kernels_bench.planned.use import KernelUse
from kernels_bench.records.cases import Case, Device, Precision, Shape

LINEAR, LINEAR_BIAS = "linear", "linear_bias"
NORM, ADD_NORM = NORMS
OPERATORS = (LINEAR, LINEAR_BIAS, NORM, ADD_NORM)
"""What an engine is given kernels for."""

WARMING = tuple(1 << power for power in range(10))
"""Rows of a decode step; what takes more is called while an engine finds out how much memory it needs."""

ALIGNED = 8
"""cuBLASLt without workspace kept its bits where N and K are multiples of it in 16 bits, and not elsewhere."""


@dataclass(frozen=True)
class Key:
    """What kernels are looked up by.

    Attributes:
        operator: one of `OPERATORS`.
        n: columns of a linear's result; 0 of a norm.
        k: the length that is added up.
        dtype: of inputs and result, by its short name.
    """

    operator: str
    n: int
    k: int
    dtype: str

    @property
    def case(self) -> Case:
        """The same as a case, of no arm."""
        shape = Shape(label="engine", k=self.k, n=self.n or None)
        return Case(arm="", operator=self.operator, shape=shape, precision=Precision.parse(self.dtype))

    def __str__(self) -> str:
        sizes = f"{self.n}x{self.k}" if self.n else str(self.k)
        return f"{self.operator}/{sizes}/{self.dtype}"


@dataclass
class Choice:
    """The kernels of one shape, and how often they were called.

    Attributes:
        key: the shape.
        device: what they run on.
        names: of the kernels, by M ascending.
        lasts: the largest M of every range but the last, which has no end.
        planned: whether a plan has it.
        calls: so far.
    """

    key: Key
    device: Device
    names: tuple[str, ...]
    lasts: tuple[int, ...] = ()
    planned: bool = False
    calls: int = field(default=0, compare=False)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """Loaded when they are first called, in the process that calls them."""
        return tuple(kernel_of(name, self.key.case, self.device) for name in self.names)

    def name_at(self, m: int) -> str:
        """Which kernel it is for M rows."""
        return self.names[bisect_left(self.lasts, m)]

    def kernel_at(self, m: int) -> Kernel:
        """The kernel for M rows."""
        return self.kernels[bisect_left(self.lasts, m)]

    @property
    def warming_sizes(self) -> tuple[int, ...]:
        """M at which all of its code is called: each range's first, and those at which plans change tiles."""
        return tuple(sorted({*WARMING, *(last + 1 for last in self.lasts)}))

    @property
    def in_words(self) -> str:
        """Such as ``cublas-restricted up to M=63, samebits from M=64 on``."""
        if not self.lasts:
            return f"{self.names[0]} at every M"
        told = [f"{name} up to M={last}" for name, last in zip(self.names, self.lasts, strict=False)]
        return ", ".join([*told, f"{self.names[-1]} from M={self.lasts[-1] + 1} on"])

    @property
    def use(self) -> KernelUse:
        """What became of it."""
        return KernelUse(key=str(self.key), kernels=self.in_words, planned=self.planned, calls=self.calls)


def conservative(key: Key, device: Device) -> Choice:
    """One kernel at every M, for a shape that no plan has."""
    return Choice(key, device, (_conservative(key, device),))


def _conservative(key: Key, device: Device) -> str:
    if device.type == "cpu" or key.operator in NORMS:
        return "samebits"
    aligned = key.dtype != "fp32" and key.n % ALIGNED == 0 and key.k % ALIGNED == 0
    # Elsewhere what batch-invariant mode would have called.
    return RESTRICTED if aligned and not device.below_sm90 else "vllm"


def choices_of(plan: Plan) -> Mapping[Key, Choice]:
    """What a plan says of the operators that an engine is given kernels for.

    Raises:
        UsageError: a kernel cannot run in an engine, and no other of its class can.
    """
    cases = [case for case in plan.cases if case.operator in OPERATORS and case.chosen is not None]
    # With a result of another dtype than its inputs' an engine calls none of them.
    found = [_choice(case, plan.device) for case in cases if case.precision.input == case.precision.output]
    return {choice.key: choice for choice in found}


def _choice(case: CasePlan, device: Device) -> Choice:
    ranges = [(_usable(one.arm, case, device), one.last) for one in case.stretches]
    merged = [(name, list(same)[-1][1]) for name, same in groupby(ranges, key=lambda one: one[0])]
    key = Key(case.operator, case.shape.n or 0, case.shape.k, case.precision.input)
    lasts = tuple(last for _, last in merged if last is not None)
    return Choice(key, device, tuple(name for name, _ in merged), lasts, planned=True)


def _usable(name: str, case: CasePlan, device: Device) -> str:
    """The kernel itself, or another of the same class, which has the same bits."""
    assert case.chosen is not None
    reason = why_not(name, case.operator, device)
    if not reason:
        return name
    found = next((one for one in _mates(name, case) if not why_not(one, case.operator, device)), None)
    if found is None:
        others = "plan --run DIR --arm NAMES chooses among others"
        raise UsageError(
            f"{case.key}: {name} cannot run in an engine: {reason}; no other kernel has its bits: {others}"
        )
    return found


def _mates(name: str, case: CasePlan) -> Iterator[str]:
    """The other kernels of its class, the best one first: torch's own without its workspace is as fast as any."""
    assert case.chosen is not None
    if name == DEFAULT_ARM and RESTRICTED in case.chosen.arms:
        yield RESTRICTED
    yield from (case.steady, *case.chosen.arms)


def replaced(plan: Plan) -> Iterator[str]:
    """A line for each case in which another kernel of its class stands for one that cannot run in an engine."""
    for case in plan.cases:
        planned = case.stretches if case.operator in OPERATORS else ()
        for name in dict.fromkeys(one.arm for one in planned):
            if (other := _usable(name, case, plan.device)) != name:
                yield f"{case.key}: {other} for {name}, with the same bits: {why_not(name, case.operator, plan.device)}"
