"""``plan``: measure, and tell which kernel to use at which M; and see whether an older plan still holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from kernels_bench.commands.report import write
from kernels_bench.commands.run.timing import DEFAULT_ARM
from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.operators import Operator, operators
from kernels_bench.plan.choose import plan_case
from kernels_bench.plan.export import Skipped, as_source, expressible, proof, tuned
from kernels_bench.plan.file import digest_of, elsewhere, parsed, plan_bytes
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.plan.search import left_out
from kernels_bench.plan.weights import weights_of
from kernels_bench.records.cases import Case, Device, candidate_name, label_of, process_of
from kernels_bench.records.latest_records import LatestRecords, latest_records
from kernels_bench.records.manifest import Manifest, ResultsError, read_manifest, read_records, timestamp
from kernels_bench.records.results import Timing, Verification, was_same_data
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import are_sequences
from kernels_bench.report.summary.summarise import default_arm_of
from profiles.command_line import warn
from profiles.errors import ExitStatus
from profiles.instruments.environment import Environment
from profiles.run_files.record import Record

USUAL_OPERATORS = ("linear",)
USUAL_SIZES: Mapping[Literal["cuda", "cpu"], tuple[int, ...]] = {
    "cuda": tuple(1 << power for power in range(13)),
    "cpu": (1, 4, 16, 64, 256),
}
"""Each M at which kernels are timed, and their results digested."""

USUAL_BUDGET_S = {"cuda": 240.0, "cpu": 20.0}
"""Seconds, about, for the search among candidates."""


def usual_sizes(names: Sequence[str], device: Literal["cuda", "cpu"]) -> tuple[int, ...] | None:
    """The M of a plan of some operators where none were named; None of sequences, of which a run has its own.

    Args:
        names: operators or families; of those that nobody knows the run tells.
        device: that is measured on.

    Raises:
        UsageError: they are of both kinds, of which each needs others.
    """
    kinds = {are_sequences(one.rows_are) for one in _operators(names)}
    if len(kinds) > 1:
        raise UsageError(f"--op {','.join(names)}: rows of some are sequences; name M by --batch, or plan them apart")
    return None if kinds == {True} else USUAL_SIZES[device]


def usual_lengths(names: Sequence[str], device: Literal["cuda", "cpu"]) -> tuple[int, ...] | None:
    """Tokens of the sequences that a run times: a plan verifies them too, since it is about these; None without any."""
    found = {length for one in _operators(names) for length in one.lengths[device]}
    return tuple(sorted(found)) or None


def _operators(names: Sequence[str]) -> list[Operator]:
    return [one for one in operators().values() if {one.name, one.family} & {*names}]


def plan_of(directory: Path, weighting: str, only: Selection = Selection(), today: str = "") -> Plan:  # noqa: B008 - immutable
    """The plan that a run's measurements allow.

    Args:
        directory: of the run.
        weighting: a name or a file, see `weights_of`.
        only: operators, arms, shapes and dtypes that it is made of; None of each is all that the run has.
        today: whose kernel is used now, and is compared with the plan; empty where that is not said.

    Raises:
        ResultsError: the directory is no run, is damaged, or has nothing to choose from.
        UsageError: the weights make no sense, or the run has not what was named.
    """
    manifest, records = read_manifest(directory), latest_records(read_records(directory))
    _refuse_unknown(records, only, today)
    groups = _groups(records, only, [arm.name for arm in manifest.arms])
    timed = sorted({timing.m for timing in records.timings.values() if timing.status == "measured"})
    if not groups or not timed:
        lacks = "timed" if groups else "verified and timed"
        raise ResultsError(f"{directory}: nothing was {lacks} that a plan can choose from")
    weights = weights_of(weighting, timed)
    meant = {arm.name: arm.order for arm in manifest.arms if arm.order}
    cases = tuple(
        _with_searched(
            plan_case(verified, timings, default, weights, today, among=_among(verified, only), meant=meant),
            verified,
            records,
            only,
        )
        for verified, timings in groups
        for default in (default_arm_of(verified[0].case.operator, manifest.arms, verified, DEFAULT_ARM),)
    )
    return Plan(
        created=timestamp(),
        run=str(directory),
        selection=manifest.selection,
        device=manifest.device,
        environment=manifest.environment,
        plugins={arm.name: arm.digest for arm in manifest.arms if arm.plugin},
        weighting=weighting,
        weights=weights,
        universe=max(one.universe for one in records.verifications.values()),
        cases=cases,
    )


def _with_searched(
    case: CasePlan, verified: Sequence[Verification], records: LatestRecords, only: Selection
) -> CasePlan:
    """The same with the candidates that a rough timing left out."""
    key = verified[0].case.without_arm
    roughs = [one for one in records.rough.values() if one.case.without_arm == key and _is_wanted(one.case, only)]
    slower = left_out(roughs, (one.case.arm for one in verified))
    return case.model_copy(update={"left_out": (*case.left_out, *slower)})


def missing(directory: Path) -> int:
    """How many measurements a run still lacks, as one that was interrupted."""
    records = latest_records(read_records(directory))
    return max(0, read_manifest(directory).planned - len(records.verifications) - len(records.timings))


def _groups(
    records: LatestRecords, only: Selection, arms: Sequence[str]
) -> list[tuple[list[Verification], list[Timing]]]:
    """What is known of each case, all arms together and in their order, in which no run finishes them."""
    verified: dict[str, list[Verification]] = {}
    for one in sorted(records.verifications.values(), key=lambda found: arms.index(found.case.arm)):
        if _is_wanted(one.case, only.model_copy(update={"arm": None})):
            verified.setdefault(one.case.without_arm, []).append(one)
    timings: dict[str, list[Timing]] = {}
    for timing in records.timings.values():
        timings.setdefault(timing.case.without_arm, []).append(timing)
    return [(found, timings.get(key, [])) for key, found in verified.items() if key in timings]


_OPTIONS = ("op", "arm", "shapes", "dtype")


def _names(case: Case) -> dict[str, set[str]]:
    """What options may call a case by."""
    shape = case.shape
    return {
        "op": {case.operator},
        # Who names an arm means its candidates too, as when the run was made.
        "arm": {case.arm, case.process, candidate_name(case.process, "*")} if label_of(case.arm) else {case.arm},
        "shapes": {shape.label, shape.label.partition("/")[0], shape.token},
        "dtype": {str(case.precision)},
    }


def _is_wanted(case: Case, only: Selection) -> bool:
    """Whether a case was asked for."""
    wanted = {option: getattr(only, option) for option in _names(case)}
    return all(wanted[option] is None or names & {*wanted[option]} for option, names in _names(case).items())


def _among(verified: Sequence[Verification], only: Selection) -> set[str] | None:
    """Whose kernels may be chosen: with the others they are compared alone, as with the default kernel."""
    arms = Selection(arm=only.arm)
    return None if only.arm is None else {one.case.arm for one in verified if _is_wanted(one.case, arms)}


def _refuse_unknown(records: LatestRecords, only: Selection, today: str) -> None:
    known: dict[str, set[str]] = {option: set() for option in _OPTIONS}
    for one in records.verifications.values():
        for option, names in _names(one.case).items():
            known[option] |= names
    known["today"] = {one.case.arm for one in records.verifications.values()}  # one kernel, and not all of an arm's
    asked = [(option, name) for option in _OPTIONS for name in getattr(only, option) or ()]
    for option, name in [*asked, *([("today", today)] if today else [])]:
        if name not in (among := known[option]):
            raise UsageError(f"--{option} {name}: the run has none{suggestion(name, sorted(among))}")


def refuse_unmeasured(today: str, now: Manifest) -> None:
    """A plan can be compared with the kernels of an arm only where these are measured too.

    Args:
        today: whose kernel is used now; empty where that is not said.
        now: of the run that is about to begin.

    Raises:
        UsageError: they are not.
    """
    if not today:
        return
    named, arms = {*(now.selection.arm or ())}, {arm.name: arm.unavailable for arm in now.arms}
    if today not in arms:
        known = sorted(name for name, unavailable in arms.items() if not unavailable and not label_of(name))
        raise UsageError(f"--today {today}: it is not among the arms that are measured{suggestion(today, known)}")
    if reason := arms[today]:
        raise UsageError(f"--today {today}: it cannot be measured here: {reason}")
    if label_of(today) and not named & {today, candidate_name(process_of(today), "*")}:
        raise UsageError(f"--today {today}: a search may leave it out; name it in --arm too")


def exit_status(plan: Plan) -> int:
    """0 where every case has a class of kernels to choose from; 3 where one has none."""
    return ExitStatus.GOOD if all(case.chosen is not None for case in plan.cases) else ExitStatus.INCOMPLETE


class CaseCheck(Record):
    """Whether one case of a plan still holds.

    Attributes:
        key: the case's.
        status: ``holds``: every kernel has the bits that the plan says; ``differs``; or ``unknown``, see ``reason``.
        reason: a sentence's end; empty where it holds.
    """

    key: str
    status: Literal["holds", "differs", "unknown"]
    reason: str = ""


def what_to_check(plan: Plan) -> Selection:
    """What has to be measured to see whether a plan holds: the bits of its kernels.

    Raises:
        UsageError: it has none.
    """
    planned = [case for case in plan.cases if case.chosen is not None]
    if not planned:
        raise UsageError("the plan has no kernels")
    arms = dict.fromkeys(arm for case in planned if case.chosen is not None for arm in case.chosen.arms)
    return plan.selection.model_copy(update={
        "op": tuple(dict.fromkeys(case.operator for case in planned)),
        "arm": tuple(arms),
        "only": "verify",
        "relation": None,
        "partial": False,
        "budget_s": None,
    })  # fmt: skip


def refuse_elsewhere(plan: Plan, device: Device, environment: Environment, force: bool) -> None:
    """A plan is for the device and the versions that it was made with.

    Raises:
        UsageError: something differs, and ``force`` is not set.
    """
    found = elsewhere(plan, device, environment)
    if found and not force:
        raise UsageError(f"the plan was made elsewhere: {'; '.join(found)}; --force checks it all the same")


def check_against(plan: Plan, directory: Path) -> tuple[CaseCheck, ...]:
    """Compare a plan's bits with those of a run.

    Raises:
        ResultsError: the directory is no run, or is damaged.
    """
    records = latest_records(read_records(directory))
    same_source = read_manifest(directory).environment.source_digest == plan.environment.source_digest
    return tuple(_checked(case, records, same_source) for case in plan.cases)


def _checked(case: CasePlan, records: LatestRecords, same_source: bool) -> CaseCheck:
    """Whether a case's kernels still have the bits that the plan says."""
    if case.chosen is None:
        return CaseCheck(key=case.key, status="unknown", reason="the plan has no kernel for it")
    reasons = []
    for arm in case.chosen.arms:
        key = Case(arm=arm, operator=case.operator, shape=case.shape, precision=case.precision).key
        found = records.verifications.get(key)
        if found is None or found.status != "measured":
            why = "was not verified" if found is None else f"{found.status}: {found.reason}"
            return CaseCheck(key=case.key, status="unknown", reason=f"{arm} {why}")
        if found.verdict != "sampled":
            reasons.append(f"{arm} is {found.verdict}")
        others = [f"{arm} has other bits at M={m}" for m in _other_bits(case, found)][:1]
        if others and not was_same_data(case.chosen.data, found.data, same_source):
            why = f"{arm} was given other rows than for the plan, or may have been: another samebits made them"
            return CaseCheck(key=case.key, status="unknown", reason=why)
        reasons += others
    return CaseCheck(key=case.key, status="differs" if reasons else "holds", reason="; ".join(reasons))


def _other_bits(case: CasePlan, found: Verification) -> Iterator[int]:
    assert case.chosen is not None
    for m, digest in case.chosen.digests.items():
        if found.digests.get(m) != digest:
            yield m


def check_words(found: Sequence[CaseCheck]) -> Iterator[str]:
    """A line for each case, and one for all."""
    for one in found:
        yield f"{one.key}: {one.status}" + (f": {one.reason}" if one.reason else "")
    held = sum(one.status == "holds" for one in found)
    yield f"the plan holds in {held} of {len(found)} cases"


def check_status(found: Sequence[CaseCheck]) -> int:
    """0 it holds; 1 some bits are others; 3 something could not be seen."""
    statuses = {one.status for one in found}
    if "differs" in statuses:
        return ExitStatus.VERDICT
    return ExitStatus.INCOMPLETE if "unknown" in statuses else ExitStatus.GOOD


def export_plan(file: Path, to: str, out: str, proof_file: str | None) -> int:
    """Write a plan as a table of tiles.

    Args:
        file: of the plan.
        to: whose table: ``vllm``, with the proof beside it, or ``samebits``, of its own arm.
        out: file of the table; ``-`` is standard output.
        proof_file: of the proof; None is beside the table, and nowhere where that has no file.

    Raises:
        ResultsError: a file cannot be read or written.
        UsageError: there is no such table.
    """
    content = plan_bytes(file)
    if (table_of := _TABLES.get(to)) is None:
        raise UsageError(f"--to {to}: unknown; expected {' or '.join(_TABLES)}")
    table, beside, skipped = table_of(parsed(content, file), digest_of(content))
    for one in skipped:
        warn("kernels_bench", f"{one.key} is not in the table: {one.reason}")
    if not table:
        warn("kernels_bench", "the table can say none of the plan's shapes, so nothing is written")
        return ExitStatus.INCOMPLETE
    write(out, table)
    target = proof_file or (None if out == "-" else f"{out}.proof.json")
    if beside and target is not None:
        write(target, beside)
    return ExitStatus.GOOD


def _vllms(made: Plan, digest: str) -> tuple[str, str, tuple[Skipped, ...]]:
    entries, skipped = expressible(made)
    try:
        lines = list(as_source(made, entries)) if entries else []
    except ValueError as error:
        raise UsageError(str(error)) from error
    return "\n".join(lines), proof(made, entries, skipped).model_dump_json(indent=2), skipped


def _own(made: Plan, digest: str) -> tuple[str, str, tuple[Skipped, ...]]:
    table, skipped = tuned(made, digest)
    return table.model_dump_json(indent=2) if table.shapes or table.rows else "", "", skipped


_TABLES: Mapping[str, Callable[[Plan, str], tuple[str, str, tuple[Skipped, ...]]]] = {"vllm": _vllms, "samebits": _own}
"""By name what makes a table of a plan and its digest: the table, what stands beside it, and what it cannot say."""
