"""What is concluded from a run, as plain immutable data: the schema of what ``--json`` writes.  No torch.

Raise `SUMMARY_SCHEMA_VERSION` with every change that an older reader would misread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from kernels_bench.records.cases import Case, Claims, Device, claimed
from kernels_bench.records.results import Ceiling, Counterexample
from profiles.instruments.environment import Environment
from profiles.run_files.record import Record

SUMMARY_SCHEMA_VERSION = 4

Verdict = Literal["wrong", "variant", "failed", "inconclusive", "sampled", "defined", "unsupported", "skipped"]
VERDICTS: tuple[Verdict, ...] = (
    "wrong", "variant", "failed", "inconclusive", "sampled", "defined", "unsupported", "skipped"
)  # fmt: skip
"""Every verdict of a case, the worst first: an arm has the worst of its cases'."""

OrderFact = Literal["same", "differs", "unknown"]

SIGNS: Mapping[Verdict, str] = {
    "sampled": "✅",
    "variant": "❌",
    "wrong": "⛔",
    "failed": "❗",
    "inconclusive": "❔",
}
"""A sign for each verdict of a case that was examined; each is two columns wide in every terminal."""

WarningKind = Literal["failed", "skipped", "bits", "relation", "arm", "unsupported", "throttle", "timing"]
WARNING_KINDS: tuple[WarningKind, ...] = (
    "failed", "skipped", "bits", "relation", "arm", "unsupported", "throttle", "timing"
)  # fmt: skip
"""Every kind of warning, the gravest first: ``relation`` is one that could not be examined, ``arm`` one that
could not run at all."""

GRAVE_WARNINGS: tuple[WarningKind, ...] = ("failed", "skipped", "bits", "relation")
"""Of results that were asked for and are missing, or differ when timed."""

HEADLINE_SIZES = (1, 16, 256, 2048)
"""The M whose speeds stand in the tables."""


class ArmFact(Record):
    """An arm that the run was asked for.

    Attributes:
        name: as users type it.
        claims: the relations that the arm says of itself it keeps.
        provenance: which version and path it uses; empty if it does not say.
        unavailable: why it could not run on this machine; empty if it could.
        plugin: path of the user's file that it comes from, if any.
        default_for: operators of which it is the default kernel.
    """

    name: str
    claims: Claims
    provenance: str = ""
    unavailable: str = ""
    plugin: str | None = None
    default_for: tuple[str, ...] = ()


class RunFacts(Record):
    """What a summary says of the run beside its records.

    Attributes:
        device: what the kernels ran on.
        arms: in the order of the tables.
        directory: path of the run directory.
        seconds: wall time; None if nobody watched the clock.
        environment: code, machine and versions.
        command: the command line that made the run, as it can be typed again.
        default_arm: the arm that the others' speeds are compared with, where no arm is an operator's own default.
        missing: measurements that were planned and not reached (Ctrl-C, a full disk).
        relations_left_out: relations that have a meaning for what was run, and were not asked for.
        sizes_left_out: whether only some M were verified, as ``--batch`` and ``--quick`` had it up to schema 2.
        partial_accepted: whether the user said that leaving them out is meant.
    """

    device: Device
    arms: tuple[ArmFact, ...]
    directory: str
    environment: Environment
    seconds: float | None = None
    command: str = "python -m kernels_bench"
    default_arm: str = "torch"
    missing: int = 0
    relations_left_out: tuple[str, ...] = ()
    sizes_left_out: bool = False
    partial_accepted: bool = False


class Speed(Record):
    """Speed as a multiple of the default arm's: its median over this arm's, so below 1 is slower than it.

    Attributes:
        ratio: geometric mean over all pairs.
        by_m: geometric mean over the cases timed at each M.
        by_length: geometric mean over those timed at each length of sequences; empty where rows are no sequences.
        cases: how many cases went into it.
        timings: how many pairs of the same case and M went into it.
    """

    ratio: float
    by_m: dict[int, float]
    by_length: dict[int, float] = Field(default_factory=dict)
    cases: int
    timings: int


class CeilingShare(Record):
    """The least time that the ceilings allow, as a share of the time taken (1 is the ceiling itself).

    Attributes:
        median: over the timings.
        best: over the timings.
        timings: how many went into it.
        by_length: median over those at each length of sequences; empty where rows are no sequences.
    """

    median: float
    best: float
    timings: int
    by_length: dict[int, float] = Field(default_factory=dict)


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


class Tried(Record):
    """A relation that was examined to its end.

    Attributes:
        relation: its name.
        sizes: the M of the companies compared, the same in every case; empty where the records do not tell.
        power: in every case a change that comes in one launch of so many would have been seen with a probability of
            99 %; 0 where the records do not tell.
    """

    relation: str
    sizes: tuple[int, ...]
    power: int = 0


class BrokenRelation(Record):
    """A relation that one arm broke.

    Attributes:
        relation: its name.
        examined: in how many cases the relation was examined, broken or not.
        where: in what companies, over all cases: M, and who the neighbours were.
        by_case: the same for each shape and precision in which it broke.
        binding: whether the verdict counts it; it does not where an arm may leave a relation to its callers and does
            not claim it.
    """

    relation: str
    examined: int
    where: str
    by_case: dict[str, str]
    binding: bool = True


class Finding(Record):
    """What is wrong with one case, and how to see it again.

    Attributes:
        kind: ``wrong``, ``variant`` with its counterexample, or ``order``: the order of addition differs with M.
        case: where.
        text: what, in one sentence without a full stop.
        command: shows it again; a counterexample's in a few seconds.
        counterexample: for ``variant``.
    """

    kind: Literal["wrong", "variant", "order"]
    case: Case
    text: str
    command: str
    counterexample: Counterexample | None = None


class RunWarning(Record):
    """A warning, said once however often it applies.

    Attributes:
        kind: one of `WARNING_KINDS`.
        text: what a reader must know; numbers that differ are given as ranges.
        remedy: what to do about it; empty where ``text`` says so itself.
        arms: whom it concerns.
        count: how often it applies, in units of ``unit``.
        unit: ``timing``, ``case`` or ``arm``.
        example: one of them, such as ``vllm/mm/4096x4096/bf16/16``.
        command: shows it again; empty where that makes no sense.
    """

    kind: WarningKind
    text: str
    remedy: str
    arms: tuple[str, ...]
    count: int
    unit: Literal["timing", "case", "arm"]
    example: str
    command: str = ""


class RankBandwidth(Record):
    """What ranks moved a second in a collective, of the timing in which each sent most.

    Attributes:
        case: which, arms apart.
        m: number of rows.
        algorithm_gb_s: bytes that each rank gave, over the slowest rank's time with a warm cache.
        bus_gb_s: the fewest bytes that each rank must send, over the same.
    """

    case: str
    m: int
    algorithm_gb_s: float
    bus_gb_s: float


class ArmSummary(Record):
    """One arm over all cases of an operator, or of the whole run.

    Attributes:
        arm: its name.
        claims: the relations that it says of itself it keeps.
        verdict: the worst of its cases'; None if none was verified.
        verdicts: how many cases have each verdict, the worst first.
        orders: in how many cases the order of addition was read out and is the ``same`` at every M, ``differs``, or is
            ``unknown``; cases whose order cannot be read off their results are not counted.
        cases: how many cases were to be verified.
        companies: how many companies were compared with a reference.
        rows: how many rows' outputs were compared.
        worst_error: largest error as a share of what the operators allow (above 1 is wrong); None if unknown.
        broken_claims: in how many cases a relation that it claims is broken.
        undecided_claims: in how many cases it stays undecided whether a relation that it claims holds.
        breakages: every relation that broke, and where.
        findings: the first thing wrong, and the counterexample of the smallest company, where there are any.
        warm: speed with a warm L2; None if nothing was timed on both arms.
        cold: speed with a cold L2.
        ceiling: share of the ceiling; None without a measured ceiling.
        over_ranks: what ranks moved at most; None where none compute together.
        same_bits: the other arms that compute the same bits, at least at times.
        timed: how many timings were measured.
        timed_otherwise: in how many of them timed calls gave other bits than the verified, or than each other.
        failed: how many verifications, relations and timings failed.
        skipped: how many were skipped; timings that follow from their verification's result do not count.
        reasons: why cases are ``unsupported``, ``failed`` or ``skipped``, each reason once.
    """

    arm: str
    claims: Claims
    verdict: Verdict | None
    verdicts: dict[Verdict, int]
    orders: dict[OrderFact, int] = Field(default_factory=dict)
    cases: int
    companies: int
    rows: int
    worst_error: float | None
    broken_claims: int
    undecided_claims: int
    breakages: tuple[BrokenRelation, ...]
    findings: tuple[Finding, ...]
    warm: Speed | None
    cold: Speed | None
    ceiling: CeilingShare | None
    over_ranks: RankBandwidth | None = None
    same_bits: tuple[SameBits, ...]
    timed: int
    timed_otherwise: int = 0
    failed: int
    skipped: int
    reasons: tuple[str, ...]

    @property
    def examined(self) -> int:
        """How many cases the arm offers at all."""
        return self.cases - self.verdicts.get("unsupported", 0)


class ShapeGroup(Record):
    """The shapes of one kind, where a run has several: of models, typed as sizes, or invented, which tell little speed.

    Attributes:
        invented: whether they are invented.
        typed: whether a user gave their sizes.
        cases: how many different cases, arms apart.
        arms: every arm over these cases, without its findings.
    """

    invented: bool
    typed: bool = False
    cases: int
    arms: tuple[ArmSummary, ...]


class OperatorSummary(Record):
    """One operator.

    Attributes:
        operator: its name.
        cases: how many different cases, arms apart.
        default_arm: the arm that the others' speeds are compared with.
        sizes: the M that its table shows: those of `HEADLINE_SIZES` that were timed, else a few that were.
        lengths: the lengths of sequences that were timed; none where rows are no sequences.
        tried: what its verdicts rest on.
        arms: every arm of which there is a record.
        groups: the same for models' shapes, typed sizes and invented ones apart; none where all are of one kind.
        judged: whether results were held against a reference; of an operator of a user's own there need be none.
        depends_on_batch: why a row's result depends on its batch by definition; empty where it must not.
    """

    operator: str
    cases: int
    default_arm: str
    sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    tried: tuple[Tried, ...] = ()
    arms: tuple[ArmSummary, ...]
    groups: tuple[ShapeGroup, ...] = ()
    judged: bool = True
    depends_on_batch: str = ""


class RunSummary(Record):
    """A whole run.

    Attributes:
        schema_version: `SUMMARY_SCHEMA_VERSION`.
        facts: device, versions, and where the results are.
        operators: in the order of the records.
        arms: every arm over all operators.
        groups: the same for models' shapes, typed sizes and invented ones apart; none where all are of one kind.
        ceiling: what the device can do at most; None if it was not measured.
        provenance: which version and path each arm used.
        notices: warnings, those about failures first.
    """

    schema_version: int = SUMMARY_SCHEMA_VERSION
    facts: RunFacts
    operators: tuple[OperatorSummary, ...]
    arms: tuple[ArmSummary, ...]
    groups: tuple[ShapeGroup, ...] = ()
    ceiling: Ceiling | None
    provenance: dict[str, str]
    notices: tuple[RunWarning, ...]

    @property
    def default_arm(self) -> str:
        """The arm that speeds over all operators are compared with, in words."""
        names = {operator.default_arm for operator in self.operators}
        return names.pop() if len(names) == 1 else "the default arms"

    @property
    def partial(self) -> bool:
        """Whether something was left out that an arm claims to keep."""
        left_out = self.facts.relations_left_out
        claims = [arm.claims for arm in self.arms if arm.claims]
        some_m = self.facts.sizes_left_out and bool(claims)
        return some_m or any(claimed(one, relation) for one in claims for relation in left_out)


def plugin_of(arm: str, facts: RunFacts) -> str | None:
    """Path of the user's file that an arm comes from, if any."""
    return next((known.plugin for known in facts.arms if known.name == arm), None)
