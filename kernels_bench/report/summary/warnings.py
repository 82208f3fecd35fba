"""Warnings, each naming its remedy; those that differ only in their numbers are said once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from kernels_bench.records.cases import Claims, Device, claimed
from kernels_bench.records.causes import cause_of
from kernels_bench.records.latest_records import LatestRecords, usable
from kernels_bench.records.rerun_commands import rerun_command
from kernels_bench.records.results import RelationResult, Timing, Verification
from kernels_bench.relations import relations
from kernels_bench.report.summary.coverage import among_few, nothing_claimed_examined
from kernels_bench.report.summary.schema import WARNING_KINDS, RunFacts, RunWarning, WarningKind, plugin_of

_THROTTLE_REMEDIES = {
    "sw_power_cap": "the card is at its power limit; trust ratios rather than times, or give it more room",
    "sw_thermal_slowdown": "the card is hot; let it cool down, or cool it better, and run again",
    "hw_thermal_slowdown": "the card is too hot; let it cool down, or cool it better, and run again",
    "hw_power_brake_slowdown": "the power supply asked for it; see to the machine's power and run again",
    "hw_slowdown": "heat or power supply; see to the machine's cooling and power and run again",
    "sync_boost": "the card's clock is tied to another card's; leave its sync boost group and run again",
    "display_clock": "a display holds the clock; use a card without one",
}
_NO_REASON = "no reason was given"
_NOT_COVERED = "the verdicts do not cover it"
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


@dataclass(frozen=True)
class _Remark:
    """One thing to say of one record; those of equal ``group`` are said together."""

    kind: WarningKind
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


def warnings_of(found: LatestRecords, facts: RunFacts, claims: Mapping[str, Claims]) -> Iterator[RunWarning]:
    """Every warning, the gravest kind first; arms' claims say which relations ask for an answer."""
    remarks = [*_status_remarks(found, facts), *_relation_remarks(found, facts.device, claims), *_timing_remarks(found)]
    groups: dict[tuple[str, ...], list[_Remark]] = {}
    for remark in remarks:
        groups.setdefault(remark.group, []).append(remark)
    all_notices = [*_absent_arms(facts), *(_fold(group) for group in groups.values())]
    yield from sorted(all_notices, key=lambda notice: WARNING_KINDS.index(notice.kind))


def _absent_arms(facts: RunFacts) -> Iterator[RunWarning]:
    """Why arms cannot run here, a warning a reason."""
    by_reason: dict[str, list[str]] = {}
    for arm in facts.arms:
        if arm.unavailable:
            by_reason.setdefault(arm.unavailable, []).append(arm.name)
    for reason, names in by_reason.items():
        yield RunWarning(
            kind="arm",
            text=f"cannot run here: {reason}",
            remedy=f"leave {'it' if len(names) == 1 else 'them'} out with --arm; --list says what each arm needs",
            arms=tuple(names),
            count=len(names),
            unit="arm",
            example=names[0],
        )


def _fold(group: Sequence[_Remark]) -> RunWarning:
    """One warning of remarks that are alike."""
    first = group[0]
    return RunWarning(
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


def _status_remarks(found: LatestRecords, facts: RunFacts) -> Iterator[_Remark]:
    """What ended otherwise than measured, arms that do not offer an operator at all apart."""
    not_offered = _not_offered(found)
    for record in found.cases():
        case, status = record.case, record.status
        if status == "measured" or (case.arm, case.operator) in not_offered or found.follows(record):
            continue
        remedy, command = _remedy(record, facts)
        yield _Remark(status, record.reason or _NO_REASON, remedy, case.arm, case.key, "case", command)


def _not_offered(found: LatestRecords) -> set[tuple[str, str]]:
    """Pairs of arm and operator of which nothing is supported: tables say so themselves."""
    statuses: dict[tuple[str, str], set[str]] = {}
    for record in found.cases():
        statuses.setdefault((record.case.arm, record.case.operator), set()).add(record.status)
    return {pair for pair, seen in statuses.items() if seen == {"unsupported"}}


def _remedy(record: Verification | Timing, facts: RunFacts) -> tuple[str, str]:
    """What to do about a case that was not measured, and the command that shows more, if any."""
    if record.status == "unsupported":
        return "no fault; leave such cases out with --arm, --shapes or --dtype", ""
    cause = cause_of(record)
    if cause == "out_of_memory":
        return "free the device's memory, or choose smaller --shapes and --batch", ""
    batch = f" --batch {record.m}" if isinstance(record, Timing) else ""
    batch += f" --length {record.length}" if isinstance(record, Timing) and record.length is not None else ""
    alone = rerun_command(record.case, plugin_of(record.case.arm, facts)) + batch
    if cause == "no_answer":
        return "raise --timeout if the kernel is slow, else it hangs; one alone:", alone
    logs = PurePath(facts.directory) / "logs" / f"{record.case.process}.log"
    again = f"--resume {facts.directory} tries it again; " if cause == "killed" else ""
    return f"{again}its worker's own words are in {logs}; one alone:", alone


def _relation_remarks(found: LatestRecords, device: Device, claims: Mapping[str, Claims]) -> Iterator[_Remark]:
    """What of arms' claims was not examined, and which kernels took but few rows."""
    for verification in found.verifications.values():
        case = verification.case
        if nothing_claimed_examined(verification, claims[case.arm]):
            claim = claims[case.arm]
            what = "batch invariance" if isinstance(claim, bool) else ", ".join(claim)
            text = f"what it claims ({what}) was not examined"
            yield _Remark("relation", text, _NOT_COVERED, case.arm, case.key, "case")
        if verification.refused:
            text = f"was verified {among_few(verification)}"
            yield _Remark("relation", text, "the verdicts cover no larger batches", case.arm, case.key, "case")
        for result in verification.relations:
            said = _setback(result, claims[case.arm])
            if said is not None:
                elsewhere = "; run on a machine with an NVIDIA GPU" if _needs_a_gpu(result, device) else ""
                remedy = _NOT_COVERED + elsewhere
                text = f"relation {result.relation} {said}: {result.reason or _NO_REASON}"
                yield _Remark("relation", text, remedy, case.arm, case.key, "case")


def _needs_a_gpu(result: RelationResult, device: Device) -> bool:
    """Whether a relation has no meaning on the device; one of another version of samebits is not known here."""
    relation = relations().get(result.relation)
    return device.type == "cpu" and relation is not None and relation.needs_cuda


def _setback(result: RelationResult, claims: Claims) -> str | None:
    """What kept a relation from its answer; None where nobody asked for one, or it has it."""
    if result.status in ("unsupported", "failed"):
        return "could not be examined" if not result.companies else "could not be examined to its end"
    if result.status == "inconclusive" and claimed(claims, result.relation):
        return "is claimed and stays undecided"
    return "broke, and was not examined to its end" if result.status == "broken" and result.reason else None


def _timing_remarks(found: LatestRecords) -> Iterator[_Remark]:
    for timing in found.timings.values():
        if timing.status != "measured":
            continue
        arm, key = timing.case.arm, timing.key
        for state, measured in (("warm", timing.warm), ("cold", timing.cold)):
            for text in measured.warnings if measured is not None else ():
                yield _Remark("timing", text, "", arm, key, "timing")
            if measured is not None and usable(measured) is None:
                text = f"{state} median is not a positive time and is left out"
                yield _Remark("timing", text, "choose a larger M or shape", arm, key, "timing")
        if timing.other_bits:
            yield _Remark("bits", timing.other_bits, "its bits depend on calls or chance", arm, key, "timing")
        for reason in timing.throttle_reasons:
            remedy = _THROTTLE_REMEDIES.get(reason, "leave the card idle and alone, and run again")
            yield _Remark("throttle", f"the clock was held down by {reason}", remedy, arm, key, "timing")
