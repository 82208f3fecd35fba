"""``plan``: measure, and tell which kernel to use at which M; and see whether an older plan still holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kernels_bench.commands.run.measure import DEFAULT_ARM
from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.plan.choose import plan_case
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.plan.weights import weights_of
from kernels_bench.records.cases import Case
from kernels_bench.records.latest_records import LatestRecords, latest_records
from kernels_bench.records.manifest import Manifest, ResultsError, read_manifest, read_records, timestamp
from kernels_bench.records.results import Timing, Verification
from kernels_bench.records.selection import Selection
from kernels_bench.report.summary.summarise import default_arm_of
from profiles.errors import ExitStatus
from profiles.files import read_file
from profiles.instruments.environment import differences
from profiles.run_files.record import Record

USUAL_OPERATORS = ("linear",)
USUAL_SIZES = {"cuda": tuple(1 << power for power in range(13)), "cpu": (1, 4, 16, 64, 256)}
"""Each M at which kernels are timed, and their results digested."""

_MOST_BYTES = 64 << 20


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
    timed = sorted(
        {timing.m for timing in records.timings.values() if timing.status == "measured" and not timing.length}
    )
    if not groups or not timed:
        lacks = "timed" if groups else "verified and timed"
        raise ResultsError(f"{directory}: nothing was {lacks} that a plan can choose from; of sequences there is none")
    weights = weights_of(weighting, timed)
    cases = tuple(
        plan_case(verified, timings, default, weights, today)
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


def _groups(
    records: LatestRecords, only: Selection, arms: Sequence[str]
) -> list[tuple[list[Verification], list[Timing]]]:
    """What is known of each case, all arms together and in their order, in which no run finishes them."""
    verified: dict[str, list[Verification]] = {}
    for one in sorted(records.verifications.values(), key=lambda found: arms.index(found.case.arm)):
        if _is_wanted(one.case, only):
            verified.setdefault(one.case.without_arm, []).append(one)
    timings: dict[str, list[Timing]] = {}
    for timing in records.timings.values():
        timings.setdefault(timing.case.without_arm, []).append(timing)
    return [(found, timings.get(key, [])) for key, found in verified.items() if key in timings]


def _names(case: Case) -> dict[str, set[str]]:
    """What options may call a case by."""
    shape = case.shape
    return {
        "op": {case.operator},
        "arm": {case.arm},
        "shapes": {shape.label, shape.label.partition("/")[0], shape.token},
        "dtype": {str(case.precision)},
    }


def _is_wanted(case: Case, only: Selection) -> bool:
    """Whether a case was asked for; the default arm always is, since all is compared with it."""
    wanted = {option: getattr(only, option) for option in _names(case)}
    if case.arm == DEFAULT_ARM:
        wanted["arm"] = None
    return all(wanted[option] is None or names & {*wanted[option]} for option, names in _names(case).items())


def _refuse_unknown(records: LatestRecords, only: Selection, today: str) -> None:
    known: dict[str, set[str]] = {"op": set(), "arm": set(), "shapes": set(), "dtype": set()}
    for one in records.verifications.values():
        for option, names in _names(one.case).items():
            known[option] |= names
    asked = [(option, name) for option in known for name in getattr(only, option) or ()]
    for option, name in [*asked, *([("today", today)] if today else [])]:
        if name not in (among := known["arm" if option == "today" else option]):
            raise UsageError(f"--{option} {name}: the run has none{suggestion(name, sorted(among))}")


def read_plan(path: Path) -> Plan:
    """A plan of a file.

    Raises:
        ResultsError: it cannot be read, or is none.
    """
    try:
        return Plan.model_validate_json(read_file(path, _MOST_BYTES))
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror or error}", ExitStatus.USAGE) from error
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(map(str, what["loc"])) or "the file"
        message = f"{path} is no plan: {where}: {what['msg']}"
        raise ResultsError(message, ExitStatus.USAGE) from error


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
    })  # fmt: skip


def refuse_elsewhere(plan: Plan, now: Manifest, force: bool) -> None:
    """A plan is for the device and the versions that it was made with.

    Raises:
        UsageError: something differs, and ``force`` is not set.
    """
    found = [*differences(plan.environment, now.environment)]
    if now.device.name != plan.device.name:
        found = [f"device: {plan.device.name} then, {now.device.name} now", *found]
    if found and not force:
        raise UsageError(f"the plan was made elsewhere: {'; '.join(found)}; --force checks it all the same")


def check_against(plan: Plan, directory: Path) -> tuple[CaseCheck, ...]:
    """Compare a plan's bits with those of a run.

    Raises:
        ResultsError: the directory is no run, or is damaged.
    """
    records = latest_records(read_records(directory))
    return tuple(_checked(case, records) for case in plan.cases)


def _checked(case: CasePlan, records: LatestRecords) -> CaseCheck:
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
        reasons += [f"{arm} has other bits at M={m}" for m in _other_bits(case, found)][:1]
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
