"""What a run tried, and what of a whole run it left out: a verdict is worth what was tried for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kernels_bench.operators import Operator, operators
from kernels_bench.records.cases import Claims, Device, claimed
from kernels_bench.records.results import Verification
from kernels_bench.relations import relations
from kernels_bench.report.summary.schema import Tried


def relations_left_out(
    asked: Collection[str] | None, of_operators: Iterable[str], device: Device, own: bool = False
) -> tuple[str, ...]:
    """Relations that have a meaning for some of these operators on this device, and were not asked for.

    Args:
        asked: the relations that the user named; None for all.
        of_operators: names of operators; those of other versions of samebits say nothing.
        device: what the kernels ran on.
        own: whether there are operators of a user's own beside them.
    """
    if asked is None:
        return ()
    known = operators()
    kinds = {known[name].rows_are for name in of_operators if name in known}
    kinds |= {Operator.rows_are, "packed"} if own else set()
    return tuple(
        relation.name
        for relation in relations().values()
        if relation.name not in asked
        and (device.type != "cpu" or not relation.needs_cuda)
        and any(relation.applies_to(kind) for kind in kinds)
    )


def nothing_claimed_examined(verification: Verification, claims: Claims) -> bool:
    """Whether a case was verified, and no relation that its arm claims was: then its claim is as open as before."""
    if not claims or verification.status != "measured" or verification.wrong:
        return False
    # What failed or stays undecided is told of by itself.
    examined = {result.relation for result in verification.relations if result.status != "unsupported"}
    return not any(claimed(claims, relation) for relation in examined)


def among_few(verification: Verification) -> str:
    """Among how many rows a kernel was verified that takes no more, and its words for that."""
    return f"among at most {verification.universe} rows: it takes no more ({verification.refused})"


def judged(verifications: Iterable[Verification]) -> bool:
    """Whether there was a reference: without one results are compared, and none is held against it."""
    compared = (one for one in verifications if any(result.companies for result in one.relations))
    return not any(one.accuracy is None and not one.wrong for one in compared)


def tried(verifications: Iterable[Verification]) -> tuple[Tried, ...]:
    """Each relation that was examined to its end, and the M at which it was in every such case."""
    found: dict[str, frozenset[int]] = {}
    power: dict[str, int] = {}
    for verification in verifications:
        for result in verification.relations:
            # What broke and then failed was not examined to its end.
            examined = result.status in ("held", "defined")
            if examined or (result.status == "broken" and not result.reason):
                sizes = frozenset(result.sizes)
                found[result.relation] = found.get(result.relation, sizes) & sizes
                power[result.relation] = min(power.get(result.relation, result.power), result.power)
    return tuple(Tried(relation=name, sizes=tuple(sorted(sizes)), power=power[name]) for name, sizes in found.items())
