"""What a relation's comparisons come to: counted, put together over other data, and laid at the right door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kernels_bench.records.results import Counterexample, RelationResult
from kernels_bench.verification.cause import NOT_REPEATABLE
from kernels_bench.verification.trials import TrialGroup

Found: TypeAlias = Literal["held", "defined", "unsupported", "failed", "broken"]


@dataclass
class Tally:
    """What was seen of one relation so far.

    Attributes:
        companies: batches that were compared, of all.
        rows: whose results were.
        elements: of these.
        sizes: every M.
        broken: specs of the batches that differ.
        first: of the first of them, the counterexample.
        defined: likewise where the operator's definition asks for the difference.
        blamed: why a difference is laid at another relation's door; empty where it is not.
    """

    companies: int = 0
    rows: int = 0
    elements: int = 0
    sizes: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    first: Counterexample | None = None
    defined: Counterexample | None = None
    blamed: str = ""

    def add(self, group: TrialGroup) -> None:
        """Count a group."""
        self.companies += len(group.comparisons)
        self.rows += len(group.alignment.ids)
        self.elements += group.elements
        self.sizes |= {company.size for company in group.companies}

    def result(
        self, relation: str, status: Found, reason: str, power: int, *, cut: bool, seconds: float
    ) -> RelationResult:
        """What it comes to.

        Args:
            relation: its name.
            status: what else happened to it.
            reason: why, where something did.
            power: see `RelationResult`, like what follows.
            cut: whether not all of its batches were tried.
            seconds: that it took.
        """
        broken = self.first is not None and not self.blamed
        if status == "held" and self.defined is not None:
            status = "defined"
        return RelationResult(
            relation=relation,
            status="inconclusive" if self.blamed else "broken" if broken else status,
            reason=self.blamed or reason,
            companies=self.companies,
            rows=self.rows,
            sizes=tuple(sorted(self.sizes)),
            broken=tuple(self.broken),
            counterexample=self.first or self.defined,
            elements=self.elements,
            power=power,
            cut=cut,
            seconds=seconds,
        )


def together(one: RelationResult, other: RelationResult) -> RelationResult:
    """What was seen of a relation over some data, and over other data."""
    if other.status != "held":
        one = one.model_copy(update={"status": other.status, "reason": other.reason})
    return one.model_copy(update={
        "companies": one.companies + other.companies,
        "rows": one.rows + other.rows,
        "elements": one.elements + other.elements,
        "sizes": tuple(sorted({*one.sizes, *other.sizes})),
        "broken": (*one.broken, *other.broken),
        "counterexample": one.counterexample or other.counterexample,
        "power": one.power + other.power,
    })  # fmt: skip


def discount_if_not_repeatable(results: Sequence[RelationResult]) -> list[RelationResult]:
    """Where a kernel is not even repeatable, a difference cannot be laid at another relation's door."""
    repeatable = all(result.relation != "repeat" or result.status != "broken" for result in results)
    if repeatable:
        return list(results)
    doubt = {"status": "inconclusive", "reason": NOT_REPEATABLE}
    return [
        result.model_copy(update=doubt) if result.status == "broken" and result.relation != "repeat" else result
        for result in results
    ]
