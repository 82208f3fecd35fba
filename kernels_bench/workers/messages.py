"""What parent and workers say to each other: one request, one reply, as pickled records over a socket pair."""

from __future__ import annotations

from kernels_bench.records.cases import Case, Claims, Device, Load, Logits, Record, Shape
from kernels_bench.records.results import ArmStart, Ceiling, Counterexample, Order, Timing, Verification


class ArmInfo(Record):
    """An arm as ``--list`` shows it.

    Attributes:
        name: as users type it.
        claims: the relations that the arm says of itself it keeps.
        summary: one line.
        environment: set in its worker before anything is imported.
        unavailable: why it cannot run here; empty if it can.
        caveat: what a reader of its results here must know; empty if nothing.
        plugin: path of the user's file that it comes from, if any.
        digest: of that file's bytes.
        compiles: its kernels are compiled when they are first used here.
        offers: operators that it has; None where that is known only once it is loaded.
        default_for: operators of which it is the default kernel.
        brief: operators over which it takes long, see `kernels_bench.arms.Arm`.
    """

    name: str
    claims: Claims
    summary: str
    environment: dict[str, str]
    unavailable: str
    caveat: str = ""
    plugin: str | None = None
    digest: str = ""
    compiles: bool = False
    offers: tuple[str, ...] | None = None
    default_for: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()


class OperatorInfo(Record):
    """An operator as ``--list`` shows it.

    Attributes:
        name: as users type it.
        summary: the mathematics.
        dims: sizes that its shapes have, in order.
        shapes: shapes known by name.
        usual: names of the shapes measured by default on a GPU.
        quick: names of the shapes of a short run there; none where it leaves the operator out.
        precisions: dtypes measured by default.
        universe: rows compared by default, by type of device.
        family: name of the file it stands in, such as ``gemm``; asked for by that name, all of it is measured.
        timed: rows of the batches that are timed by default, by type of device; none where speed is not measured.
        lengths: tokens of the sequences in those batches, likewise; none where rows are no sequences.
        timed_shapes: names of the shapes that are timed by default, where rows are sequences.
    """

    name: str
    summary: str
    dims: tuple[str, ...]
    shapes: tuple[Shape, ...]
    usual: tuple[str, ...]
    quick: tuple[str, ...]
    precisions: tuple[str, ...]
    universe: dict[str, int]
    family: str
    timed: dict[str, tuple[int, ...]]
    lengths: dict[str, tuple[int, ...]]
    timed_shapes: tuple[str, ...]


class RelationInfo(Record):
    """A relation as ``--list`` shows it."""

    name: str
    summary: str
    needs_cuda: bool


class Catalogue(Record):
    """Everything that could be run here, read by a process of its own so that the parent need not import it."""

    device: Device
    arms: tuple[ArmInfo, ...]
    operators: tuple[OperatorInfo, ...]
    relations: tuple[RelationInfo, ...]


class AskCatalogue(Record):
    """Request: the catalogue, with the arms of some plugins."""

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
        order_s: seconds for reading the order of addition at every M; 0 leaves it alone.
        memory: bytes of the device's that it takes, about.
    """

    case: Case
    seed: int
    universe: int
    relations: tuple[str, ...]
    sizes: tuple[int, ...]
    digest_sizes: tuple[int, ...]
    asked: tuple[int, ...] = ()
    order_s: float = 0.0
    memory: int = 0


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
    relation: str
    reference: str
    company: str
    launch: str


class Reproduced(Record):
    """Answer to `Reproduce`: the counterexample, or None where the bits agree."""

    counterexample: Counterexample | None


class PrepareTiming(Record):
    """Request: make a case ready to be timed at one load; answered with `Turned`.

    Attributes:
        load: the batch.
        largest_m: rows of the largest batch of this case.
        calls: of a warm sample, to take as many as before; None to find out how many make a good one.
    """

    case: Case
    seed: int
    load: Load
    largest_m: int
    calls: int | None = None


class TakeTurn(Record):
    """Request: take a few samples; answered with `Turned`."""


class Turned(Record):
    """Answer to `PrepareTiming` and `TakeTurn`: whether enough samples are there."""

    done: bool


class FinishTiming(Record):
    """Request: hand over what was sampled; answered with `Timing`."""


class MeasureCeiling(Record):
    """Request: the device's ceilings; answered with `Ceiling`."""


class Release(Record):
    """Request: give memory back; answered with `Released`."""


class Released(Record):
    """Answer to `Release`.

    Attributes:
        kept: bytes of the device's memory that the process could not give back, though nothing uses them.
    """

    kept: int = 0


class Failure(Record):
    """Answer to any request that could not be fulfilled.

    Attributes:
        status: ``unsupported`` where the arm does not offer it, else ``failed``.
        reason: one line.
        out_of_memory: another try, with the device to itself, may succeed.
        lost: the process can do no more (an illegal memory access, say) and ends now.
    """

    status: str
    reason: str
    out_of_memory: bool = False
    lost: bool = False


Request = (
    AskCatalogue
    | LoadArm
    | Verify
    | ReadOrder
    | Reproduce
    | PrepareTiming
    | TakeTurn
    | FinishTiming
    | MeasureCeiling
    | Release
)
Reply = Catalogue | ArmStart | Verification | OrderRead | Reproduced | Turned | Timing | Ceiling | Released | Failure
