"""Kernels of the same bits: equal digests at every M tried, and orders of addition that do not differ."""

from __future__ import annotations

from collections.abc import Sequence

from kernels_bench.plan.record import Basis, BitClass, LeftOut
from kernels_bench.records.results import Verification

_WHY_NOT = {
    "variant": "its bits changed with the batch",
    "wrong": "its result is wrong",
    "inconclusive": "nothing could be said of its bits",
}


def classes_of(verified: Sequence[Verification]) -> tuple[tuple[BitClass, ...], tuple[LeftOut, ...]]:
    """The classes of one case's kernels, and those that are in none.

    Kernels that changed their bits in any relation that counts, are wrong, or could not be verified are in none.
    """
    groups: list[list[Verification]] = []
    left_out: list[LeftOut] = []
    for one in verified:
        if one.verdict != "sampled" or not one.digests:
            left_out.append(LeftOut(arm=one.case.arm, reason=_why_not(one)))
            continue
        # Digests are equal or not, and orders that are not known tell nothing apart: whoever agrees with all of a
        # group is of it.
        home = next((group for group in groups if not any(told_apart(one, other) for other in group)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return tuple(map(_class, groups)), tuple(left_out)


def told_apart(one: Verification, other: Verification) -> str:
    """What tells two kernels' bits apart, such as ``other bits at M=16``; empty where nothing does."""
    shared = sorted(one.digests.keys() & other.digests.keys())
    if not shared:
        return "no results of both at the same M"
    if differing := next((m for m in shared if one.digests[m] != other.digests[m]), None):
        return f"other bits at M={differing}"
    orders = _proven_order(one), _proven_order(other)
    # Equal digests of unequal orders: there are values whose sums differ, though none of them was tried.
    return "another order of addition" if all(orders) and orders[0] != orders[1] else ""


def _proven_order(one: Verification) -> str:
    """Digest of the one order at every M; empty where it is not known."""
    order = one.order
    return order.found[0].digest if order is not None and order.status == "proven" and order.found else ""


def _class(group: Sequence[Verification]) -> BitClass:
    proven = all(map(_proven_order, group))
    sizes = sorted(set.intersection(*(set(one.digests) for one in group)))
    basis: Basis = "proven" if proven else "sampled"
    order = group[0].order
    return BitClass(
        arms=tuple(one.case.arm for one in group),
        basis=basis,
        order=order.found[0].words if proven and order is not None else "",
        sizes=tuple(sizes),
        digests={m: group[0].digests[m] for m in sizes},
    )


def _why_not(one: Verification) -> str:
    reason = _WHY_NOT.get(one.verdict, f"{one.verdict}: {one.reason or 'no result was digested'}")
    if one.verdict == "wrong":
        return f"{reason}: {one.wrong}"
    broken = [result.relation for result in one.relations if result.status == "broken" and result.binding]
    return f"{reason} ({', '.join(broken)})" if broken else reason
