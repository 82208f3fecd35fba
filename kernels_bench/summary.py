"""What a run found out, from its records: verdicts, speeds and warnings as plain immutable data; no torch.

`summarise_run` makes a `RunSummary`, which is also what ``--json`` writes.  Raise `SUMMARY_SCHEMA_VERSION`
with every change that an older reader would misread.
"""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from kernels_bench.cases import Case, Device, Record
from kernels_bench.records import (
    AnyRecord,
    ArmStart,
    Ceiling,
    CompanyRef,
    Counterexample,
    Timing,
    Verification,
)
from kernels_bench.records import Summary as Measured
from profiles.environment import Environment

SUMMARY_SCHEMA_VERSION = 1

Verdict = Literal["wrong", "variant", "failed", "inconclusive", "sampled", "unsupported", "skipped"]
VERDICTS: tuple[Verdict, ...] = (
    "wrong", "variant", "failed", "inconclusive", "sampled", "unsupported", "skipped"
)  # fmt: skip
"""Every verdict of a case, the worst first: an arm has the worst of its cases'."""

NoticeKind = Literal["failed", "skipped", "relation", "arm", "unsupported", "throttle", "timing"]
NOTICE_KINDS: tuple[NoticeKind, ...] = (
    "failed", "skipped", "relation", "arm", "unsupported", "throttle", "timing"
)  # fmt: skip
"""Every kind of warning, the gravest first: ``relation`` is one that could not be examined, ``arm`` one that
could not run at all."""

HEADLINE_SIZES = (1, 16, 256, 2048)
"""The M whose speeds stand in the tables."""


class ArmFact(Record):
    """An arm that the run was asked for.

    Attributes:
        name: as users type it.
        claims: the arm says of itself that it is batch-invariant.
        provenance: which version and path it uses; empty if it does not say.
        unavailable: why it could not run on this machine; empty if it could.
        plugin: path of the user's file that it comes from, if any.
    """

    name: str
    claims: bool
    provenance: str = ""
    unavailable: str = ""
    plugin: str | None = None


class RunFacts(Record):
    """What a summary says of the run beside its records.

    Attributes:
        device: what the kernels ran on.
        arms: in the order of the tables.
        directory: path of the run directory.
        seconds: wall time; None if nobody watched the clock.
        environment: code, machine and versions.
        command: the command line that made the run, as it can be typed again.
        default_arm: the arm that the others' speeds are compared with.
        missing: measurements that were planned and not reached (Ctrl-C, a full disk).
    """

    device: Device
    arms: tuple[ArmFact, ...]
    directory: str
    environment: Environment
    seconds: float | None = None
    command: str = "python -m kernels_bench"
    default_arm: str = "torch"
    missing: int = 0


class Speed(Record):
    """Speed as a multiple of the default arm's: its median over this arm's, so below 1 is slower than it.

    Attributes:
        ratio: geometric mean over all pairs.
        by_m: geometric mean over the cases timed at each M.
        cases: how many cases went into it.
        timings: how many pairs of the same case and M went into it.
    """

    ratio: float
    by_m: dict[int, float]
    cases: int
    timings: int


class CeilingShare(Record):
    """The least time that the ceilings allow, as a share of the time taken (1 is the ceiling itself).

    Attributes:
        median: over the timings.
        best: over the timings.
        timings: how many went into it.
    """

    median: float
    best: float
    timings: int


class SameBits(Record):
    """How far another arm computes the same bits, by digests of the same rows in the same cases.

    Attributes:
        arm: the other arm.
        equal: how many outputs (pairs of case and M) have equal digests.
        compared: how many outputs both arms digested.
        sizes: the M at which every case that both digested is equal.
        sizes_compared: how many different M were compared.
    """

    arm: str
    equal: int
    compared: int
    sizes: tuple[int, ...]
    sizes_compared: int

    @property
    def where(self) -> str:
        """Where the bits are the same, as the end of a phrase; empty for everywhere."""
        if self.equal == self.compared:
            return ""
        if 0 < len(self.sizes) <= 4:
            return f" at M={', '.join(str(m) for m in self.sizes)}"
        if self.sizes:
            return f" at {len(self.sizes)} of {self.sizes_compared} M"
        return f" in {self.equal} of {self.compared} outputs"


class Finding(Record):
    """What is wrong with one case, and how to see it again.

    Attributes:
        kind: ``wrong``, or ``variant`` with its counterexample.
        case: where.
        text: what, in one sentence without a full stop.
        command: shows it again; a counterexample's in a few seconds.
        counterexample: for ``variant``.
    """

    kind: Literal["wrong", "variant"]
    case: Case
    text: str
    command: str
    counterexample: Counterexample | None = None


class Notice(Record):
    """A warning, said once however often it applies.

    Attributes:
        kind: one of `NOTICE_KINDS`.
        text: what a reader must know; numbers that differ are given as ranges.
        remedy: what to do about it; empty where ``text`` says so itself.
        arms: whom it concerns.
        count: how often it applies, in units of ``unit``.
        unit: ``timing``, ``case`` or ``arm``.
        example: one of them, such as ``vllm/mm/4096x4096/bf16/16``.
        command: shows it again; empty where that makes no sense.
    """

    kind: NoticeKind
    text: str
    remedy: str
    arms: tuple[str, ...]
    count: int
    unit: Literal["timing", "case", "arm"]
    example: str
    command: str = ""


class ArmSummary(Record):
    """One arm over all cases of an operator, or of the whole run.

    Attributes:
        arm: its name.
        claims: it says of itself that it is batch-invariant.
        verdict: the worst of its cases'; None if none was verified.
        verdicts: how many cases have each verdict, the worst first.
        cases: how many cases were to be verified.
        companies: how many companies were compared with a reference.
        rows: how many rows' outputs were compared.
        worst_error: largest error as a share of what the operators allow (above 1 is wrong); None if unknown.
        findings: the first thing wrong, and the counterexample of the smallest company, where there are any.
        warm: speed with a warm L2; None if nothing was timed on both arms.
        cold: speed with a cold L2.
        ceiling: share of the ceiling; None without a measured ceiling.
        same_bits: the other arms that compute the same bits, at least at times.
        timed: how many timings were measured.
        failed: how many verifications, relations and timings failed.
        skipped: how many verifications and timings were skipped.
        reasons: why cases are ``unsupported``, ``failed`` or ``skipped``, each reason once.
    """

    arm: str
    claims: bool
    verdict: Verdict | None
    verdicts: dict[Verdict, int]
    cases: int
    companies: int
    rows: int
    worst_error: float | None
    findings: tuple[Finding, ...]
    warm: Speed | None
    cold: Speed | None
    ceiling: CeilingShare | None
    same_bits: tuple[SameBits, ...]
    timed: int
    failed: int
    skipped: int
    reasons: tuple[str, ...]


class OperatorSummary(Record):
    """One operator.

    Attributes:
        operator: its name.
        cases: how many different cases, arms apart.
        arms: every arm of which there is a record.
    """

    operator: str
    cases: int
    arms: tuple[ArmSummary, ...]


class RunSummary(Record):
    """A whole run.

    Attributes:
        schema_version: `SUMMARY_SCHEMA_VERSION`.
        facts: device, versions, and where the results are.
        sizes: the M that tables show: those of `HEADLINE_SIZES` that were timed, else a few that were.
        operators: in the order of the records.
        arms: every arm over all operators.
        ceiling: what the device can do at most; None if it was not measured.
        provenance: which version and path each arm used.
        notices: warnings, those about failures first.
    """

    schema_version: int = SUMMARY_SCHEMA_VERSION
    facts: RunFacts
    sizes: tuple[int, ...]
    operators: tuple[OperatorSummary, ...]
    arms: tuple[ArmSummary, ...]
    ceiling: Ceiling | None
    provenance: dict[str, str]
    notices: tuple[Notice, ...]


def summarise_run(records: Iterable[AnyRecord], facts: RunFacts) -> RunSummary:
    """Everything a run found out; of several records of one case (and M) the last counts.

    Records may be a generator: raw samples are let go of, one record after the other.
    """
    found = _gather(records)
    arms = _known_arms(found, facts)
    cases = [record.case for record in found.cases()]
    operators = []
    for name in dict.fromkeys(case.operator for case in cases):
        part = found.of_operator(name)
        distinct = {case.without_arm for case in cases if case.operator == name}
        operators.append(OperatorSummary(operator=name, cases=len(distinct), arms=_arms(part, arms, facts)))
    return RunSummary(
        facts=facts,
        sizes=_table_sizes(found.timings.values()),
        operators=tuple(operators),
        arms=_arms(found, arms, facts),
        ceiling=found.ceiling,
        provenance=_provenance(found, facts),
        notices=tuple(_notices(found, facts)),
    )


def exit_status(summary: RunSummary) -> int:
    """The status with which the command ends.

    1: an arm that claims batch invariance is variant, or any arm is wrong.  3: else, something failed, was
    skipped or not reached, or an arm that claims batch invariance is inconclusive.  0: else.  ``unsupported``
    is an honest answer, and so is the variance of an arm that claims nothing.
    """
    if broken_promises(summary) or any("wrong" in arm.verdicts for arm in summary.arms):
        return 1
    return 3 if unmeasured(summary) else 0


def unmeasured(summary: RunSummary) -> bool:
    """Whether something failed, was skipped or not reached, or a claim of invariance stays undecided."""
    undecided = any(arm.claims and "inconclusive" in arm.verdicts for arm in summary.arms)
    return undecided or summary.facts.missing > 0 or any(arm.failed or arm.skipped for arm in summary.arms)


def broken_promises(summary: RunSummary) -> tuple[str, ...]:
    """The arms that claim batch invariance and are variant."""
    return tuple(arm.arm for arm in summary.arms if arm.claims and "variant" in arm.verdicts)


def geometric_mean(ratios: Sequence[float]) -> float:
    """The geometric mean; exactly 1 for ratios that are all exactly 1.

    Raises:
        ValueError: no ratio, or one that is not positive.
    """
    if not ratios:
        raise ValueError("no ratio to average")
    return math.exp(math.fsum(math.log(ratio) for ratio in ratios) / len(ratios))


# --- gathering ---------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """The last record of each key."""

    verifications: dict[str, Verification] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)
    starts: dict[str, ArmStart] = field(default_factory=dict)
    ceiling: Ceiling | None = None

    def cases(self) -> Iterator[Verification | Timing]:
        """All that has a case."""
        yield from self.verifications.values()
        yield from self.timings.values()

    def of_operator(self, name: str) -> _Found:
        return _Found(
            {key: v for key, v in self.verifications.items() if v.case.operator == name},
            {key: t for key, t in self.timings.items() if t.case.operator == name},
            self.starts,
            self.ceiling,
        )


def _gather(records: Iterable[AnyRecord]) -> _Found:
    found = _Found()
    for record in records:
        if isinstance(record, Verification):
            found.verifications[record.case.key] = record
        elif isinstance(record, Timing):
            # The samples are nearly all of a timing's size, and the parent's memory must not grow with them.
            found.timings[record.key] = record.model_copy(update={"warm_samples": None, "cold_samples": None})
        elif isinstance(record, Ceiling):
            found.ceiling = record
        elif isinstance(record, ArmStart):
            found.starts[record.arm] = record
    return found


def _known_arms(found: _Found, facts: RunFacts) -> dict[str, bool]:
    """Every arm and whether it claims batch invariance; one that nobody introduced is held to it."""
    arms = {arm.name: arm.claims for arm in facts.arms if not arm.unavailable}
    for start in found.starts.values():
        arms.setdefault(start.arm, start.claims)
    for record in found.cases():
        arms.setdefault(record.case.arm, record.case.arm != facts.default_arm)
    return arms


def _provenance(found: _Found, facts: RunFacts) -> dict[str, str]:
    told = {arm.name: arm.provenance for arm in facts.arms}
    told |= {start.arm: start.provenance for start in found.starts.values()}
    return {name: text for name, text in told.items() if text}


def _table_sizes(timings: Iterable[Timing]) -> tuple[int, ...]:
    timed = sorted({timing.m for timing in timings if timing.status == "measured"})
    usual = tuple(m for m in HEADLINE_SIZES if m in timed)
    if usual or not timed:
        return usual
    steps = min(len(HEADLINE_SIZES), len(timed))
    return tuple(dict.fromkeys(timed[i * (len(timed) - 1) // max(1, steps - 1)] for i in range(steps)))


# --- one arm -----------------------------------------------------------------------------------------------


def _arms(found: _Found, claims: Mapping[str, bool], facts: RunFacts) -> tuple[ArmSummary, ...]:
    seen = {record.case.arm for record in found.cases()}
    digests = _digests(found)
    return tuple(_arm(name, claims[name], found, digests, facts) for name in claims if name in seen)


def _arm(name: str, claims: bool, found: _Found, digests: Mapping[str, _Digests], facts: RunFacts) -> ArmSummary:
    verified = [v for v in found.verifications.values() if v.case.arm == name]
    timed = [t for t in found.timings.values() if t.case.arm == name]
    counts = Counter(v.verdict for v in verified)
    verdicts = {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}
    relations = [result for v in verified for result in v.relations]
    records: list[Verification | Timing] = [*verified, *timed]
    statuses = Counter(record.status for record in records)
    errors = [v.accuracy.worst for v in verified if v.accuracy is not None]
    reasons = [record.reason for record in records if record.status != "measured"]
    measured = [t for t in timed if t.status == "measured"]
    base = [t for t in found.timings.values() if t.case.arm == facts.default_arm and t.status == "measured"]
    return ArmSummary(
        arm=name,
        claims=claims,
        verdict=next(iter(verdicts), None),
        verdicts=verdicts,
        cases=len(verified),
        companies=sum(result.companies for result in relations),
        rows=sum(result.rows for result in relations),
        worst_error=max(errors, default=None),
        findings=tuple(_findings(verified, _plugin(name, facts))),
        warm=_speed(measured, base, "warm"),
        cold=_speed(measured, base, "cold"),
        ceiling=_ceiling_share(measured, found.ceiling),
        same_bits=tuple(_same_bits(name, digests)),
        timed=len(measured),
        failed=statuses["failed"] + sum(result.status == "failed" for result in relations),
        skipped=statuses["skipped"],
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _plugin(arm: str, facts: RunFacts) -> str | None:
    return next((known.plugin for known in facts.arms if known.name == arm), None)


def _findings(verified: Sequence[Verification], plugin: str | None) -> Iterator[Finding]:
    """The first wrong case, and the counterexample that is easiest to look into."""
    for verification in verified:
        if verification.verdict == "wrong":
            case, why = verification.case, verification.wrong
            yield Finding(kind="wrong", case=case, text=why, command=rerun_command(case, plugin))
            break
    broken = [
        (result.counterexample, verification.case)
        for verification in verified
        for result in verification.relations
        if result.status == "broken" and result.counterexample is not None
    ]
    if broken:
        found, case = min(broken, key=lambda pair: (pair[0].company.size, pair[0].reference.size))
        yield Finding(kind="variant", case=case, text=describe(found), command=found.command, counterexample=found)


def rerun_command(case: Case, plugin: str | None = None) -> str:
    """The command that measures one case alone."""
    options = {
        "--op": case.operator,
        "--arm": case.arm,
        "--shapes": case.shape.token,
        "--dtype": str(case.precision),
        "--plugin": plugin,
    }
    words = [word for name, value in options.items() if value is not None for word in (name, value)]
    return shlex.join(["python", "-m", "kernels_bench", *words])


def describe(found: Counterexample) -> str:
    """A counterexample in one sentence, without its case."""
    rows = "" if found.rows_compared == 1 else f" in {found.rows:,} of {found.rows_compared:,} rows"
    first = "NaN" if found.ulp is None else _ulp(found.ulp)
    most = "" if found.max_ulp in (None, found.ulp) else f", at most by {_ulp(found.max_ulp or 0)}"
    return (
        f"{found.relation}: row {found.row} differs {_between(found)}: "
        f"{_many(found.elements, 'element')}{rows}, the first by {first}{most}: "
        f"{_number(found.expected)} became {_number(found.got)}"
    )


def _between(found: Counterexample) -> str:
    here, there = found.company, found.reference
    if here.launch != there.launch:
        return f"at M={here.size} replayed from a CUDA graph vs launched eagerly"
    if here.spec == there.spec:
        return f"from one call to the next at M={here.size}"
    return f"at {_place(here)} vs {_place(there)}"


def _place(company: CompanyRef) -> str:
    # ``first:M`` is what anybody expects of M rows; the others are told apart by their specs.
    plain = company.spec == f"first:{company.size}"
    return f"M={company.size}" if plain else f"M={company.size} ({company.spec})"


def _number(value: float) -> str:
    return f"{value:.9g}"


def _ulp(count: int) -> str:
    return f"{count:,} ulp"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# --- speed -------------------------------------------------------------------------------------------------


def _usable(measured: Measured | None) -> float | None:
    """The median in µs, or None where there is none to divide by."""
    if measured is None or not math.isfinite(measured.median_us) or measured.median_us <= 0:
        return None
    return measured.median_us


def _speed(timed: Sequence[Timing], base: Sequence[Timing], state: Literal["warm", "cold"]) -> Speed | None:
    def medians(timings: Sequence[Timing]) -> dict[tuple[str, int], float]:
        values = {(t.case.without_arm, t.m): _usable(t.warm if state == "warm" else t.cold) for t in timings}
        return {key: us for key, us in values.items() if us is not None}

    ours, default = medians(timed), medians(base)
    ratios = {key: default[key] / us for key, us in ours.items() if key in default}
    if not ratios:
        return None
    sizes = sorted({m for _, m in ratios})
    return Speed(
        ratio=geometric_mean(list(ratios.values())),
        by_m={m: geometric_mean([ratio for (_, at), ratio in ratios.items() if at == m]) for m in sizes},
        cases=len({case for case, _ in ratios}),
        timings=len(ratios),
    )


def _ceiling_share(timed: Iterable[Timing], ceiling: Ceiling | None) -> CeilingShare | None:
    if ceiling is None:
        return None
    shares = [share for timing in timed if (share := ceiling_share(timing, ceiling)) is not None]
    if not shares:
        return None
    return CeilingShare(median=statistics.median(shares), best=max(shares), timings=len(shares))


def ceiling_share(timing: Timing, ceiling: Ceiling) -> float | None:
    """The least time that the device needs for one timing, as a share of the time taken; None if unknown.

    What is bound by bandwidth is judged by its cold time, since warm data may come from L2 and beat the bus.
    """
    peak = ceiling.tflop_s.get(timing.case.precision.input, 0.0)
    if not ceiling.bandwidth_gb_s > 0 or not peak > 0:
        return None
    moving_us = timing.bytes_moved / ceiling.bandwidth_gb_s / 1e3
    computing_us = timing.operations / peak / 1e6
    taken_us = _usable(timing.cold if moving_us >= computing_us else timing.warm)
    least_us = max(moving_us, computing_us)
    return least_us / taken_us if taken_us is not None and least_us > 0 else None


# --- same bits ---------------------------------------------------------------------------------------------

_Digests = dict[tuple[str, int], str]


def _digests(found: _Found) -> dict[str, _Digests]:
    """Each arm's digests by case and M."""
    digests: dict[str, _Digests] = {}
    for verification in found.verifications.values():
        if verification.status == "measured":
            mine = digests.setdefault(verification.case.arm, {})
            mine |= {(verification.case.without_arm, m): text for m, text in verification.digests.items()}
    return digests


def _same_bits(arm: str, digests: Mapping[str, _Digests]) -> Iterator[SameBits]:
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


# --- warnings ----------------------------------------------------------------------------------------------

_THROTTLE_REMEDIES = {
    "sw_power_cap": "the card is at its power limit; raise it (nvidia-smi -pl), or trust ratios, not times",
    "sw_thermal_slowdown": "the card is hot; let it cool down, or cool it better, and run again",
    "hw_thermal_slowdown": "the card is too hot; let it cool down, or cool it better, and run again",
    "hw_power_brake_slowdown": "the power supply asked for it; see to the machine's power and run again",
    "hw_slowdown": "heat or power supply; see to the machine's cooling and power and run again",
    "sync_boost": "the card's clock is tied to another card's; leave its sync boost group and run again",
    "display_clock": "a display holds the clock; use a card without one",
}
_NO_REASON = "no reason was given"
_RELATION_REMEDIES = {
    "needs a CUDA device": "the verdicts do not cover it; run on a machine with an NVIDIA GPU",
}
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


@dataclass(frozen=True)
class _Remark:
    """One thing to say of one record; those of equal ``group`` are said together."""

    kind: NoticeKind
    text: str
    remedy: str
    arm: str
    place: str
    unit: Literal["timing", "case"]
    command: str = ""

    @property
    def group(self) -> tuple[str, ...]:
        # Every arm has its own reasons to fail, while clocks and spreads are the machine's.
        own = self.arm if self.kind in ("failed", "unsupported", "skipped") else ""
        return self.kind, own, _NUMBER.sub("#", self.text)


def _notices(found: _Found, facts: RunFacts) -> Iterator[Notice]:
    remarks = [*_status_remarks(found, facts), *_relation_remarks(found), *_timing_remarks(found)]
    groups: dict[tuple[str, ...], list[_Remark]] = {}
    for remark in remarks:
        groups.setdefault(remark.group, []).append(remark)
    all_notices = [*_absent_arms(facts), *(_fold(group) for group in groups.values())]
    yield from sorted(all_notices, key=lambda notice: NOTICE_KINDS.index(notice.kind))


def _absent_arms(facts: RunFacts) -> Iterator[Notice]:
    for arm in facts.arms:
        if arm.unavailable:
            yield Notice(
                kind="arm",
                text=f"cannot run here: {arm.unavailable}",
                remedy="leave it out with --arm; --list says what each arm needs",
                arms=(arm.name,),
                count=1,
                unit="arm",
                example=arm.name,
            )


def _fold(group: Sequence[_Remark]) -> Notice:
    first = group[0]
    return Notice(
        kind=first.kind,
        text=_ranges([remark.text for remark in group]),
        remedy=first.remedy,
        arms=tuple(dict.fromkeys(remark.arm for remark in group)),
        count=len({remark.place for remark in group}),
        unit=first.unit,
        example=first.place,
        command=first.command,
    )


def _ranges(texts: Sequence[str]) -> str:
    """Texts that differ in numbers only as one text, ``±2.1 to 7.5 %``."""
    columns = list(zip(*(_NUMBER.findall(text) for text in texts), strict=True))
    spans = []
    for column in columns:
        low, high = min(column, key=float), max(column, key=float)
        spans.append(low if float(low) == float(high) else f"{low} to {high}")
    replacement = iter(spans)
    return _NUMBER.sub(lambda _: next(replacement), texts[0])


def _status_remarks(found: _Found, facts: RunFacts) -> Iterator[_Remark]:
    """What ended otherwise than measured, arms that do not offer an operator at all apart."""
    not_offered = _not_offered(found)
    for record in found.cases():
        case, status = record.case, record.status
        if status == "measured" or (case.arm, case.operator) in not_offered or _follows(record, found):
            continue
        remedy, command = _remedy(record, facts)
        yield _Remark(status, record.reason or _NO_REASON, remedy, case.arm, case.key, "case", command)


def _follows(record: Verification | Timing, found: _Found) -> bool:
    """A case that was not timed for what its verification says already."""
    verification = found.verifications.get(record.case.key)
    if record.kind == "verification" or record.status != "skipped" or verification is None:
        return False
    return verification.status != "measured" or bool(verification.wrong)


def _not_offered(found: _Found) -> set[tuple[str, str]]:
    """Pairs of arm and operator of which nothing is supported: tables say so themselves."""
    statuses: dict[tuple[str, str], set[str]] = {}
    for record in found.cases():
        statuses.setdefault((record.case.arm, record.case.operator), set()).add(record.status)
    return {pair for pair, seen in statuses.items() if seen == {"unsupported"}}


def _remedy(record: Verification | Timing, facts: RunFacts) -> tuple[str, str]:
    """What to do about a case that was not measured, and the command that shows more, if any."""
    reason = record.reason.lower()
    if record.status == "unsupported":
        return "no fault; leave such cases out with --arm, --shapes or --dtype", ""
    if "out of memory" in reason:
        return "free the device's memory, or choose smaller --shapes and --batch", ""
    batch = f" --batch {record.m}" if isinstance(record, Timing) else ""
    alone = rerun_command(record.case, _plugin(record.case.arm, facts)) + batch
    if "no answer" in reason or "timed out" in reason:
        return "raise --timeout if the kernel is slow, else it hangs; one alone:", alone
    logs = PurePath(facts.directory) / "logs" / f"{record.case.arm}.log"
    return f"its worker's own words are in {logs}; one alone:", alone


def _relation_remarks(found: _Found) -> Iterator[_Remark]:
    for verification in found.verifications.values():
        case = verification.case
        for result in verification.relations:
            if result.status not in ("unsupported", "failed"):
                continue
            remedy = _RELATION_REMEDIES.get(result.reason, "the verdicts do not cover it")
            text = f"relation {result.relation} could not be examined: {result.reason or _NO_REASON}"
            yield _Remark("relation", text, remedy, case.arm, case.key, "case")


def _timing_remarks(found: _Found) -> Iterator[_Remark]:
    for timing in found.timings.values():
        if timing.status != "measured":
            continue
        arm, key = timing.case.arm, timing.key
        for state, measured in (("warm", timing.warm), ("cold", timing.cold)):
            for text in measured.warnings if measured is not None else ():
                yield _Remark("timing", text, "", arm, key, "timing")
            if measured is not None and _usable(measured) is None:
                text = f"{state} median is not a positive time and is left out"
                yield _Remark("timing", text, "choose a larger M or shape", arm, key, "timing")
        for reason in timing.throttle_reasons:
            remedy = _THROTTLE_REMEDIES.get(reason, "leave the card idle and alone, and run again")
            yield _Remark("throttle", f"the clock was held down by {reason}", remedy, arm, key, "timing")


__all__ = [
    "HEADLINE_SIZES",
    "NOTICE_KINDS",
    "SUMMARY_SCHEMA_VERSION",
    "VERDICTS",
    "ArmFact",
    "ArmSummary",
    "CeilingShare",
    "Finding",
    "Notice",
    "NoticeKind",
    "OperatorSummary",
    "RunFacts",
    "RunSummary",
    "SameBits",
    "Speed",
    "Verdict",
    "broken_promises",
    "ceiling_share",
    "describe",
    "exit_status",
    "geometric_mean",
    "rerun_command",
    "summarise_run",
    "unmeasured",
]
