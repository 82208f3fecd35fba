"""A plan, as it is written to a file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kernels_bench.records.cases import Device, Precision, Shape
from kernels_bench.records.latest_records import State
from kernels_bench.records.selection import Selection
from profiles.instruments.environment import Environment
from profiles.run_files.record import Record

Basis = Literal["proven", "sampled"]
"""What says that all kernels of a class have the same bits: ``proven``: the same order of addition, read out of each at
every M tried, beside equal digests; ``sampled``: equal digests alone."""


class BitClass(Record):
    """Kernels that gave the same bits at every M tried.

    Attributes:
        arms: who computes it, at least one.
        basis: what says so.
        order: in words, where it was read of all of them and is one; else empty.
        sizes: each M whose results were digested in all of them.
        digests: of these results, by M.
    """

    arms: tuple[str, ...]
    basis: Basis
    order: str = ""
    sizes: tuple[int, ...]
    digests: dict[int, str]


class LeftOut(Record):
    """A kernel that is not in the plan.

    Attributes:
        arm: whose.
        reason: a sentence's end, such as ``its bits changed with the batch``.
    """

    arm: str
    reason: str


class Stretch(Record):
    """A range of M, and the kernel for it.

    Attributes:
        first: the smallest M.
        last: the largest; None of the last range.
        arm: whose kernel.
    """

    first: int
    last: int | None
    arm: str


class Price(Record):
    """What the plan costs at one M.

    Attributes:
        m: number of rows.
        state: what the L2 held.
        arm: the plan's kernel there.
        planned_us: its median.
        default_us: the default kernel's median.
        error: of the quotient, relative: half the width of its 95 % interval, about.
    """

    m: int
    state: State
    arm: str
    planned_us: float
    default_us: float
    error: float

    @property
    def ratio(self) -> float:
        """How many times as long as the default kernel."""
        return self.planned_us / self.default_us


class Today(Record):
    """What the plan is beside the kernel that somebody uses now.

    Attributes:
        arm: whose kernel that is.
        same_bits: whether it is of the plan's class, so that to follow the plan changes no bit.
        mean: the plan's time over its, a geometric mean weighted by `Plan.weights`, in the state of the L2 that kernels
            are chosen by; None where it was not timed at each M that counts.
    """

    arm: str
    same_bits: bool
    mean: float | None


class CasePlan(Record):
    """Which kernel to use for one operator at one shape and dtype.

    Attributes:
        operator: what is computed.
        shape: its sizes.
        precision: its dtypes.
        default_arm: the kernel that all are compared with.
        default_keeps: whether the default kernel kept its bits by itself.
        chosen: the class that the plan takes its kernels from; None where there is none.
        stretches: M ascending, without a gap from 1 on; none without a class.
        steady: the class's kernel for batches that the plan says nothing of: the best one alone.
        state: the state of the L2 in which kernels were chosen.
        prices: at each M timed, warm and cold.
        mean: the price in the state chosen by, a geometric mean weighted by `Plan.weights`; None where the default
            kernel was not timed.
        means: the same by state.
        others: further classes, those of less price first.
        left_out: kernels in no class, and why.
        apart: for each of ``others``, what told it from the chosen class.
        today: beside the kernel that is used now, where one was named and was measured.
    """

    operator: str
    shape: Shape
    precision: Precision
    default_arm: str
    default_keeps: bool
    chosen: BitClass | None = None
    stretches: tuple[Stretch, ...] = ()
    steady: str = ""
    state: State = "cold"
    prices: tuple[Price, ...] = ()
    mean: float | None = None
    means: dict[State, float] = Field(default_factory=dict)
    others: tuple[BitClass, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    apart: tuple[str, ...] = ()
    today: Today | None = None

    @property
    def key(self) -> str:
        """What identifies it in a plan, such as ``linear/4096x4096/bf16``."""
        return f"{self.operator}/{self.shape.token}/{self.precision}"

    def arm_at(self, m: int) -> str:
        """Whose kernel the plan has for M rows; empty without a class."""
        return next((one.arm for one in self.stretches if one.first <= m and (one.last is None or m <= one.last)), "")


class Plan(Record):
    """Which kernels to use on one device.

    Attributes:
        schema_version: of this file.
        created: UTC, ISO 8601.
        run: the directory with all that was measured, as it was called then.
        selection: what was measured.
        device: what it is for.
        environment: versions, settings and hardware that it depends on.
        plugins: digests of users' files that its kernels come from, by arm.
        weighting: what the weights were called.
        weights: how much each M counts in a mean; they add up to 1.
        universe: of how many rows each case's batches were chosen.
        cases: what to use for each.
    """

    schema_version: Literal[1] = 1
    created: str
    run: str
    selection: Selection
    device: Device
    environment: Environment
    plugins: dict[str, str]
    weighting: str
    weights: dict[int, float]
    universe: int
    cases: tuple[CasePlan, ...]
