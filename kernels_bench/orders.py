"""``order``: read out in which order kernels add, each arm's in a worker of its own, and tell it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernels_bench.cases import Case, Record
from kernels_bench.plan import make_plan
from kernels_bench.progress import Display
from kernels_bench.protocol import Failure, OrderRead, ReadOrder
from kernels_bench.records import Order
from kernels_bench.results import ResultsError, Selection
from kernels_bench.session import catalogue_of
from kernels_bench.wording import sizes_text
from kernels_bench.workers import Crew

_LONG = 160
"""Characters of an order in words from which on an outline says more."""


class CaseOrder(Record):
    """What came out for one case.

    Attributes:
        case: which.
        read: its orders; None where they could not be read.
        reason: why not.
    """

    case: Case
    read: OrderRead | None = None
    reason: str = ""

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
    plan = make_plan(catalogue, selection)
    scope = [catalogue.device.name]
    display.phase("order", len(plan.cases))
    found: list[CaseOrder] = []
    with (
        tempfile.TemporaryDirectory() as logs,
        Crew(plan.arms, Path(logs), selection.timeout_s + 30, lambda up: scope.append(up.provenance)) as crew,
    ):
        crew.start()
        for case in plan.cases:
            request = ReadOrder(
                case=case,
                seed=plan.seed,
                sizes=selection.batch or plan.sweeps[case.operator].sizes,
                budget_s=selection.timeout_s,
                drawn=drawn,
            )
            reply = crew.ask(case.arm, request)
            display.step(case.key)
            if isinstance(reply, Failure):
                found.append(CaseOrder(case=case, reason=reply.reason))
            else:
                assert isinstance(reply, OrderRead)
                found.append(CaseOrder(case=case, read=reply))
    return found, ", ".join(dict.fromkeys(scope))


def exit_status(found: Sequence[CaseOrder]) -> int:
    """1: some order depends on M; 3: else, some could not be read; 0: else."""
    statuses = {one.order.status for one in found}
    return 1 if "variant" in statuses else 3 if "unknown" in statuses else 0


def in_words(found: Sequence[CaseOrder], scope: str) -> Iterator[str]:
    """Each case's orders, and what a proof covers."""
    for one in found:
        yield from _case_in_words(one)
    if any(one.order.status == "proven" for one in found):
        yield (
            "proven: the tree was read out at one M, and a certificate that no other tree passes holds at every other; "
            "all rows of a launch agree; columns were drawn anew for every launch, so each was asked, not each for all"
        )
        yield f"it holds for {scope}; that the order does not depend on the data was checked with random terms"


def _case_in_words(one: CaseOrder) -> Iterator[str]:
    order = one.order
    scope = f"K={order.terms}, {order.columns} columns, {order.launches} launches, {order.seconds:.1f} s"
    yield f"{one.case.key}: {order.status}" + (f" ({order.reason})" if order.reason else "")
    outlines = one.read.outlines if one.read is not None else ()
    for found, lines in zip(order.found, outlines, strict=True):
        yield f"  {sizes_text(found.sizes)}: {found.words}  [{found.digest}]"
        if len(found.words) > _LONG:
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
                path = directory / f"{one.case.key.replace('/', '-').replace(':', '-')}-M{order.sizes[0]}.svg"
                path.write_text(text)
                yield path
    except OSError as error:
        raise ResultsError(f"cannot write to {directory}: {error.strerror}", status=3) from error
