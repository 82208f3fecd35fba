"""``history --html``: many runs over time, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from markupsafe import Markup

from kernels_bench.commands.compare_runs.comparison import RunComparison
from kernels_bench.commands.compare_runs.history import CaseThen, Entry, cell_text, changes
from kernels_bench.report.html.frame import render
from kernels_bench.report.html.plot import OVER_RUNS, Line, Point, mark, plot
from kernels_bench.report.sentences import WORDS, and_
from kernels_bench.report.sentences import cases as counted
from kernels_bench.report.summary.schema import Verdict

FEW = 3
"""Cases that are open when the page is: those in which something changed before others."""


@dataclass(frozen=True)
class Then:
    """One arm in one run, of one case.

    Attributes:
        verdict: None where it was not verified.
        changed: what is not as in the run before: ``verdict``, ``bits``, ``slow``, ``fast``.
    """

    verdict: Verdict | None
    changed: tuple[str, ...]


@dataclass(frozen=True)
class CaseRow:
    """One arm's runs of a case."""

    arm: str
    then: tuple[Then, ...]


@dataclass(frozen=True)
class CaseHistory:
    """One case of all arms over all runs.

    Attributes:
        key: without the arm, such as ``mm/4096x4096/bf16``.
        rows: one an arm.
        picture: medians over runs; None where fewer than two runs timed the same.
        over: which loads the medians are of.
        changed: whether anything did.
    """

    key: str
    rows: tuple[CaseRow, ...]
    picture: Markup | None
    over: str
    changed: bool


def history_page(entries: Sequence[Entry]) -> str:
    """The page.

    Args:
        entries: runs in the order of time, at least one.
    """
    names = [*dict.fromkeys(name for entry in entries for name in entry.arms)]
    looks = {name: number for number, name in enumerate(names)}
    moved = [_moved(entry.since) for entry in entries]
    cases = list(_cases(entries, moved, looks))
    return render(
        "history.html",
        title=f"samebits: {len(entries)} runs over time",
        outcome=_answer(entries, cases),
        good=not any(case.changed for case in cases),
        span=f"{entries[0].created} to {entries[-1].created}" if len(entries) > 1 else entries[0].created,
        marks=[mark(number) for number in range(len(names))],
        looks_of=looks,
        arms=names,
        runs=[
            (number, entry, [cell_text(entry.arms.get(name)) for name in names], tuple(changes(entry.since)))
            for number, entry in enumerate(entries, 1)
        ],
        cases=cases,
        opened={case.key for case in sorted(cases, key=lambda case: not case.changed)[:FEW]},
        words=WORDS,
    )


def _answer(entries: Sequence[Entry], cases: Sequence[CaseHistory]) -> str:
    """What changed over all runs, in a sentence."""
    if len(entries) == 1:
        return "One run, and nothing to compare it with."
    kinds = {"verdict": "a verdict", "bits": "bits", "slow": "speed for the worse", "fast": "speed for the better"}
    told = []
    for kind, words in kinds.items():
        if count := sum(any(kind in then.changed for row in case.rows for then in row.then) for case in cases):
            told.append(f"{words} in {count}")
    changed = f"there changed {and_(told)}" if told else "nothing changed"
    return f"Over {len(entries)} runs {changed} of {counted(len(cases))}."


def _moved(found: RunComparison | None) -> dict[str, tuple[str, ...]]:
    """What changed since the run before, by case."""
    moved: dict[str, dict[str, None]] = {}
    if found is not None:
        pairs = [(change.key, "verdict") for change in found.verdicts]
        pairs += [(name.rpartition(" M=")[0], "bits") for name in found.other_bits]
        pairs += [(one.key, one.moved) for one in found.speeds if one.moved in ("slow", "fast")]
        for key, kind in pairs:
            moved.setdefault(key, {})[kind] = None
    return {key: tuple(kinds) for key, kinds in moved.items()}


def _cases(
    entries: Sequence[Entry], moved: Sequence[Mapping[str, tuple[str, ...]]], looks: Mapping[str, int]
) -> Iterator[CaseHistory]:
    """Each case over all runs, with a row for each arm that has a look."""
    keys: dict[str, dict[str, None]] = {}
    for entry in entries:
        for key in entry.cases:
            arm, _, rest = key.partition("/")
            if arm in looks:
                keys.setdefault(rest, {})[arm] = None
    for rest, arms in keys.items():
        rows = tuple(
            CaseRow(arm, tuple(_then(f"{arm}/{rest}", *pair) for pair in zip(entries, moved, strict=True)))
            for arm in sorted(arms, key=lambda arm: looks[arm])
        )
        runs = {arm: [entry.cases.get(f"{arm}/{rest}") for entry in entries] for arm in arms}
        picture, over = _picture(rest, runs, looks)
        yield CaseHistory(rest, rows, picture, over, any(then.changed for row in rows for then in row.then))


def _then(key: str, entry: Entry, moved: Mapping[str, tuple[str, ...]]) -> Then:
    case = entry.cases.get(key)
    verdict = None if case is None or case.verdict == "unsupported" else case.verdict
    return Then(verdict, moved.get(key, ()))


def _picture(
    key: str, runs: Mapping[str, Sequence[CaseThen | None]], looks: Mapping[str, int]
) -> tuple[Markup | None, str]:
    """Medians over runs, each the geometric mean over the loads that all runs of this case have timed."""
    timed = [case.warm_us for of_arm in runs.values() for case in of_arm if case is not None and case.warm_us]
    common = [load for load in (timed[0] if timed else ()) if all(load in medians for medians in timed)]
    if not common:
        return None, ""
    lines = []
    for arm, of_arm in runs.items():
        numbered = [
            (number, case.warm_us) for number, case in enumerate(of_arm, 1) if case is not None and case.warm_us
        ]
        points = tuple(_point(number, medians, common) for number, medians in numbered)
        varied = any(case is not None and case.verdict == "variant" for case in of_arm)
        if points:
            lines.append(Line(arm, looks[arm], varied, points))
    if not any(len(line.points) > 1 for line in lines):
        return None, ""
    lines.sort(key=lambda line: line.look)
    over = f"M={', '.join(common)}" if all(load.isdecimal() for load in common) else ", ".join(common)
    return plot(f"median microseconds over runs: {key}", lines, OVER_RUNS), over


def _point(number: int, medians: Mapping[str, float], loads: Sequence[str]) -> Point:
    us = exp(sum(log(medians[load]) for load in loads) / len(loads))
    return Point(number, us, us, us)
