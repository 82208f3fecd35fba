"""Which relations broke, for which shapes and in which companies, where a counterexample is one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernels_bench.records.results import RelationResult, Verification
from kernels_bench.relations.batch_kinds import batch_kinds
from kernels_bench.relations.spec import BatchSpec
from kernels_bench.report.summary.schema import BrokenRelation

_LISTED = 3


def broken_relations(verified: Sequence[Verification]) -> tuple[BrokenRelation, ...]:
    """One arm's broken relations, in the order of the records."""
    results: dict[str, list[tuple[str, RelationResult]]] = {}
    for verification in verified:
        case = f"{verification.case.shape.label} {verification.case.precision}"
        for result in verification.relations:
            if result.status in ("held", "broken"):
                results.setdefault(result.relation, []).append((case, result))
    return tuple(found for relation, each in results.items() if (found := _breakage(relation, each)) is not None)


def _breakage(relation: str, results: Sequence[tuple[str, RelationResult]]) -> BrokenRelation | None:
    """One relation over all cases in which it was examined; None where it held."""
    broken = {case: broken_companies(result) for case, result in results if result.status == "broken"}
    if not broken:
        return None
    return BrokenRelation(
        relation=relation,
        examined=len(results),
        where=where([spec for specs in broken.values() for spec in specs]),
        by_case={case: where(specs) for case, specs in broken.items()},
        binding=any(result.binding for _, result in results if result.status == "broken"),
    )


def broken_companies(result: RelationResult) -> tuple[str, ...]:
    """The companies in which some row differed; of a result that names none, its counterexample's."""
    first = result.counterexample
    return result.broken or ((first.company.spec,) if first is not None else ())


def where(companies: Sequence[str]) -> str:
    """Which batches these are, such as ``M=2 to 17; neighbours prefill 1 to 2,048``."""
    specs = [BatchSpec.parse(text) for text in companies]
    sizes = sorted({spec.size for spec in specs})
    return "; ".join([f"M={numbers(sizes)}", *_neighbourhoods(specs)])


def _neighbourhoods(specs: Sequence[BatchSpec]) -> Iterator[str]:
    """How these batches differ from the first M rows, each way once, with the lengths that tell something."""
    lengths: dict[str, set[int]] = {}
    for spec in specs:
        kind = batch_kinds().get(spec.kind)
        if kind is None:  # of another version of samebits
            lengths.setdefault(str(spec), set())
        elif kind.where:
            lengths.setdefault(kind.where, set()).update(spec.arguments[:1] if kind.told else ())
    for words, told in lengths.items():
        yield f"{words} {numbers(sorted(told))}" if told else words


def numbers(ascending: Sequence[int]) -> str:
    """A few numbers each, many by their ends."""
    if len(ascending) <= _LISTED:
        return ", ".join(f"{number:,}" for number in ascending)
    return f"{ascending[0]:,} to {ascending[-1]:,}"
