"""From a run's records to what they say: verdicts, speeds, shared bits and the exit status; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from kernels_bench.operators import operators
from kernels_bench.records.cases import SHAPE_SOURCES, Claims, ShapeSource, claimed
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.latest_records import LatestRecords, latest_records
from kernels_bench.records.rerun_commands import order_command, rerun_command
from kernels_bench.records.results import AnyRecord, Counterexample, Timing, Verification
from kernels_bench.report.summary.broken_relations import broken_relations
from kernels_bench.report.summary.coverage import judged, nothing_claimed_examined, tried
from kernels_bench.report.summary.findings_text import describe, describe_order, extent
from kernels_bench.report.summary.schema import (
    HEADLINE_SIZES,
    VERDICTS,
    ArmFact,
    ArmSummary,
    Finding,
    OperatorSummary,
    OrderFact,
    RunFacts,
    RunSummary,
    SameBits,
    ShapeGroup,
    plugin_of,
)
from kernels_bench.report.summary.speed import bandwidth_over_ranks, share_of_ceiling, speed_over
from kernels_bench.report.summary.warnings import warnings_of
from profiles.errors import ExitStatus


def summarise_run(records: Iterable[AnyRecord], facts: RunFacts) -> RunSummary:
    """Everything a run found out; of several records of one case (and M) the last counts.

    Records may be a generator: raw samples are let go of, one record after the other.
    """
    found = latest_records(records)
    arms = _known_arms(found, facts)
    cases = [record.case for record in found.cases()]
    names = _in_order({case.operator for case in cases})
    defaults = {
        name: default_arm_of(name, facts.arms, found.of_operator(name).cases(), facts.default_arm) for name in names
    }
    summaries = []
    for name in names:
        part = found.of_operator(name)
        distinct = {case.without_arm for case in cases if case.operator == name}
        timed = [timing for timing in part.timings.values() if timing.status == "measured"]
        summaries.append(
            OperatorSummary(
                operator=name,
                cases=len(distinct),
                default_arm=defaults[name],
                sizes=_table_sizes(timed),
                lengths=tuple(sorted({timing.length for timing in timed if timing.length is not None})),
                tried=tried(part.verifications.values()),
                arms=_arms(part, arms, defaults, facts),
                groups=_groups(part, arms, defaults, facts),
                judged=judged(part.verifications.values()),
                depends_on_batch=next(
                    (v.depends_on_batch for v in part.verifications.values() if v.depends_on_batch), ""
                ),
            )
        )
    return RunSummary(
        facts=facts,
        operators=tuple(summaries),
        arms=_arms(found, arms, defaults, facts),
        groups=_groups(found, arms, defaults, facts),
        ceiling=found.ceiling,
        provenance=_provenance(found, facts),
        notices=tuple(warnings_of(found, facts, arms)),
    )


def exit_status(summary: RunSummary) -> int:
    """The status with which the command ends.

    1: an arm that claims batch invariance is variant, or gave other bits when it was timed, or any arm is wrong.
    3: else, something failed, was skipped or not reached, an arm that claims batch invariance is inconclusive, a
    plugin's arm had nothing to examine, or something that an arm claims was left out and the user did not say that
    this is meant.  0: else.  ``unsupported`` is an honest answer, and so is the variance of an arm that claims nothing.
    """
    untrue = any(arm.claims and arm.timed_otherwise for arm in summary.arms)
    if broken_promises(summary) or untrue or any("wrong" in arm.verdicts for arm in summary.arms):
        return ExitStatus.VERDICT
    unmeant = summary.partial and not summary.facts.partial_accepted
    return ExitStatus.INCOMPLETE if unmeant or unmeasured(summary) else ExitStatus.GOOD


Lack = Literal["failed", "skipped", "undecided", "absent"]
"""Why something of an arm is not known."""


def unmeasured(summary: RunSummary) -> bool:
    """Whether something failed, was skipped or not reached, or a claim of invariance stays undecided."""
    return summary.facts.missing > 0 or any(not_measured(summary).values())


def not_measured(summary: RunSummary) -> dict[Lack, dict[str, int]]:
    """How much could not be measured, or not be told, of which arms.

    Returns:
        For ``failed`` and ``skipped`` how many measurements, for ``undecided`` in how many cases it stays open whether
        an arm keeps what it claims, and for ``absent`` in how many a user's own arm could not run, where it was none.
    """
    plugged = {arm.name for arm in summary.facts.arms if arm.plugin}
    found: dict[Lack, dict[str, int]] = {"failed": {}, "skipped": {}, "undecided": {}, "absent": {}}
    for arm in summary.arms:
        open_cases = arm.verdicts.get("inconclusive", 0) if arm.claims else 0
        found["failed"][arm.arm] = arm.failed
        found["skipped"][arm.arm] = arm.skipped
        found["undecided"][arm.arm] = max(open_cases, arm.undecided_claims)
        # What a user brought to be looked at, and nothing of it was.
        nothing = arm.arm in plugged and arm.verdicts.keys() == {"unsupported"}
        found["absent"][arm.arm] = arm.verdicts["unsupported"] if nothing else 0
    return {lack: {arm: count for arm, count in counts.items() if count} for lack, counts in found.items()}


def broken_promises(summary: RunSummary) -> tuple[str, ...]:
    """The arms that broke a relation which they claim to keep."""
    return tuple(arm.arm for arm in summary.arms if arm.broken_claims)


def _in_order(names: Collection[str]) -> list[str]:
    """Operators as ``--list`` has them, whatever order their records came in; those of other versions last."""
    known = [name for name in operators() if name in names]
    return [*known, *sorted(set(names) - {*known})]


def default_arm_of(
    operator: str, arms: Iterable[ArmFact | ArmInfo], cases: Iterable[Verification | Timing], usual: str
) -> str:
    """The arm that the others' speeds are compared with: the operator's own default where it was measured."""
    present = {record.case.arm for record in cases}
    own = (arm.name for arm in arms if operator in arm.default_for and arm.name in present)
    return next(own, usual)


def _known_arms(found: LatestRecords, facts: RunFacts) -> dict[str, Claims]:
    """Every arm and what it claims; one that nobody introduced is held to everything."""
    arms = {arm.name: arm.claims for arm in facts.arms if not arm.unavailable}
    for start in found.starts.values():
        arms.setdefault(start.arm, start.claims)
    for record in found.cases():
        arms.setdefault(record.case.arm, record.case.arm != facts.default_arm)
    return arms


def _provenance(found: LatestRecords, facts: RunFacts) -> dict[str, str]:
    told = {arm.name: arm.provenance for arm in facts.arms}
    told |= {start.arm: start.provenance for start in found.starts.values()}
    return {name: text for name, text in told.items() if text}


def _table_sizes(timings: Iterable[Timing]) -> tuple[int, ...]:
    timed = sorted({timing.m for timing in timings})
    usual = tuple(m for m in HEADLINE_SIZES if m in timed)
    if usual or not timed:
        return usual
    steps = min(len(HEADLINE_SIZES), len(timed))
    return tuple(dict.fromkeys(timed[i * (len(timed) - 1) // max(1, steps - 1)] for i in range(steps)))


# --- one arm -----------------------------------------------------------------------------------------------


def _arms(
    found: LatestRecords, claims: Mapping[str, Claims], defaults: Mapping[str, str], facts: RunFacts
) -> tuple[ArmSummary, ...]:
    seen = {record.case.arm for record in found.cases()}
    digests = _digests(found)
    base = [t for t in found.timings.values() if t.case.arm == defaults[t.case.operator] and t.status == "measured"]
    return tuple(
        _arm(name, claims[name], found, base, digests, plugin_of(name, facts)) for name in claims if name in seen
    )


def _groups(
    found: LatestRecords, claims: Mapping[str, Claims], defaults: Mapping[str, str], facts: RunFacts
) -> tuple[ShapeGroup, ...]:
    """Every arm over models' shapes, over typed sizes and over invented ones, where there are several of these."""
    groups = []
    for source in SHAPE_SOURCES:
        part = found.of_shapes(source)
        if distinct := {record.case.without_arm for record in part.cases()}:
            arms = (arm.model_copy(update={"findings": ()}) for arm in _arms(part, claims, defaults, facts))
            groups.append(_group(source, len(distinct), tuple(arms)))
    return tuple(groups) if len(groups) > 1 else ()


def _group(source: ShapeSource, cases: int, arms: tuple[ArmSummary, ...]) -> ShapeGroup:
    return ShapeGroup(invented=source == "invented", typed=source == "typed", cases=cases, arms=arms)


def _arm(
    name: str,
    claims: Claims,
    found: LatestRecords,
    base: Sequence[Timing],
    digests: Mapping[str, _Digests],
    plugin: str | None,
) -> ArmSummary:
    """One arm over the cases found; ``base`` are the default arm's times, ``digests`` those of all arms."""
    verified = [v for v in found.verifications.values() if v.case.arm == name]
    timed = [t for t in found.timings.values() if t.case.arm == name]
    counts = Counter(v.verdict for v in verified)
    verdicts = {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}
    orders = Counter(ORDER_FACTS[v.order.status] for v in verified if v.order and v.order.status in ORDER_FACTS)
    relations = [result for v in verified for result in v.relations]
    records: list[Verification | Timing] = [*verified, *timed]
    statuses = Counter(record.status for record in records if not found.follows(record))
    errors = [v.accuracy.worst for v in verified if v.accuracy is not None]
    reasons = [record.reason for record in records if record.status != "measured"]
    measured = [t for t in timed if t.status == "measured"]
    return ArmSummary(
        arm=name,
        claims=claims,
        verdict=next(iter(verdicts), None),
        verdicts=verdicts,
        orders=dict(orders),
        cases=len(verified),
        companies=sum(result.companies for result in relations),
        rows=sum(result.rows for result in relations),
        worst_error=max(errors, default=None),
        broken_claims=sum(breaks_a_claim(verification, claims) for verification in verified),
        undecided_claims=sum(_leaves_a_claim_open(verification, claims) for verification in verified),
        breakages=broken_relations(verified),
        findings=tuple(_findings(verified, plugin)),
        warm=speed_over(measured, base, "warm"),
        cold=speed_over(measured, base, "cold"),
        ceiling=share_of_ceiling(measured, found.ceiling),
        over_ranks=bandwidth_over_ranks(measured),
        same_bits=tuple(_same_bits(name, digests)),
        timed=len(measured),
        timed_otherwise=sum(bool(timing.other_bits) for timing in measured),
        failed=statuses["failed"] + sum(result.status == "failed" for result in relations),
        skipped=statuses["skipped"],
        reasons=tuple(dict.fromkeys(reasons)),
    )


ORDER_FACTS: Mapping[str, OrderFact] = {"proven": "same", "variant": "differs", "unknown": "unknown"}
"""What is told of an order that was to be read."""


def breaks_a_claim(verification: Verification, claims: Claims) -> bool:
    """Whether a case broke a relation that its arm claims; what is wrong altogether is judged apart."""
    if verification.verdict != "variant":
        return False
    broken = (result for result in verification.relations if result.status == "broken" and result.binding)
    if any(claimed(claims, result.relation) for result in broken):
        return True
    order = verification.order
    return order is not None and order.status == "variant" and claimed(claims, "batch_size")


def _leaves_a_claim_open(verification: Verification, claims: Claims) -> bool:
    """Whether a claim stays undecided in a case, or nothing of what is claimed was examined there."""
    if nothing_claimed_examined(verification, claims):
        return True
    return any(
        result.status == "inconclusive" and claimed(claims, result.relation) for result in verification.relations
    )


def _trouble_to_look_into(found: Counterexample) -> tuple[bool, int, int]:
    """Few rows are less trouble than many, and ordinary ones less than those of values that are rare."""
    return found.relation == "special_values", found.company.size, found.reference.size


def _findings(verified: Sequence[Verification], plugin: str | None) -> Iterator[Finding]:
    """The first wrong case, and the counterexample that is easiest to look into, of those that the verdict counts."""
    for verification in verified:
        if verification.verdict == "wrong":
            case, why = verification.case, verification.wrong
            yield Finding(kind="wrong", case=case, text=why, command=rerun_command(case, plugin))
            break
    broken = [
        (result.counterexample, verification.case, result)
        for verification in verified
        for result in verification.relations
        if result.status == "broken" and result.counterexample is not None
    ]
    if broken:
        found, case, result = min(broken, key=lambda one: (not one[2].binding, *_trouble_to_look_into(one[0])))
        text = describe(found) + extent(result)
        yield Finding(kind="variant", case=case, text=text, command=found.command, counterexample=found)
    told = [
        (verification.case, result)
        for verification in verified
        for result in verification.relations
        if result.status == "broken" and result.counterexample is None and result.reason
    ]
    for case, result in told[:1]:  # what only another process shows has no counterexample in one
        text = f"{result.relation}: {result.reason}"
        yield Finding(kind="variant", case=case, text=text, command=rerun_command(case, plugin))
    unlike = [one for one in verified if one.order is not None and one.order.status == "variant"]
    for verification in unlike[:1]:
        assert verification.order is not None
        command = order_command(verification.case, verification.order, plugin)
        yield Finding(kind="order", case=verification.case, text=describe_order(verification.order), command=command)


# --- speed -------------------------------------------------------------------------------------------------


# --- same bits ---------------------------------------------------------------------------------------------

_Digests = dict[tuple[str, int], str]


def _digests(found: LatestRecords) -> dict[str, _Digests]:
    """Each arm's digests by case and M."""
    digests: dict[str, _Digests] = {}
    for verification in found.verifications.values():
        if verification.status == "measured":
            mine = digests.setdefault(verification.case.arm, {})
            mine |= {(verification.case.without_arm, m): text for m, text in verification.digests.items()}
    return digests


def _same_bits(arm: str, digests: Mapping[str, _Digests]) -> Iterator[SameBits]:
    """The other arms that give some of the same bits, and at which M they do throughout."""
    mine = digests.get(arm, {})
    for other, theirs in digests.items():
        equal = {key: text == theirs[key] for key, text in mine.items() if key in theirs}
        if other == arm or not any(equal.values()):
            continue
        sizes = sorted({m for _, m in equal})
        unequal = {m for (_, m), same in equal.items() if not same}
        yield SameBits(
            arm=other,
            equal=sum(equal.values()),
            compared=len(equal),
            sizes=tuple(m for m in sizes if m not in unequal),
            sizes_compared=len(sizes),
        )
