"""A plan, as it is written to a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kernels_bench.records.cases import PRECISIONS, Device, Precision, Shape
from kernels_bench.records.latest_records import State
from kernels_bench.records.selection import Selection
from profiles.instruments.environment import Environment
from profiles.run_files.record import Record

Basis = Literal["proven", "sampled"]
"""What says that all kernels of a class have the same bits: ``proven``: the same order of addition, read out of each at
every M tried, beside equal digests; ``sampled``: equal digests alone."""


_NAME = re.compile(r"[^/,:\[\]\x00-\x20\x7f]+(\[[A-Za-z0-9_.+-]{1,60}\])?")


def _kernel_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no kernel's name: expected ARM, or ARM[LABEL] of one of its candidates")
    return name


KernelName = Annotated[str, AfterValidator(_kernel_name)]
"""``ARM``, or ``ARM[LABEL]`` of one of its candidates."""
Rows = Annotated[int, Field(ge=1, lt=1 << 31)]
"""A number of rows, M."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A time, or the quotient of two."""


class BitClass(Record):
    """Kernels that gave the same bits at every M tried.

    Attributes:
        arms: who computes it, at least one.
        basis: what says so.
        order: in words, where it was read of all of them and is one; else empty.
        sizes: each M whose results were digested in all of them.
        digests: of these results, by M.
        data: digest of the rows and weights, see `kernels_bench.records.results.Verification`.
    """

    arms: tuple[KernelName, ...] = Field(min_length=1)
    basis: Basis
    order: str = ""
    sizes: tuple[Rows, ...] = Field(min_length=1)
    digests: dict[Rows, str]
    data: str = ""

    @model_validator(mode="after")
    def _each_size_has_its_digest(self) -> Self:
        # A class without digests would agree with whatever bits it is compared with.
        if list(self.sizes) != sorted(self.digests):
            raise ValueError("sizes are not the M of its digests, ascending")
        return self


class LeftOut(Record):
    """A kernel that is not in the plan.

    Attributes:
        arm: whose.
        reason: a sentence's end, such as ``its bits changed with the batch``.
        slower: of a candidate that was timed roughly and not tried further, its time over the fastest one's at the M
            where that is least; None of all others.
    """

    arm: str
    reason: str
    slower: float | None = None


class Stretch(Record):
    """A range of M, and the kernel for it.

    Attributes:
        first: the smallest M.
        last: the largest; None of the last range.
        arm: whose kernel; ``ARM[LABEL]`` is one of an arm's candidates.
    """

    first: Rows
    last: Rows | None
    arm: KernelName


class Price(Record):
    """What the plan costs at one M.

    Attributes:
        m: number of rows.
        state: what the L2 held.
        arm: the plan's kernel there.
        planned_us: its median.
        default_us: the default kernel's median.
        error: of the quotient, relative: half the width of its 95 % interval, about.
        length: tokens of every sequence, where rows are sequences.
    """

    m: Rows
    state: State
    arm: KernelName
    planned_us: Positive
    default_us: Positive
    error: float
    length: Annotated[int, Field(ge=1)] | None = None

    @property
    def load(self) -> str:
        """What was computed, such as ``16``, or ``16 of 2048`` where rows are sequences of so many tokens."""
        return str(self.m) if self.length is None else f"{self.m} of {self.length}"

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
        us: its median at each M timed, in that state; of sequences the geometric mean over their lengths.
    """

    arm: str
    same_bits: bool
    mean: Positive | None
    us: dict[Rows, Positive] = Field(default_factory=dict)


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
    mean: Positive | None = None
    means: dict[State, Positive] = Field(default_factory=dict)
    others: tuple[BitClass, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    apart: tuple[str, ...] = ()
    today: Today | None = None

    @model_validator(mode="after")
    def _says_one_kernel_for_every_size(self) -> Self:
        # Plans are files that people edit and pass on: what one says is taken at its word in an engine.
        if wrong := next(self._wrong(), ""):
            raise ValueError(f"{self.key}: {wrong}")
        return self

    def _wrong(self) -> Iterator[str]:
        shape, names = self.shape, [one.arm for one in self.stretches]
        if str(self.precision) not in PRECISIONS:
            yield f"dtype {self.precision} is unknown: known are {', '.join(PRECISIONS)}"
        if any(size is not None and size < 1 for size in (shape.k or None, shape.n)):
            yield f"{shape.token} is no shape"
        if len(self.apart) != len(self.others):
            yield f"{len(self.others)} other classes, and {len(self.apart)} reasons for them"
        if self.chosen is None:
            if names or self.prices:
                yield "ranges of M or prices, and no class that their kernels are of"
            return
        yield from _wrong_ranges(self.stretches)
        for name in [*names, self.steady]:
            if name not in self.chosen.arms:
                yield f"{name or 'no kernel'} is not of the class {', '.join(self.chosen.arms)}, whose bits are known"
        for price in self.prices:
            if price.arm != self.arm_at(price.m):
                yield f"the price at M={price.m} is of {price.arm}, and the kernel there is {self.arm_at(price.m)}"

    @property
    def key(self) -> str:
        """What identifies it in a plan, such as ``linear/4096x4096/bf16``."""
        return f"{self.operator}/{self.shape.token}/{self.precision}"

    def arm_at(self, m: int) -> str:
        """Whose kernel the plan has for M rows; empty without a class."""
        return next((one.arm for one in self.stretches if one.first <= m and (one.last is None or m <= one.last)), "")


def _wrong_ranges(ranges: Sequence[Stretch]) -> Iterator[str]:
    """What keeps some ranges from having each M once, from 1 on without an end."""
    if not ranges or ranges[0].first != 1 or ranges[-1].last is not None:
        yield "its ranges of M do not go from 1 on without an end"
    for one, after in pairwise(ranges):
        if one.last is None or one.last < one.first or after.first != one.last + 1:
            last = "without an end" if one.last is None else f"up to M={one.last}"
            yield f"its ranges of M have a gap or overlap: from {one.first} {last}, then from M={after.first} on"


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
    weights: dict[Rows, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    universe: int
    cases: tuple[CasePlan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_each_case_once(self) -> Self:
        keys = [case.key for case in self.cases]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"it has {twice} twice")
        return self
