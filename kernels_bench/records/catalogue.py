"""What could be run on a device, as ``--list`` shows it."""

from __future__ import annotations

from typing import Literal

from kernels_bench.records.cases import Claims, Device, Shape, candidate_name, process_of
from kernels_bench.records.definition import Definition
from profiles.run_files.record import Record


class CandidateInfo(Record):
    """A candidate as ``--list`` shows it, see `kernels_bench.arms.Candidate`.

    Attributes:
        label: as users type it, within brackets.
        offers: operators that it has.
        dtypes: of inputs that it is for; all of them where there are none.
        order: what it says of its order of addition.
    """

    label: str
    offers: tuple[str, ...]
    dtypes: tuple[str, ...] = ()
    order: str = ""


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
        candidates: further kernels that it has; none of what is one of them itself.
        lacking: which candidates it has not here, and how they are had; empty if none.
        dtypes: of inputs that it is for; all of them where there are none.
        order: what a candidate says of its order of addition.
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
    candidates: tuple[CandidateInfo, ...] = ()
    lacking: str = ""
    dtypes: tuple[str, ...] = ()
    order: str = ""

    @property
    def process(self) -> str:
        """Name of the arm in whose process it runs: its own, unless it is a candidate."""
        return process_of(self.name)

    def candidate(self, label: str) -> ArmInfo | None:
        """One of its candidates in an arm's place; None where it has none of that label."""
        found = next((one for one in self.candidates if one.label == label), None)
        update = None if found is None else {
            "name": candidate_name(self.name, label),
            "summary": f"a candidate of {self.name}",
            "offers": found.offers,
            "dtypes": found.dtypes,
            "order": found.order,
            "default_for": (),
            "candidates": (),
            "lacking": "",
        }  # fmt: skip
        return None if update is None else self.model_copy(update=update)


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
        rows_are: ``rows``, ``packed``, ``routed``, ``sharded``, ``sequences`` or ``prefills``, which decides on the
            relations that have a meaning.
        by_request: types of devices on which it is measured only when it, or its family, is asked for.
        definition: what was said of an operator that is described by what one row of it is; None of others.
        own: whether a user defined it.
        depends_on_batch: why a row's result depends on its batch by definition; empty where it must not.
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
    rows_are: Literal["rows", "packed", "routed", "sharded", "sequences", "prefills"]
    by_request: tuple[str, ...] = ()
    definition: Definition | None = None
    own: bool = False
    depends_on_batch: str = ""


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
