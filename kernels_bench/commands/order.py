"""``order``: read out in which order kernels add, each arm's in a worker of its own, and tell it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernels_bench.commands.workload import Workload, make_workload
from kernels_bench.console.progress import Display
from kernels_bench.order.trees.description import IRREGULAR
from kernels_bench.records.cases import LOGITS, Case, Logits
from kernels_bench.records.catalogue import Catalogue
from kernels_bench.records.manifest import ResultsError
from kernels_bench.records.results import Order
from kernels_bench.records.selection import Selection
from kernels_bench.report.summary.findings_text import sizes_text
from kernels_bench.workers.ask_catalogue import catalogue_of
from kernels_bench.workers.messages import Failure, OrderRead, ReadOrder, Reply
from kernels_bench.workers.pool import WorkerPool
from kernels_bench.workers.scratch import scratch
from profiles.errors import ExitStatus
from profiles.files import write_whole
from profiles.run_files.record import Record

KEYS = {"cuda": (129, 1025), "cpu": (17, 65)}
"""How many keys attention adds by default: one more than tiles have, so that the last one stands alone."""

_NOT_PLAIN = re.compile(r"[^\w.]+")
_LONG = 160
"""Characters of an order in words from which on an outline says more."""


class CaseOrder(Record):
    """What came out for one case.

    Attributes:
        case: which.
        length: keys of every sequence, where rows are sequences.
        logits: likewise how they go from key to key.
        read: its orders; None where they could not be read.
        reason: why not.
    """

    case: Case
    length: int | None = None
    logits: Logits = "flat"
    read: OrderRead | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The case's key, and what was read of it where there is more than one sum."""
        return self.case.key if self.length is None else f"{self.case.key} {self.length} keys, {self.logits} logits"

    @property
    def order(self) -> Order:
        """What is known of the order."""
        return self.read.order if self.read is not None else Order(status="unknown", reason=self.reason)


def read_cases(selection: Selection, drawn: bool, display: Display) -> tuple[list[CaseOrder], str]:
    """The orders of every case that is chosen, at every M that is chosen, and what they hold for.

    Raises:
        UsageError: an unknown name, or one that does not fit.
        WorkerError: nothing can be run.
    """
    catalogue = catalogue_of(selection)
    workload = make_workload(catalogue, selection)
    scope = [catalogue.device.name]
    questions = list(_questions(catalogue, workload, selection, drawn))
    display.phase("order", len(questions))
    found: list[CaseOrder] = []
    with (
        tempfile.TemporaryDirectory(dir=scratch()) as logs,
        WorkerPool(workload.arms, Path(logs), selection.timeout_s + 30, lambda up: scope.append(up.provenance)) as pool,
    ):
        pool.start()
        for asked in questions:
            one = _told(asked, pool.ask(asked.case.arm, asked))
            display.step(one.name)
            found.append(one)
    return found, ", ".join(dict.fromkeys(filter(None, scope)))


def _questions(catalogue: Catalogue, workload: Workload, selection: Selection, drawn: bool) -> Iterator[ReadOrder]:
    """One a case; of attention one a number of keys, and a kind of logits."""
    of_sequences = {one.name: one.precisions[0] for one in catalogue.operators if any(one.lengths.values())}
    for case in workload.cases:
        sweep, many = workload.sweeps[case.operator], case.operator in of_sequences
        # In fp16 attention's order cannot be read, which is told to who asks for it.
        if many and selection.dtype is None and str(case.precision) != of_sequences[case.operator]:
            continue
        whole = ReadOrder(
            case=case,
            seed=workload.seed,
            sizes=selection.batch or (sweep.digested if many else sweep.sizes),
            budget_s=selection.timeout_s,
            drawn=drawn,
        )
        if not many:
            yield whole
            continue
        for length in selection.length or KEYS[catalogue.device.scale]:
            yield from (whole.model_copy(update={"length": length, "logits": kind}) for kind in LOGITS)


def _told(asked: ReadOrder, reply: Reply) -> CaseOrder:
    known = CaseOrder(case=asked.case, length=asked.length, logits=asked.logits)
    if isinstance(reply, Failure):
        return known.model_copy(update={"reason": reply.reason})
    assert isinstance(reply, OrderRead)
    return known.model_copy(update={"read": reply})


def exit_status(found: Sequence[CaseOrder]) -> int:
    """1: some order depends on M; 3: else, some could not be read; 0: else."""
    statuses = {one.order.status for one in found}
    if "variant" in statuses:
        return ExitStatus.VERDICT
    return ExitStatus.INCOMPLETE if "unknown" in statuses else ExitStatus.GOOD


def in_words(found: Sequence[CaseOrder], scope: str) -> Iterator[str]:
    """Each case's orders, and what a proof covers."""
    for one in found:
        yield from _case_in_words(one)
    if any(one.order.status == "proven" for one in found):
        yield (
            "proven: a certificate that no other tree passes holds at every M named above; all rows of a launch agree; "
            "columns were drawn anew for every M, so each was asked, not each for all"
        )
        yield f"it holds for {scope}; that the order does not depend on the data was checked with random terms"


def _case_in_words(one: CaseOrder) -> Iterator[str]:
    order = one.order
    scope = f"K={order.terms}, {order.columns} columns, {order.launches} launches, {order.seconds:.1f} s"
    yield f"{one.name}: {order.status}" + (f" ({order.reason})" if order.reason else "")
    outlines = one.read.outlines if one.read is not None else ()
    for found, lines in zip(order.found, outlines, strict=True):
        yield f"  {sizes_text(found.sizes)}: {found.words}  [{found.digest}]"
        if len(found.words) > _LONG or IRREGULAR in found.words:
            yield from (f"    {line}" for line in lines)
    if order.witness:
        yield f"  {order.witness}"
    if order.found:
        yield f"  {scope}"


def draw(found: Sequence[CaseOrder], directory: Path) -> Iterator[Path]:
    """Write every order's picture, and name the files.

    Raises:
        ResultsError: one cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for one in found:
            pictures = one.read.pictures if one.read is not None else ()
            for order, text in zip(one.order.found, pictures, strict=True):
                path = directory / f"{_NOT_PLAIN.sub('-', one.name)}-M{order.sizes[0]}.svg"
                write_whole(path, text)
                yield path
    except OSError as error:
        raise ResultsError(f"cannot write to {directory}: {error.strerror}", status=ExitStatus.INCOMPLETE) from error
