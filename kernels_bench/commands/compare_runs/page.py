"""``compare --html``: how two runs differ, as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernels_bench.commands.compare_runs.comparison import LEAST_US, RunComparison, TimingChange
from kernels_bench.commands.compare_runs.gate import Gate, answer, exit_status, visible
from kernels_bench.console.text import microseconds
from kernels_bench.report.html.cases import Picture
from kernels_bench.report.html.frame import render
from kernels_bench.report.html.scatter import Change, scatter
from kernels_bench.report.sentences import WORDS
from kernels_bench.timing.change import CaseChange

MOST_CHANGES = 12
"""Timings that are listed, those that changed most."""


def compare_page(found: RunComparison, gate: Gate, first: Path, second: Path) -> str:
    """The page.

    Args:
        found: how the runs differ.
        gate: what the second is refused for.
        first: directory of the first run.
        second: directory of the second.
    """
    most = sorted((*found.warm, *found.cold), key=lambda change: (-abs(change.share), change.key))
    return render(
        "compare.html",
        title=f"samebits: {second.name} against {first.name}",
        first=str(first),
        second=str(second),
        outcome=answer(found, gate),
        good=exit_status(found, gate) == 0,
        found=found,
        least_us=f"{LEAST_US:g}",
        verdicts=sorted(found.verdicts, key=lambda change: not change.worse),
        words=WORDS,
        pictures=tuple(_pictures(found, gate)),
        counts=", ".join(f"{count} {moved}" for moved, count in Counter(one.moved for one in found.speeds).items()),
        moved=[_case(one) for one in _farthest(found) if one.moved in ("slow", "fast")],
        unsure=Counter(one.reason for one in found.speeds if one.moved == "unsure").most_common(),
        visible=visible(found) if found.speeds else "",
        most=_rows(most[:MOST_CHANGES]),
    )


def _pictures(found: RunComparison, gate: Gate) -> Iterator[Picture]:
    line = gate.slower if "slower" in gate.kinds else None
    for state, changes in (("warm", found.warm), ("cold", found.cold)):
        if changes:
            told = f"{state} cache, {len(changes)} timings of both runs"
            points = [Change(change.first_us, change.share) for change in changes]
            yield Picture(told, scatter(f"how much longer they took in the second run: {told}", points, line))


def _farthest(found: RunComparison) -> list[CaseChange]:
    return sorted(found.speeds, key=lambda one: (one.moved != "slow", -abs(one.share), one.key))


def _case(one: CaseChange) -> tuple[str, ...]:
    return (one.key, one.moved, one.where, f"{one.share:+.1%}")


def _rows(changes: Sequence[TimingChange]) -> list[tuple[str, ...]]:
    return [
        (one.key, one.state, microseconds(one.first_us), microseconds(one.second_us), f"{one.share:+.1%}")
        for one in changes
    ]
