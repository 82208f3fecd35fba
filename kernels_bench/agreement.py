"""``compare``: how well two runs agree, in verdicts, bits and medians; what repeatability claims are measured by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kernels_bench.cases import Record
from kernels_bench.gathered import Found, State, gather, median_us
from kernels_bench.results import read_manifest, read_records
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
        verdicts: cases whose verdict differs: key, then both verdicts; whether an order was proven in the time that
            there was makes no difference.
        digests: how many outputs were digested in both runs, and how many of them have the same bits.
        warm: every timing of at least `LEAST_US` in both runs, the largest change last.
        cold: likewise.
    """

    environment: tuple[str, ...]
    verdicts: tuple[tuple[str, str, str], ...]
    digests: tuple[int, int]
    warm: tuple[Change, ...]
    cold: tuple[Change, ...]


def agreement(first: Path, second: Path) -> Agreement:
    """Compare two runs.

    Raises:
        ResultsError: one of the directories is no run, or is damaged.
    """
    manifests = [read_manifest(path) for path in (first, second)]
    a, b = (gather(read_records(path)) for path in (first, second))
    return Agreement(
        environment=differences(manifests[0].environment, manifests[1].environment),
        verdicts=tuple(_verdicts(a, b)),
        digests=_digests(a, b),
        warm=_changes(a, b, "warm"),
        cold=_changes(a, b, "cold"),
    )


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


def in_words(found: Agreement, worst: int = 5) -> Iterator[str]:
    """The agreement in lines, with the ``worst`` changes of each kind."""
    yield from (f"the environments differ: {line}" for line in found.environment)
    compared, equal = found.digests
    yield f"bits: {equal} of {compared} digested outputs are the same in both runs"
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
