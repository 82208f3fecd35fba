"""Why bits changed: the kernels of a counterexample's two companies side by side.

A company's kernels are those of its own range.  Reports that have none, such as those of older runs, leave the timed
case with the same M, or with the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from profiles.analysis.batch_calls import Asked
from profiles.analysis.schema import ComparedBatch, Explanation, KernelMap, MapEntry
from profiles.run_files.kernels_bench_run import Batch, Run, Variant
from profiles.trace.kernel_names import changes
from profiles.trace.model import Kernel

# Up to this factor one M stands for another without a word of doubt.
_NEAR = 4


def explanations(
    run: Run, maps: Sequence[KernelMap], companies: Mapping[Asked, tuple[Kernel, ...]]
) -> tuple[Explanation, ...]:
    """Of every variant verdict of a run."""
    by_case = {one.case: one.entries for one in maps}
    return tuple(_explanation(variant, by_case, companies) for variant in run.variants)


def _explanation(
    variant: Variant, maps: Mapping[str, tuple[MapEntry, ...]], companies: Mapping[Asked, tuple[Kernel, ...]]
) -> Explanation:
    entries = maps.get(variant.case.key, ())
    # Lengths are not compared with each other; the longest of each M is nearest to what a verification tries.
    longest = {entry.m: entry for entry in sorted(entries, key=lambda entry: entry.length or 0)}
    both = (variant.reference, variant.company)
    own = [companies.get((variant.case.key, one.spec, one.launch), ()) for one in both]
    reference, company = (
        _own_side(one, kernels) if all(own) else _side(one, list(longest.values()))
        for one, kernels in zip(both, own, strict=True)
    )
    found, changed = _judged(reference, company)
    return Explanation(
        case=variant.case.key,
        relation=variant.relation,
        reference=reference,
        company=company,
        found=found,
        changes=changed,
        basis=_basis(reference, company),
    )


def _own_side(company: Batch, kernels: tuple[Kernel, ...]) -> ComparedBatch:
    return ComparedBatch(
        company=company.spec, size=company.size, launch=company.launch, own=True, timed="", kernels=kernels
    )


def _side(company: Batch, entries: Sequence[MapEntry]) -> ComparedBatch:
    entry = min(entries, key=lambda one: (abs(math.log(one.m / company.size)), one.m), default=None)
    return ComparedBatch(
        company=company.spec,
        size=company.size,
        launch=company.launch,
        own=False,
        timed=entry.load if entry else "",
        kernels=entry.kernels if entry else (),
    )


def _judged(
    reference: ComparedBatch, company: ComparedBatch
) -> tuple[Literal["changed", "nothing visible", "untold"], tuple[str, ...]]:
    if not (reference.own or (reference.timed and company.timed)) or _undecided(reference, company):
        return "untold", ()
    found = changes(reference.kernels, company.kernels)
    return ("changed" if found else "nothing visible"), found


def _undecided(reference: ComparedBatch, company: ComparedBatch) -> bool:
    """Whether one timed call stands for companies of two sizes."""
    return not reference.own and reference.size != company.size and reference.timed == company.timed


def _basis(reference: ComparedBatch, company: ComparedBatch) -> str:
    """Which kernels were compared."""
    if reference.own:
        return "what ran for the two batches themselves"
    if not reference.timed or not company.timed:
        return "the report holds no kernel in a timed call of this case, nor in ranges of the batches"
    if _undecided(reference, company):
        return (
            f"both M={reference.size} and M={company.size} are nearest to the timed M={company.timed}: "
            f"time them too, with --batch {min(reference.size, company.size)},{max(reference.size, company.size)}"
        )
    sides = [_stands_for(side) for side in dict.fromkeys((reference, company))]
    return "; ".join(dict.fromkeys(sides))


def _stands_for(side: ComparedBatch) -> str:
    timed = int(side.timed.split("x")[0])
    if timed == side.size:
        return f"M={side.size} as timed"
    far = ", which is far from it" if abs(math.log(timed / side.size)) > math.log(_NEAR) else ""
    return f"M={side.size} by the nearest that was timed, M={side.timed}{far}"
