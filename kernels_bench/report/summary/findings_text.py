"""Words for a counterexample, and the command that measures a case alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from kernels_bench.records.cases import Launch, at_token
from kernels_bench.records.results import BatchRef, Counterexample, Order, RelationResult
from kernels_bench.relations.batch_kinds import batch_kinds
from kernels_bench.relations.spec import BatchSpec

MOST_ULP = 4096
"""Of more ULPs the number tells little but that zero is near."""


def describe_order(order: Order) -> str:
    """How orders differ with M, in one sentence."""
    told = [f"{sizes_text(one.sizes)}: {one.words}" for one in order.found[:3]]
    return "; ".join(told if len(order.found) > 1 else [order.witness, *told])


def sizes_text(sizes: Sequence[int]) -> str:
    """Some M, ascending, such as ``M=1`` or ``M=16 to 257``."""
    return f"M={sizes[0]}" if len(sizes) == 1 else f"M={sizes[0]} to {sizes[-1]} ({len(sizes)})"


def describe(found: Counterexample) -> str:
    """A counterexample in one sentence, without its case."""
    rows = "" if found.rows_compared == 1 else f" in {found.rows:,} of {found.rows_compared:,} rows"
    return (
        f"{found.relation}: row {found.row}{at_token(found.token)} differs {_between(found)}: "
        f"{_many(found.elements, 'element')}{rows}, the first by {apart(found)}{_others(found)}: "
        f"{_number(found.expected)} became {_number(found.got)}"
    )


def _between(found: Counterexample) -> str:
    here, there = found.company, found.reference
    if here.launch != there.launch:
        return f"at M={here.size} {_LAUNCHED[here.launch]}"
    if found.before is not None:
        return f"at M={here.size} {_after(found.before)}"
    if here.spec == there.spec:
        return f"from one call to the next at M={here.size}"
    return f"at {_place(here)} vs {_place(there)}"


_LAUNCHED: Mapping[Launch, str] = {
    "graph": "replayed from a CUDA graph vs launched eagerly",
    "view": "with rows that are a view of a wider tensor vs by themselves",
    "offset": "with rows that begin at another address vs at an aligned one",
    "columns": "with rows whose columns lie apart vs side by side",
    "transposed": "with rows of a transposed tensor vs by themselves",
    "expanded": "with one row that stands for all (stride 0) vs with copies of it",
    "padded": "with NaN before and after the rows in memory vs without",
    "concurrent": "beside another call at the same time vs alone",
    "updated": "with weights that were written over earlier ones vs the same weights elsewhere",
    "kept": "once another call was made vs right after its own",
    "inference": "in inference mode vs outside it",
    "gradients": "with gradients switched over (enabled, or disabled) vs as they were",
    "default_dtype": "under another default dtype of torch's vs under the usual one",
}


def _after(before: Sequence[str]) -> str:
    if not before:
        return "in the first call of the process vs in a later one"
    return f"right after {_place_of(BatchSpec.parse(before[-1]))} vs after other calls"


def _place(company: BatchRef) -> str:
    return _place_of(BatchSpec.parse(company.spec))


def _place_of(spec: BatchSpec) -> str:
    kind = batch_kinds().get(spec.kind)
    if kind is None or len(kind.arguments) != len(spec.arguments):  # of another version of samebits
        return f"M={spec.size} ({spec})"
    # The first M rows are what anybody expects of M rows; the others are told apart by words or by their specs.
    if not kind.where:
        return f"M={spec.size}"
    return f"M={spec.size} ({kind.place.format(*spec.arguments) or spec})"


def apart(found: Counterexample) -> str:
    """How far the first differing element's two values are apart, in ULPs only where their number tells something."""
    if not isfinite(found.expected) or not isfinite(found.got):
        return "NaN" if found.ulp is None else "infinity"
    if found.ulp is None:  # of whole numbers
        return f"{abs(found.got - found.expected):g}"
    if found.ulp == 0:
        return "the sign of zero"
    # Across zero, or many binades, there lie millions of numbers, however near the two values are.
    return _ulp(found.ulp) if found.ulp <= MOST_ULP else f"{abs(found.got - found.expected):.2g}"


def most_apart(found: Counterexample) -> str:
    """How far any element's two values are apart at most, in ULPs as far as these tell something."""
    if found.max_ulp is None:
        return "NaN"
    return _ulp(found.max_ulp) if found.max_ulp <= MOST_ULP else f"more than {_ulp(MOST_ULP)}"


def _others(found: Counterexample) -> str:
    """How far the other elements differ, where that is more and can be told."""
    told = found.ulp is None or found.ulp <= MOST_ULP
    if found.max_ulp is None or found.max_ulp == found.ulp or not told:
        return ""
    return f", {'at most' if found.max_ulp <= MOST_ULP else 'others'} by {most_apart(found)}"


def _number(value: float) -> str:
    return f"{value:.9g}"


def _ulp(count: int) -> str:
    return f"{count:,} ulp"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def extent(result: RelationResult) -> str:
    """How far a relation is broken, such as ``; 36 of 49 companies differ, of 1 to 255 rows``."""
    sizes = [BatchSpec.parse(spec).size for spec in result.broken]
    if len(sizes) < 2:
        return ""
    rows = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    return f"; {len(sizes)} of {result.companies} batches differ, of {rows} rows"
