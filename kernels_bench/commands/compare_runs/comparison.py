"""How two runs differ, in verdicts, cases, bits and medians; what repeatability claims are measured by."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernels_bench.console.errors import UsageError
from kernels_bench.records.cases import Claims, claimed
from kernels_bench.records.latest_records import STATES, LatestRecords, State, median_us
from kernels_bench.records.manifest import Manifest, read_manifest, read_records
from kernels_bench.records.results import RelationResult, Verification, was_same_data
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import Setting, relations, sweep
from kernels_bench.relations.spec import BatchSpec
from kernels_bench.report.summary.summarise import breaks_a_claim
from kernels_bench.timing.change import CaseChange, Scatter, TimedRun, case_changes
from profiles.instruments.environment import Environment, differences
from profiles.instruments.telemetry import DeviceFacts
from profiles.run_files.record import Record

LEAST_US = 5.0
"""Medians below this are left out: a tenth of a microsecond would be a large share of them."""

_CHOOSES_A_CARD = {"ASCEND_RT_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"}
"""Variables that say which card a run is on, which it is known by its own number."""

_JUDGED = {"sampled": 0, "defined": 0, "variant": 1, "wrong": 2}
"""Verdicts that say something of a case's bits, from good to bad; that a proof took too long is no difference."""


class TimingChange(Record):
    """One timing in both runs.

    Attributes:
        key: the timing's, such as ``torch/mm/4096x4096/bf16/16``.
        state: what the L2 held.
        first_us: median in the first run.
        second_us: median in the second run.
    """

    key: str
    state: State
    first_us: float
    second_us: float

    @property
    def share(self) -> float:
        """How much longer the second took, as a share of the first; negative if it was faster."""
        return self.second_us / self.first_us - 1


class VerdictChange(Record):
    """One case of which both runs say something else.

    Attributes:
        key: the case's, such as ``torch/mm/4096x4096/bf16``.
        first: what the first run says.
        second: what the second run says.
        worse: whether the second is the worse one.
    """

    key: str
    first: str
    second: str
    worse: bool


class RunComparison(Record):
    """Two runs beside each other.

    Attributes:
        environment: what differs between the machines, a line each.
        selection: what differs between what was asked for, likewise.
        verified: how many cases both runs verified, the first one alone and the second one alone.
        verdicts: cases whose verdict differs, and those that newly break a relation which their arm claims.
        missing: what the first run judged or timed and the second did not, a line each.
        digests: how many outputs of the same data were digested in both runs, and how many of them have the same bits;
            None where the runs' seeds differ.
        other_data: how many were digested in both runs, and are of other rows or weights, or may be, since one of the
            runs does not say and another samebits made them.
        other_bits: the outputs whose bits are not the same.
        warm: every timing of at least `LEAST_US` in both runs, the largest change last.
        cold: likewise.
        broken: cases of the second run that break a relation which their arm claims, or whose result is wrong.
        apart: why speed says nothing of the kernels: other cards, drivers, versions or settings, or a profiler, a line
            each.
        speeds: what became of each case's times; empty where ``apart`` is not, unless they were to be judged all
            the same.
        scatter: how far the runs' times differ for no reason of the kernels.
    """

    environment: tuple[str, ...]
    selection: tuple[str, ...]
    verified: tuple[int, int, int]
    verdicts: tuple[VerdictChange, ...]
    missing: tuple[str, ...]
    digests: tuple[int, int] | None
    other_data: int
    other_bits: tuple[str, ...]
    warm: tuple[TimingChange, ...]
    cold: tuple[TimingChange, ...]
    broken: tuple[str, ...]
    apart: tuple[str, ...]
    speeds: tuple[CaseChange, ...]
    scatter: Scatter


@dataclass(frozen=True)
class RunRead:
    """What is compared of a run: its manifest, and its records with the cycles of its timings."""

    manifest: Manifest
    timed: TimedRun


def read_run(directory: Path) -> RunRead:
    """Read a run to compare it.

    Raises:
        ResultsError: the directory is no run, or is damaged.
    """
    return RunRead(read_manifest(directory), TimedRun.of(read_records(directory, samples=True)))


def refuse_same(first: Path, second: Path) -> None:
    """See that two directories are not one and the same: a comparison that is mistyped so would find no difference.

    Raises:
        UsageError: they are.
    """
    if os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second):
        raise UsageError(f"{second}: this is the first run again, in which nothing can differ; name another run")


def compare_runs(first: Path, second: Path, across: bool = False) -> RunComparison:
    """Compare two runs.

    Args:
        first: directory of the older one.
        second: directory of the newer one.
        across: judge speed although cards, drivers or versions differ.

    Raises:
        ResultsError: one of the directories is no run, or is damaged.
    """
    return compare(read_run(first), read_run(second), across)


def compare(before: RunRead, after: RunRead, across: bool = False) -> RunComparison:
    """The same for runs that are read already."""
    one, other = before.manifest, after.manifest
    a, b = before.timed.records, after.timed.records
    both = len(a.verifications.keys() & b.verifications.keys())
    apart = tuple(_apart(one, other))
    speeds, scatter = case_changes(before.timed, after.timed)
    same_source = one.environment.source_digest == other.environment.source_digest
    (digested, other_data), same_seed = _digested(a, b, same_source), one.selection.seed == other.selection.seed
    return RunComparison(
        environment=differences(one.environment, other.environment),
        selection=tuple(_asked_otherwise(one.selection, other.selection)),
        verified=(both, len(a.verifications) - both, len(b.verifications) - both),
        verdicts=tuple(_verdicts(a, b, _claims(one))),
        missing=(*_withdrawn(one, other), *_missing(a, b)),
        digests=(len(digested), sum(digested.values())) if same_seed else None,
        other_data=other_data if same_seed else 0,
        other_bits=tuple(sorted(name for name, same in digested.items() if same_seed and not same)),
        warm=_changes(a, b, "warm"),
        cold=_changes(a, b, "cold"),
        broken=tuple(_broken(b, _claims(other))),
        apart=apart,
        speeds=speeds if across or not apart else (),
        scatter=scatter,
    )


def _apart(one: Manifest, other: Manifest) -> Iterator[str]:
    """What differs beside the kernels; samebits' own version is none of it, since it is not what is timed."""
    then, now = one.environment, other.environment
    if one.device.name != other.device.name:
        yield f"{one.device.name}, then {other.device.name}"
    elif then.device is not None and now.device is not None:
        yield from _other_card(one.device.name, then.device, now.device)
    elif then.usable_cores != now.usable_cores:
        yield f"{then.usable_cores} usable cores, then {now.usable_cores}"
    yield from _otherwise(then.versions, now.versions, "absent")
    yield from _otherwise(_settings(then), _settings(now), "not set")
    if then.profiler != now.profiler:
        yield f"recorded by {then.profiler or 'no profiler'}, then by {now.profiler or 'none'}"


def _other_card(name: str, then: DeviceFacts, now: DeviceFacts) -> Iterator[str]:
    if then.uuid != now.uuid:
        yield f"another {name}"
    if then.driver_version != now.driver_version:
        yield f"driver {then.driver_version}, then {now.driver_version}"
    if then.power_limit_w != now.power_limit_w:
        yield f"a power limit of {then.power_limit_w} W, then {now.power_limit_w} W"


def _settings(environment: Environment) -> dict[str, str]:
    return {name: value for name, value in environment.variables.items() if name not in _CHOOSES_A_CARD}


def _otherwise(then: Mapping[str, str], now: Mapping[str, str], none: str) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"{name} {then.get(name, none)}, then {now.get(name, none)}"


def _broken(b: LatestRecords, claims: dict[str, Claims]) -> Iterator[str]:
    for key, verification in sorted(b.verifications.items()):
        told = claims.get(verification.case.arm, True)
        if verification.verdict == "wrong" or breaks_a_claim(verification, told):
            yield key


def _asked_otherwise(one: Selection, other: Selection) -> Iterator[str]:
    """Options that differ; how long was waited, and what the user says of the exit status, choose nothing."""
    silent = {"timeout_s", "partial"}
    then = other.model_dump(exclude=silent)
    for option, value in one.model_dump(exclude=silent).items():
        if value != then[option]:
            yield f"--{option} {_as_typed(value)}, then {_as_typed(then[option])}"


def _as_typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else "not given" if value is None else str(value)


def _claims(manifest: Manifest) -> dict[str, Claims]:
    return {arm.name: arm.claims for arm in manifest.arms}


def _verdicts(a: LatestRecords, b: LatestRecords, claims: dict[str, Claims]) -> Iterator[VerdictChange]:
    for key in sorted(a.verifications.keys() & b.verifications.keys()):
        one, other = a.verifications[key], b.verifications[key]
        before, after = _JUDGED.get(one.verdict, 0), _JUDGED.get(other.verdict, 0)
        newly = sorted(_relations(one, "held") & _relations(other, "broken"))
        if one.verdict != other.verdict:
            yield VerdictChange(key=key, first=one.verdict, second=other.verdict, worse=after > before)
        elif newly and any(claimed(claims.get(one.case.arm, True), relation) for relation in newly):
            second = f"{other.verdict} in {', '.join(newly)} too"
            yield VerdictChange(key=key, first=one.verdict, second=second, worse=True)


def _relations(verification: Verification, status: str) -> set[str]:
    """The relations that ended so."""
    return {result.relation for result in verification.relations if result.status == status}


def _missing(a: LatestRecords, b: LatestRecords) -> Iterator[str]:
    """What the first run knew of a case and the second does not: its verdict, relations, M, or times."""
    for key, one in sorted(a.verifications.items()):
        other = b.verifications.get(key)
        if one.verdict not in _JUDGED:
            continue
        if other is None:
            yield f"{key}: {one.verdict}, then not verified"
        elif other.verdict not in _JUDGED:
            yield f"{key}: {one.verdict}, then {other.verdict}" + (f" ({other.reason})" if other.reason else "")
        else:
            yield from (f"{key}: {text}" for text in _untried(one, other))
    # Of a case that is missing itself nothing more is said, and what is wrong has no speed.
    still = {key for key, other in b.verifications.items() if other.verdict in _JUDGED and not other.wrong}
    for name, timing in sorted(a.timings.items()):
        then = b.timings.get(name)
        if timing.status != "measured" or timing.case.key not in still:
            continue
        if then is None or then.status != "measured":
            yield f"{name}: timed, then {'not' if then is None else then.status}"
            continue
        for state in STATES:
            if median_us(timing, state) is not None and median_us(then, state) is None:
                yield f"{name}: timed {state}, then not"


def _withdrawn(one: Manifest, other: Manifest) -> Iterator[str]:
    """Arms that claim less than they did."""
    then = _claims(other)
    for arm, claims in _claims(one).items():
        named = [relation for relation in relations() if claimed(claims, relation)]
        gone = [relation for relation in named if arm in then and not claimed(then[arm], relation)]
        if gone:
            yield f"{arm}: claimed {', '.join(gone)}, then not"


def _due(result: RelationResult, then: RelationResult, case: Verification) -> set[int]:
    """The M that one result has and another must have, which are not those for which there may have been no time."""
    return {*result.sizes} & _of_every_run(result.relation, case) if then.cut else {*result.sizes}


def _of_every_run(relation: str, case: Verification) -> set[int]:
    """The M that a relation looks at in every run, whatever time there is."""
    shape, universe = case.case.shape, case.universe
    longest, page, window = shape.tokens or 0, shape.page or 0, shape.window or 0
    setting = Setting(universe, sweep(universe), longest=longest, page=page, window=window)
    known = relations().get(relation)
    return set() if known is None else {BatchSpec.parse(one.company).size for one in known.comparisons(setting)}


def _untried(one: Verification, other: Verification) -> Iterator[str]:
    """Relations, and M of them, that one verification examined and the other did not."""
    if other.wrong:  # what is wrong altogether need not be looked at further
        return
    then = {r.relation: r for r in other.relations if r.status in ("held", "broken")}
    for result in one.relations:
        if result.status not in ("held", "broken"):
            continue
        if result.relation not in then:
            yield f"{result.relation} was examined, then not"
        elif gone := sorted(_due(result, then[result.relation], one) - {*then[result.relation].sizes}):
            where = f"M={', '.join(map(str, gone))}" if then[result.relation].sizes else "M that are not told"
            yield f"{result.relation} was examined at {where}, then not"
    if gone := sorted(one.digests.keys() - other.digests.keys()):
        yield f"its output was digested at M={', '.join(map(str, gone))}, then not"


def _digested(a: LatestRecords, b: LatestRecords, same_source: bool) -> tuple[dict[str, bool], int]:
    """Whether the bits are equal, of every output that both runs digested, such as ``torch/mm/4096x4096/bf16 M=16``.

    Sequences of other lengths are other data; how many outputs are of other data for another reason comes second.
    """
    found: dict[str, bool] = {}
    other_data = 0
    for key in a.verifications.keys() & b.verifications.keys():
        one, other = a.verifications[key], b.verifications[key]
        both = one.digests.keys() & other.digests.keys() if one.lengths == other.lengths else ()
        if was_same_data(one.data, other.data, same_source):
            found |= {f"{key} M={m}": one.digests[m] == other.digests[m] for m in both}
        else:
            other_data += len(both)
    return found, other_data


def _changes(a: LatestRecords, b: LatestRecords, state: State) -> tuple[TimingChange, ...]:
    changes = (change for change in all_changes(a, b, state) if min(change.first_us, change.second_us) >= LEAST_US)
    return tuple(sorted(changes, key=lambda change: (abs(change.share), change.key)))


def all_changes(a: LatestRecords, b: LatestRecords, state: State) -> Iterator[TimingChange]:
    """Every timing that both runs have, however short."""
    for key in a.timings.keys() & b.timings.keys():
        one, other = a.timings[key], b.timings[key]
        first, second = median_us(one, state), median_us(other, state)
        if first is not None and second is not None:
            yield TimingChange(key=key, state=state, first_us=first, second_us=second)
