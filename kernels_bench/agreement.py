"""``compare``: how well two runs agree, in verdicts, bits and medians; what repeatability claims are measured by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kernels_bench.cases import Record
from kernels_bench.gathered import Found, State, gather, median_us
from kernels_bench.results import Selection, read_manifest, read_records
from profiles.environment import differences

LEAST_US = 5.0
"""Medians below this are left out: a tenth of a microsecond would be a large share of them."""

STATES: tuple[State, ...] = ("warm", "cold")


class Change(Record):
    """One timing in both runs.

    Attributes:
        key: the timing's, such as ``torch/mm/4096x4096/bf16/16``.
        first_us: median in the first run.
        second_us: median in the second run.
    """

    key: str
    first_us: float
    second_us: float

    @property
    def share(self) -> float:
        """How much longer the second took, as a share of the first; negative if it was faster."""
        return self.second_us / self.first_us - 1


class Agreement(Record):
    """Two runs beside each other.

    Attributes:
        environment: what differs between the machines, a line each.
        selection: what differs between what was asked for, likewise.
        verified: how many cases both runs verified, the first one alone and the second one alone.
        verdicts: cases whose verdict differs: key, then both verdicts; whether an order was proven in the time that
            there was makes no difference.
        digests: how many outputs were digested in both runs, and how many of them have the same bits; None where the
            runs' data differ, since their seeds do.
        warm: every timing of at least `LEAST_US` in both runs, the largest change last.
        cold: likewise.
    """

    environment: tuple[str, ...]
    selection: tuple[str, ...]
    verified: tuple[int, int, int]
    verdicts: tuple[tuple[str, str, str], ...]
    digests: tuple[int, int] | None
    warm: tuple[Change, ...]
    cold: tuple[Change, ...]


def agreement(first: Path, second: Path) -> Agreement:
    """Compare two runs.

    Raises:
        ResultsError: one of the directories is no run, or is damaged.
    """
    one, other = (read_manifest(path) for path in (first, second))
    a, b = (gather(read_records(path)) for path in (first, second))
    both = len(a.verifications.keys() & b.verifications.keys())
    return Agreement(
        environment=differences(one.environment, other.environment),
        selection=tuple(_asked_otherwise(one.selection, other.selection)),
        verified=(both, len(a.verifications) - both, len(b.verifications) - both),
        verdicts=tuple(_verdicts(a, b)),
        digests=_digests(a, b) if one.selection.seed == other.selection.seed else None,
        warm=_changes(a, b, "warm"),
        cold=_changes(a, b, "cold"),
    )


def _asked_otherwise(one: Selection, other: Selection) -> Iterator[str]:
    """Options that differ; how long was waited chooses nothing."""
    then = other.model_dump(exclude={"timeout_s"})
    for option, value in one.model_dump(exclude={"timeout_s"}).items():
        if value != then[option]:
            yield f"--{option} {_as_typed(value)}, then {_as_typed(then[option])}"


def _as_typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else "not given" if value is None else str(value)


def _verdicts(a: Found, b: Found) -> Iterator[tuple[str, str, str]]:
    for key in a.verifications.keys() & b.verifications.keys():
        one, other = a.verifications[key].verdict, b.verifications[key].verdict
        if one != other and {one, other} != {"sampled", "proven"}:
            yield key, one, other


def _digests(a: Found, b: Found) -> tuple[int, int]:
    pairs = [
        (digest, b.verifications[key].digests[m])
        for key, verification in a.verifications.items()
        if key in b.verifications
        for m, digest in verification.digests.items()
        if m in b.verifications[key].digests
    ]
    return len(pairs), sum(one == other for one, other in pairs)


def _changes(a: Found, b: Found, state: State) -> tuple[Change, ...]:
    changes = []
    for key in a.timings.keys() & b.timings.keys():
        one, other = median_us(a.timings[key], state), median_us(b.timings[key], state)
        if one is not None and other is not None and min(one, other) >= LEAST_US:
            changes.append(Change(key=key, first_us=one, second_us=other))
    return tuple(sorted(changes, key=lambda change: (abs(change.share), change.key)))


def exit_status(found: Agreement) -> int:
    """1: a verdict differs; 3: no case was verified in both runs; 0: else."""
    return 1 if found.verdicts else 0 if found.verified[0] else 3


def in_words(found: Agreement, worst: int = 5) -> Iterator[str]:
    """The agreement in lines, with the ``worst`` changes of each kind."""
    yield from (f"the environments differ: {line}" for line in found.environment)
    yield from (f"the selections differ: {line}" for line in found.selection)
    both, first, second = found.verified
    if first or second:
        yield f"cases: {both} verified in both runs, {first} in the first alone, {second} in the second alone"
    if not both:
        yield "nothing can be compared: no case was verified in both runs"
        return
    if found.digests is None:
        yield "bits: not compared, since seeds that differ make other data"
    else:
        yield f"bits: {found.digests[1]} of {found.digests[0]} digested outputs are the same in both runs"
    yield f"verdicts: {len(found.verdicts) or 'none'} differ"
    yield from (f"  {key}: {one}, then {other}" for key, one, other in sorted(found.verdicts))
    for state in STATES:
        changes = found.warm if state == "warm" else found.cold
        yield _spread(state, changes)
        for change in reversed(changes[-worst:] if worst else ()):
            yield f"  {change.share:+.1%} {change.key}: {change.first_us:.2f} us, then {change.second_us:.2f} us"


def _spread(state: State, changes: tuple[Change, ...]) -> str:
    if not changes:
        return f"{state} medians: none of at least {LEAST_US:g} us in both runs"
    middle, high = np.percentile([abs(change.share) for change in changes], [50, 95])
    return (
        f"{state} medians of at least {LEAST_US:g} us: {len(changes)} in both runs, which differ by {middle:.2%} "
        f"(median) and {high:.2%} (95th percentile)"
    )
