"""Why bits changed: the kernels of a counterexample's two companies side by side.

A verification is one range, whatever companies it tries, so the kernels of a company are those of the timed case with
the same M, or with the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from profiles.findings import Explanation, KernelMap, MapEntry, Side
from profiles.naming import changes
from profiles.runs import Company, Run, Variant

# Up to this factor one M stands for another without a word of doubt.
_NEAR = 4


def explanations(run: Run, maps: Sequence[KernelMap]) -> tuple[Explanation, ...]:
    """Of every variant verdict of a run."""
    by_case = {one.case: one.entries for one in maps}
    return tuple(_explanation(variant, by_case) for variant in run.variants)


def _explanation(variant: Variant, maps: Mapping[str, tuple[MapEntry, ...]]) -> Explanation:
    entries = maps.get(variant.case.key, ())
    # Lengths are not compared with each other; the longest of each M is nearest to what a verification tries.
    longest = {entry.m: entry for entry in sorted(entries, key=lambda entry: entry.length or 0)}
    reference, company = (_side(one, list(longest.values())) for one in (variant.reference, variant.company))
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


def _side(company: Company, entries: Sequence[MapEntry]) -> Side:
    entry = min(entries, key=lambda one: (abs(math.log(one.m / company.size)), one.m), default=None)
    return Side(
        company=company.spec,
        size=company.size,
        launch=company.launch,
        timed=entry.load if entry else "",
        kernels=entry.kernels if entry else (),
    )


def _judged(reference: Side, company: Side) -> tuple[Literal["changed", "nothing visible", "untold"], tuple[str, ...]]:
    if not reference.timed or not company.timed:
        return "untold", ()
    if reference.size != company.size and reference.timed == company.timed:
        return "untold", ()
    found = changes(reference.kernels, company.kernels)
    return ("changed" if found else "nothing visible"), found


def _basis(reference: Side, company: Side) -> str:
    """Which kernels were compared."""
    if not reference.timed or not company.timed:
        return "the report holds no timed call of this case, and a verification's companies have no ranges of their own"
    if reference.size != company.size and reference.timed == company.timed:
        return (
            f"both M={reference.size} and M={company.size} are nearest to the timed M={company.timed}: "
            f"time them too, with --batch {min(reference.size, company.size)},{max(reference.size, company.size)}"
        )
    sides = [_stands_for(side) for side in dict.fromkeys((reference, company))]
    return "; ".join(dict.fromkeys(sides))


def _stands_for(side: Side) -> str:
    timed = int(side.timed.split("x")[0])
    if timed == side.size:
        return f"M={side.size} as timed"
    far = ", which is far from it" if abs(math.log(timed / side.size)) > math.log(_NEAR) else ""
    return f"M={side.size} by the nearest that was timed, M={side.timed}{far}"
