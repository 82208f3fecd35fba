"""Kernels of the same bits: equal digests at every M tried, and orders of addition that do not differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kernels_bench.plan.record import Basis, BitClass, LeftOut
from kernels_bench.records.results import Verification

SAID_NOTHING: Mapping[str, str] = MappingProxyType({})
"""No candidate says anything of its order of addition."""

_WHY_NOT = {
    "variant": "its bits changed with the batch",
    "wrong": "its result is wrong",
    "inconclusive": "nothing could be said of its bits",
}


def classes_of(
    verified: Sequence[Verification], meant: Mapping[str, str] = SAID_NOTHING
) -> tuple[tuple[BitClass, ...], tuple[LeftOut, ...]]:
    """The classes of one case's kernels, and those that are in none.

    Kernels that changed their bits in any relation that counts, are wrong, or could not be verified are in none.

    Args:
        verified: what is known of each.
        meant: what candidates say of their order of addition.
    """
    groups: list[list[Verification]] = []
    left_out: list[LeftOut] = []
    for one in verified:
        if not keeps(one):
            left_out.append(LeftOut(arm=one.case.arm, reason=_why_not(one)))
            continue
        # Digests are equal or not, and orders that are not known tell nothing apart: whoever agrees with all of a
        # group is of it.
        home = next((group for group in groups if not any(told_apart(one, other, meant) for other in group)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return tuple(map(_class, groups)), tuple(left_out)


def keeps(one: Verification) -> bool:
    """Whether a kernel kept its bits in every batch, and it is known which they are; not if it takes few rows alone."""
    return one.verdict == "sampled" and bool(one.digests) and not one.refused


def told_apart(one: Verification, other: Verification, meant: Mapping[str, str] = SAID_NOTHING) -> str:
    """What tells two kernels' bits apart, such as ``other bits at M=16``; empty where nothing does."""
    shared = sorted(one.digests.keys() & other.digests.keys())
    if not shared:
        return "no results of both at the same M"
    if differing := next((m for m in shared if one.digests[m] != other.digests[m]), None):
        return f"other bits at M={differing}"
    orders = _proven_order(one), _proven_order(other)
    # Equal digests of unequal orders: there are values whose sums differ, though none of them was tried.
    if all(orders) and orders[0] != orders[1]:
        return "another order of addition"
    # What an arm says of its candidates proves nothing, and is reason enough not to take equal digests for more. That
    # orders are the same is known for as many terms as were read: two splits of keys differ in longer sequences alone.
    known = all(orders) and one.case.shape.tokens is None
    said = [meant.get(case.arm, "") for case in (one.case, other.case)]
    same_arm = one.case.process == other.case.process
    unlike = same_arm and all(said) and said[0] != said[1]
    return "it says that it adds in another order" if unlike and not known else ""


def parted_by_proof(one: BitClass, known: Mapping[str, Verification]) -> tuple[BitClass, BitClass] | None:
    """A class's kernels whose order of addition was read, which is one, and the others; None where all are alike.

    Args:
        one: the class.
        known: what is known of each of its kernels.
    """
    group = [known[arm] for arm in one.arms]
    proven = [each for each in group if _proven_order(each)]
    others = [each for each in group if not _proven_order(each)]
    return (_class(proven), _class(others)) if proven and others else None


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
        data=group[0].data,
    )


def _why_not(one: Verification) -> str:
    reason = _WHY_NOT.get(one.verdict, f"{one.verdict}: {one.reason or 'no result was digested'}")
    if one.verdict == "wrong":
        return f"{reason}: {one.wrong}"
    broken = [result.relation for result in one.relations if result.status == "broken" and result.binding]
    return f"{reason} ({', '.join(broken)})" if broken else reason
