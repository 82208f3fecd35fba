"""``compare``: how two runs differ, in words, and what the second is refused for (``--fail-on``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from kernels_bench.commands.compare_runs.comparison import LEAST_US, RunComparison, TimingChange
from kernels_bench.console.errors import UsageError
from kernels_bench.records.latest_records import STATES, State
from kernels_bench.timing.change import MOVED, CaseChange, Moved
from profiles.errors import ExitStatus
from profiles.run_files.record import Record

Kind = Literal["verdict-worse", "variant", "missing", "bits", "slower"]
KINDS: tuple[Kind, ...] = ("verdict-worse", "variant", "missing", "bits", "slower")
"""What a second run may be refused for."""

USUALLY = "verdict-worse,missing,bits,slower=3%"
"""What it is refused for unless the user says otherwise."""

_SLOWER = re.compile(r"slower=(\d+(?:\.\d+)?)%")


class Gate(Record):
    """What a second run is refused for.

    Attributes:
        kinds: some of `KINDS`.
        slower: a case that became slower, and may have by this share.
    """

    kinds: tuple[Kind, ...]
    slower: float = 0.0


class Judgement(Record):
    """Whether a run may replace another: what ``compare --json`` writes.

    Attributes:
        first: directory of the older run.
        second: directory of the newer run.
        fail_on: what the second is refused for.
        outcome: what follows, in a line.
        exit_status: 0 it may; 1 it is refused; 3 something could not be judged.
        failures: what it is refused for, a phrase each.
        unjudged: what was asked for and these runs do not tell, a phrase each.
        found: how the runs differ.
    """

    first: str
    second: str
    fail_on: Gate
    outcome: str
    exit_status: int
    failures: tuple[str, ...]
    unjudged: tuple[str, ...]
    found: RunComparison


def read_gate(text: str) -> Gate:
    """What ``--fail-on`` names, such as ``verdict-worse,slower=3%``; ``none`` for nothing.

    Raises:
        UsageError: something else than `KINDS`.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return Gate(kinds=())
    kinds: list[Kind] = []
    slower = 0.0
    for word in words:
        share = _SLOWER.fullmatch(word)
        kind = next((kind for kind in KINDS if kind == ("slower" if share else word)), None)
        if kind is None or (kind == "slower" and share is None):
            raise UsageError(
                f"--fail-on {word}: expected some of {', '.join(KINDS)}=PERCENT%, such as {USUALLY}; or none"
            )
        slower = float(share[1]) / 100 if share else slower
        kinds.append(kind)
    if not kinds:
        raise UsageError(f"--fail-on: expected a comma list, such as {USUALLY}; or none")
    return Gate(kinds=tuple(dict.fromkeys(kinds)), slower=slower)


def too_slow(found: RunComparison, gate: Gate) -> tuple[CaseChange, ...]:
    """The cases that became slower, and may have by as much as the gate names."""
    return tuple(one for one in found.speeds if one.moved == "slow" and one.share + one.error >= gate.slower)


def failures(found: RunComparison, gate: Gate) -> Iterator[str]:
    """What the second run is refused for, a phrase each."""
    told: dict[Kind, tuple[int, str, str]] = {
        "verdict-worse": (sum(change.worse for change in found.verdicts), "verdict", "for the worse"),
        "variant": (len(found.broken), "case", "in which an arm did not keep what it claims"),
        "missing": (len(found.missing), "result", "missing"),
        "bits": (len(found.other_bits), "output", "with other bits"),
        "slower": (len(too_slow(found, gate)), "case", f"slower by {100 * gate.slower:.4g} % or more"),
    }
    for kind in gate.kinds:
        count, noun, what = told[kind]
        if count:
            yield f"{count} {noun}{'s' * (count > 1)} {what}"


def unjudged(found: RunComparison, gate: Gate) -> Iterator[str]:
    """What the gate asks for and these runs do not tell, a phrase each."""
    only_speed = set(gate.kinds) <= {"slower"} and found.speeds
    if not found.verified[0] and not only_speed:
        yield "no case was verified in both runs"
    elif "bits" in gate.kinds and not (found.digests and found.digests[0]):
        why = "the seeds differ" if found.digests is None else "no output of the same data was digested in both runs"
        yield f"bits cannot be compared, since {why}"
    if "slower" not in gate.kinds:
        return
    if found.apart and not found.speeds:
        yield f"speed cannot be compared without --across: {'; '.join(found.apart)}"
    unsure = sum(one.moved == "unsure" for one in found.speeds)
    if 2 * unsure > len(found.speeds):
        yield f"of {unsure} of {len(found.speeds)} cases these runs cannot tell whether they became slower"


def exit_status(found: RunComparison, gate: Gate) -> int:
    """1: the second run has something that it is refused for; 3: else, something could not be judged; 0: else."""
    if any(failures(found, gate)):
        return ExitStatus.VERDICT
    return ExitStatus.INCOMPLETE if any(unjudged(found, gate)) else ExitStatus.GOOD


def judgement(found: RunComparison, gate: Gate, first: Path, second: Path) -> Judgement:
    """What follows from how two runs differ."""
    return Judgement(
        first=str(first),
        second=str(second),
        fail_on=gate,
        outcome=answer(found, gate),
        exit_status=exit_status(found, gate),
        failures=tuple(failures(found, gate)),
        unjudged=tuple(unjudged(found, gate)),
        found=found,
    )


def in_words(found: RunComparison, gate: Gate, worst: int = 5) -> Iterator[str]:
    """The agreement in lines, with the ``worst`` changes of each kind, and what follows from it."""
    yield from (f"the environments differ: {line}" for line in found.environment)
    yield from (f"the selections differ: {line}" for line in found.selection)
    both, first, second = found.verified
    if first or second:
        yield f"cases: {both} verified in both runs, {first} in the first alone, {second} in the second alone"
    if both:
        yield from _what_differs(found)
    if both or found.warm or found.cold or found.speeds:
        yield from _how_fast(found, worst)
    yield f"in short: {answer(found, gate)}"


def answer(found: RunComparison, gate: Gate) -> str:
    """What follows from the agreement, in a line."""
    told = "; ".join([*failures(found, gate), *unjudged(found, gate)]) or "nothing that --fail-on names"
    return f"{told} (exit status {exit_status(found, gate)})"


def _what_differs(found: RunComparison) -> Iterator[str]:
    """What differs, line by line: bits, verdicts, what is missing."""
    if found.digests is None:
        yield "bits: not compared, since seeds that differ make other data"
    else:
        if found.digests[0] or not found.other_data:
            yield f"bits: {found.digests[1]} of {found.digests[0]} digested outputs are the same in both runs"
        if found.other_data:
            outputs = f"{found.other_data} output{'s' * (found.other_data > 1)}"
            yield f"bits: not compared in {outputs}, whose rows are others, or may be: another samebits made them"
        yield from _listed(found.other_bits)
    worse = sum(change.worse for change in found.verdicts)
    yield f"verdicts: {len(found.verdicts) or 'none'} differ" + (f", {worse} of them for the worse" if worse else "")
    for change in sorted(found.verdicts, key=lambda change: not change.worse):
        yield f"  {change.key}: {change.first}, then {change.second}"
    if found.missing:
        yield f"missing: {len(found.missing)}"
        yield from _listed(found.missing)


def _how_fast(found: RunComparison, worst: int) -> Iterator[str]:
    """How far medians are apart, and what became of each case's times."""
    for state in STATES:
        changes = found.warm if state == "warm" else found.cold
        yield _spread(state, changes)
        yield from map(_timing_in_words, reversed(changes[-worst:] if worst else ()))
    yield from _speeds(found, worst)


def _speeds(found: RunComparison, worst: int) -> Iterator[str]:
    """What became of the cases' times: how many moved, the farthest of them, and why of others nothing can be said."""
    if not found.speeds:
        return
    of = {moved: [one for one in found.speeds if one.moved == moved] for moved in MOVED}
    counts = ", ".join(f"{len(of[moved])} {moved}" for moved in MOVED)
    yield f"speed of {len(found.speeds)} cases: {counts}; {visible(found)}"
    told: tuple[Moved, ...] = ("slow", "fast")
    for moved in told:
        farthest = sorted(of[moved], key=lambda one: -abs(one.share))
        yield from _listed([_case_in_words(one) for one in farthest], most=max(worst, 1))
    for reason, group in groupby(sorted(of["unsure"], key=lambda one: one.reason), key=lambda one: one.reason):
        keys = [one.key for one in group]
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"  unsure {keys[0]}{more}: {reason}"


def visible(found: RunComparison) -> str:
    """Which change these two runs can show, in a phrase."""
    told = found.scatter
    why = f"cases scatter by {told.cases:.1%}, and the machine may have moved by {told.drift:.1%}"
    shows = "nothing" if told.shows is None else f"a change of {_share(told.shows)} and more in 95 of 100 cases"
    return f"these runs show {shows} ({why})"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 1 else f"{1 + share:.0f} times"


def _case_in_words(one: CaseChange) -> str:
    where = f" ({one.where})" if one.where else ""
    return f"{one.moved} {one.share:+.1%} {one.key}{where}"


def _listed(lines: Sequence[str], most: int = 20) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:most])
    if len(lines) > most:
        yield f"  and {len(lines) - most} more"


def _timing_in_words(change: TimingChange) -> str:
    was, now = change.first_us, change.second_us
    return f"  {change.share:+.1%} {change.key} {change.state}: {was:.2f} us, then {now:.2f} us"


def _spread(state: State, changes: tuple[TimingChange, ...]) -> str:
    if not changes:
        return f"{state} medians: none of at least {LEAST_US:g} us in both runs"
    middle, high = np.percentile([abs(change.share) for change in changes], [50, 95])
    return (
        f"{state} medians of at least {LEAST_US:g} us: {len(changes)} in both runs, which differ by {middle:.2%} "
        f"(median) and {high:.2%} (95th percentile)"
    )
