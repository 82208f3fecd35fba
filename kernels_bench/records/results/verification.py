"""What is found out of bits: counterexamples, accuracy, orders of addition."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kernels_bench.records.cases import Case, Launch
from kernels_bench.records.results.status import Cause, Status
from profiles.run_files.record import Record

SURE = 0.99
"""The probability with which what a relation's ``power`` names would have been seen."""

BatchName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}(:-?[0-9]{1,18}){1,8}$")]
"""``KIND:M`` or ``KIND:M:ARGUMENT:…``, see `kernels_bench.relations.spec`."""


class BatchRef(Record):
    """A company and how it was launched.

    Attributes:
        spec: see `kernels_bench.relations.company`.
        size: M.
        launch: how, see `kernels_bench.records.cases.Launch`.
        position: where the counterexample's line stands in its result; of most operators a line is a row.
    """

    spec: BatchName
    size: int
    launch: Launch
    position: int


class Counterexample(Record):
    """One row whose output has different bits in two companies.

    Attributes:
        relation: the relation that chose the companies.
        reference: the company that gave the expected bits.
        company: the company under test.
        row: the row's identity in the universe.
        output: which of the operator's results (0 for most).
        index: index of the first differing element within the row's flattened output.
        expected: that element in the reference company.
        got: that element in the company under test.
        expected_bits: the same, as hexadecimal text.
        got_bits: the same, as hexadecimal text.
        ulp: distance of the two in units in the last place; None where one is NaN.
        max_ulp: the largest distance over all elements that differ.
        elements: how many elements differ between the two companies.
        rows: how many rows differ.
        rows_compared: how many rows the companies have in common.
        command: reproduces this alone, in a few seconds.
        token: where rows are sequences, the place in its sequence of the token that differs.
        before: where the difference depends on earlier calls, specs of the batches launched before the company
            under test, in this order; its reference was launched after it. None where it does not.
        seed: of the rows, where it is not the run's.
    """

    relation: str
    reference: BatchRef
    company: BatchRef
    row: int
    output: int
    index: int
    expected: float
    got: float
    expected_bits: str
    got_bits: str
    ulp: int | None
    max_ulp: int | None
    elements: int
    rows: int
    rows_compared: int
    command: str
    token: int | None = None
    before: tuple[BatchName, ...] | None = None
    seed: int | None = None


class RelationResult(Record):
    """What one relation found.

    Attributes:
        relation: its name.
        status: ``held``: no difference; ``broken``: a counterexample; ``defined``: a difference only between batches of
            other rows, on which the result depends by the operator's definition; ``inconclusive``: a difference that
            need not be this relation's, since the kernel is not even repeatable; ``unsupported`` and ``failed``:
            see ``reason``.
        reason: for every status but ``held`` and ``broken``; of the latter, why it ended early, if it did.
        companies: how many companies were compared with a reference.
        rows: how many rows' outputs were compared, over all companies.
        sizes: numbers of rows, M, of these companies, ascending; empty in records of schema 2.
        broken: specs of the companies in which some row differed, in the order they were tried: where a threshold
            lies can be read off them.
        counterexample: the first one.
        elements: how many elements were compared, over all companies.
        power: of a change that comes in one launch of so many, or more often, some would have been seen with a
            probability of 99 %; 0 where nothing was launched.
        cut: whether there were more companies to try than there was time.
        binding: whether the verdict counts it; it does not where the arm may leave the relation to its callers, and
            does not claim it.
        seconds: how long it took, over the run's own rows; 0 in older records.
    """

    relation: str
    status: Literal["held", "broken", "defined", "inconclusive", "unsupported", "failed"]
    reason: str = ""
    companies: int = 0
    rows: int = 0
    sizes: tuple[int, ...] = ()
    broken: tuple[BatchName, ...] = ()
    counterexample: Counterexample | None = None
    elements: int = 0
    power: int = 0
    cut: bool = False
    binding: bool = True
    seconds: float = 0.0


class Accuracy(Record):
    """Distance from the float64 reference.

    Attributes:
        worst: largest error as a share of what the operator allows; above 1 the kernel is wrong.
        row: the row's identity where it was found.
        company: spec of the company where it was found.
        index: index within the row's flattened output.
        expected: the reference there.
        got: the kernel's result there.
        rows: how many rows were compared with the reference.
        token: where rows are sequences, the place in its sequence of the token found.
    """

    worst: float
    row: int
    company: str
    index: int
    expected: float
    got: float
    rows: int
    token: int | None = None


class FoundOrder(Record):
    """An order in which a kernel adds.

    Attributes:
        digest: equal for equal orders.
        words: the order in a sentence.
        sizes: numbers of rows, M, at which it is this one, ascending.
    """

    digest: str
    words: str
    sizes: tuple[int, ...]


class Order(Record):
    """What was read of the order in which one case's terms are added, see `kernels_bench.order`.

    Attributes:
        status: ``proven``: the same at every M; ``variant``: not the same, or not in all rows of a launch;
            ``unknown``: not read at some M, see ``reason``; ``unsupported``: it cannot be read off this operator's
            results.
        reason: for ``unknown`` and ``unsupported``.
        found: every order, that of the smallest M first.
        witness: for ``variant``, two terms that meet elsewhere, in words.
        terms: how many are added.
        columns: sums a row whose terms were chosen.
        launches: how many there were.
        seconds: wall time.
    """

    status: Literal["proven", "variant", "unknown", "unsupported"]
    reason: str = ""
    found: tuple[FoundOrder, ...] = ()
    witness: str = ""
    terms: int = 0
    columns: int = 0
    launches: int = 0
    seconds: float = 0.0


def was_same_data(one: str, other: str, same_source: bool) -> bool:
    """Whether two verifications were given the same rows and weights, as far as that is known.

    Args:
        one: digest of one's, see `Verification`; empty where it is not known.
        other: the other's.
        same_source: whether the same samebits made both, which then are the same.
    """
    return one == other if one and other else same_source


class Verification(Record):
    """The bits of one case.

    Attributes:
        kind: tells it from records of other kinds.
        case: what was verified.
        status: how it ended.
        reason: for every status but ``measured``.
        cause: likewise; None in runs of before it was kept, see `kernels_bench.records.causes`.
        wrong: why the kernel is wrong, invariant or not; empty if it is right.
        relations: what each relation found.
        accuracy: distance from the reference; None if the kernel never returned.
        digests: digest of the first M rows' outputs, by M; equal digests of two arms mean the same bits.
        special_digest: the same of the special rows; empty where they depend on the batch or were not compared.
        universe: number of rows.
        lengths: tokens of sequences that the user named, which the first ones have; none where rows are no sequences.
        seconds: wall time.
        order: of addition; None where it was not to be read.
        fatal: the last relation took the worker's process down.
        depends_on_batch: why a row's result depends on its batch by the operator's definition; empty where it must not.
        data: digest of some of the rows and weights: runs in which it differs were given others; empty in runs of
            before it was kept.
        refused: where the kernel takes no more rows than ``universe``, fewer than it was asked for, its words for
            that; else empty.
    """

    kind: Literal["verification"] = "verification"
    case: Case
    status: Status
    reason: str = ""
    cause: Cause | None = None
    wrong: str = ""
    relations: tuple[RelationResult, ...] = ()
    accuracy: Accuracy | None = None
    digests: dict[int, str] = Field(default_factory=dict)
    special_digest: str = ""
    universe: int = 0
    lengths: tuple[int, ...] = ()
    seconds: float = 0.0
    order: Order | None = None
    fatal: bool = False
    depends_on_batch: str = ""
    data: str = ""
    refused: str = ""

    @property
    def key(self) -> str:
        """What identifies the verification in a run."""
        return self.case.key

    @property
    def verdict(
        self,
    ) -> Literal["variant", "sampled", "defined", "wrong", "inconclusive", "unsupported", "skipped", "failed"]:
        """What is known of the case's bits, in a word.

        ``sampled``: they were the same in every batch tried.  ``defined``: but for those that change them by the
        operator's definition.  Orders of addition that differ with the batch make it ``variant`` though no sample
        showed it, and whatever failed, since there are values whose sums differ.  The same order at every M makes
        nothing of it: bits depend on more than the order, see `order`.
        """
        if self.status != "measured":
            return self.status
        if self.wrong:
            return "wrong"
        statuses = {result.status for result in self.relations if result.binding}
        if "broken" in statuses or (self.order is not None and self.order.status == "variant"):
            return "variant"
        if "failed" in statuses:
            return "failed"
        return "defined" if "defined" in statuses else "sampled" if "held" in statuses else "inconclusive"

    def changed_by_calls(self, reason: str, broken: tuple[str, ...]) -> Verification:
        """The same where batches gave other bits after other calls, though no pair of launches showed it."""
        results = {one.relation: one for one in self.relations}
        before = results.get("history", RelationResult(relation="history", status="held"))
        update = {"status": "broken", "reason": reason, "broken": (*before.broken, *broken), "binding": True}
        results["history"] = before.model_copy(update=update)
        return self.model_copy(update={"relations": tuple(results.values())})

    @property
    def counterexample(self) -> Counterexample | None:
        """The first relation's first counterexample."""
        return next((r.counterexample for r in self.relations if r.counterexample is not None), None)


def power_of(launches: int) -> int:
    """Of a change that comes in one launch of so many, some of these launches would have shown one with `SURE`."""
    return int(1 / (1 - (1 - SURE) ** (1 / launches))) if launches else 0
