"""What parent and workers say to each other: one request, one reply, as pickled records over a socket pair."""

from __future__ import annotations

import math
from typing import Literal

from kernels_bench.records.cases import Case, Launch, Load, Logits
from kernels_bench.records.catalogue import Catalogue
from kernels_bench.records.results import ArmStart, Cause, Ceiling, Counterexample, Order, Rough, Timing, Verification
from profiles.run_files.record import Record

LARGE_COPIES = 5
"""How often rows and results of a large batch lie in memory at once: gathered, returned, kept, expected, compared."""


class AskCatalogue(Record):
    """Request: the catalogue, with the arms and operators of some plugins."""

    plugins: tuple[str, ...] = ()


class LoadArm(Record):
    """Request: load an arm; answered with `ArmStart`."""

    arm: str
    plugin: str | None = None


class Verify(Record):
    """Request: verify a case; answered with `Verification`.

    Attributes:
        relations: names, in order.
        sizes: every M of the sweep.
        universe: number of rows.
        digest_sizes: M's whose outputs are digested.
        asked: those of the sweep that the user named.
        lengths: tokens of sequences that the user named, where rows are sequences.
        beyond: whether a batch of more than 2^31 elements is to be tried, where memory allows.
        more_s: seconds for the relations' further comparisons.
        order_s: seconds for reading the order of addition at every M; 0 leaves it alone.
        order_if_kept: whether the order is wanted of a kernel only that kept its bits.
        memory: bytes of the device's that it takes, about.
        limit_s: seconds after which the answer is waited for no more.
    """

    case: Case
    seed: int
    universe: int
    relations: tuple[str, ...]
    sizes: tuple[int, ...]
    digest_sizes: tuple[int, ...]
    asked: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    beyond: bool = False
    more_s: float = 0.0
    order_s: float = 0.0
    order_if_kept: bool = False
    memory: int = 0
    limit_s: float = math.inf


class Revisit(Record):
    """Request to a fresh process: digest a case's results once more; answered with `Revisited`.

    Attributes:
        sizes: every M, in the order in which the first M rows are launched.
        lengths: as in `Verify`.
        special: whether the special rows are wanted too, right before the first M that is larger than they are many.
        views: those M at which rows that are a view of a wider tensor come first.
        opening: further M, each launched before the next larger one of ``sizes``; their rows' bits are compared with
            those that the last one's have in the same process.
        another: a case of another shape or dtype, as another layer's, whose kernel is called in turn with this one's
            once all this is done.
        memory: as in `Verify`.
    """

    case: Case
    seed: int
    universe: int
    sizes: tuple[int, ...]
    opening: tuple[int, ...] = ()
    another: Case | None = None
    special: bool = False
    views: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    memory: int = 0


class Revisited(Record):
    """Answer to `Revisit`: the digests by M, the special rows', and at which M rows had other bits.

    Attributes:
        digests: by M.
        special_digest: of the special rows.
        opened_otherwise: those of the opening M at which rows had other bits.
        otherwise_after_another: those M at which they had right after a call of the other case.
    """

    digests: dict[int, str]
    special_digest: str = ""
    opened_otherwise: tuple[int, ...] = ()
    otherwise_after_another: tuple[int, ...] = ()


class ReadOrder(Record):
    """Request: one case's orders of addition; answered with `OrderRead`.

    Attributes:
        sizes: every M.
        budget_s: seconds after which no further question is asked.
        drawn: whether the orders are to be drawn too.
        every: whether the orders at all M are wanted, or no more once two differ.
        length: keys of every sequence, where rows are sequences.
        logits: likewise how they go from key to key.
    """

    case: Case
    seed: int
    sizes: tuple[int, ...]
    budget_s: float
    drawn: bool = False
    every: bool = True
    length: int | None = None
    logits: Logits = "flat"


class OrderRead(Record):
    """Answer to `ReadOrder`.

    Attributes:
        order: what was found.
        outlines: each found order as indented lines.
        pictures: each found order as SVG, if they were asked for.
    """

    order: Order
    outlines: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[str, ...] = ()


class Reproduce(Record):
    """Request: one comparison alone; answered with `Reproduced`."""

    case: Case
    seed: int
    universe: int
    lengths: tuple[int, ...] = ()
    relation: str
    reference: str
    company: str
    launch: Launch
    before: tuple[str, ...] | None = None


class Reproduced(Record):
    """Answer to `Reproduce`.

    Attributes:
        counterexample: None where the bits agree.
        data: see `kernels_bench.records.results.Verification`.
    """

    counterexample: Counterexample | None
    data: str


class PrepareTiming(Record):
    """Request: make a case ready to be timed at one load; answered with `Turned`.

    Attributes:
        load: the batch.
        largest_m: rows of the largest batch of this case.
        calls: of a warm sample, to take as many as before; None to find out how many make a good one.
        verified: digest of the same rows' results as they were verified; empty if there is none.
    """

    case: Case
    seed: int
    load: Load
    largest_m: int
    calls: int | None = None
    verified: str = ""


class TakeTurn(Record):
    """Request: take a few samples of a case that is prepared; answered with `Turned`."""

    case: Case


class Turned(Record):
    """Answer to `PrepareTiming` and `TakeTurn`: whether enough samples are there."""

    done: bool


class FinishTiming(Record):
    """Request: hand over what was sampled of a case; answered with `Timing`."""

    case: Case


class Screen(Record):
    """Request: time a candidate roughly; answered with `Rough`.

    Attributes:
        sizes: every M.
        largest_m: rows of the largest batch of this case.
        length: tokens of every sequence, where rows are sequences.
        timed: whether it is timed; else it is called only, so that it is compiled, whoever else is at work.
    """

    case: Case
    seed: int
    sizes: tuple[int, ...]
    largest_m: int
    length: int | None = None
    timed: bool = True


class MeasureCeiling(Record):
    """Request: the device's ceilings; answered with `Ceiling`.

    Attributes:
        inputs: short names of the dtypes whose products are wanted: those of what is timed.
    """

    inputs: tuple[str, ...]


class Release(Record):
    """Request: give memory back; answered with `Released`."""


class Released(Record):
    """Answer to `Release`.

    Attributes:
        kept: bytes of the device's memory that the process could not give back, though nothing uses them.
    """

    kept: int = 0


class Begun(Record):
    """Not an answer yet: what others wrote is begun now, and from now on it has as long as the command line says."""


class Failure(Record):
    """Answer to any request that could not be fulfilled.

    Attributes:
        status: ``unsupported`` where the arm does not offer it, ``skipped`` where it was not asked, else ``failed``.
        reason: one line.
        cause: after ``out_of_memory`` another try, with the device to itself, may succeed.
        lost: the process can do no more (an illegal memory access, say) and ends now.
        mistake: what the user named cannot be used as it stands, so that there is no use in going on.
    """

    status: Literal["skipped", "unsupported", "failed"]
    reason: str
    cause: Cause = "other"
    lost: bool = False
    mistake: bool = False


Request = (
    AskCatalogue
    | LoadArm
    | Verify
    | Revisit
    | ReadOrder
    | Reproduce
    | PrepareTiming
    | TakeTurn
    | FinishTiming
    | Screen
    | MeasureCeiling
    | Release
)
Reply = (
    Catalogue
    | ArmStart
    | Verification
    | Revisited
    | OrderRead
    | Reproduced
    | Turned
    | Timing
    | Rough
    | Ceiling
    | Released
    | Failure
)
