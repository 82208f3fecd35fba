"""Where an arm's bits change over M: a strip for each relation, a cell for each M."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_uppercase
from typing import Literal

from kernels_bench.records.results import Order, RelationResult, Verification
from kernels_bench.relations.spec import BatchSpec
from kernels_bench.report.summary.broken_relations import broken_companies, numbers

State = Literal["same", "differs", "quiet"]
"""Of one M: no bit differs from the reference's; some does; no difference is known, and not whether it was tried."""

MAIN = "batch_size"
_DIFFER = ("broken", "defined")
"""The relation that every arm has a strip of."""


@dataclass(frozen=True)
class Segment:
    """Neighbouring cells that look alike.

    Attributes:
        start: of its left edge, in per cent of the strip.
        width: likewise.
        look: its `State`, or of an order of addition its letter.
    """

    start: float
    width: float
    look: str


@dataclass(frozen=True)
class Strip:
    """What became of one arm's bits at each M.

    Attributes:
        arm: whose.
        label: the relation, or what else the strip tells of; empty for `MAIN`.
        segments: from left to right; where there is none nothing was tried.
        words: the same, in words.
        order: whether it shows orders of addition.
    """

    arm: str
    label: str
    segments: tuple[Segment, ...]
    words: str
    order: bool = False


@dataclass(frozen=True)
class Strips:
    """The strips of one case, which have their M in common.

    Attributes:
        marks: pairs of a place in per cent and the M there, few enough to be read.
        rows: the strips.
    """

    marks: tuple[tuple[float, int], ...]
    rows: tuple[Strip, ...]


def strips_of(verifications: Sequence[Verification]) -> Strips | None:
    """The strips of all arms of one case; None where no M is known."""
    told = [one for one in verifications if one.status == "measured"]
    sizes = sorted({m for one in told for m in _sizes_of(one)})
    if not sizes:
        return None
    rows = tuple(strip for one in told for strip in _strips(one, sizes))
    return Strips(marks=tuple(_marks(sizes)), rows=rows) if rows else None


def _sizes_of(one: Verification) -> Iterator[int]:
    yield from (m for result in one.relations for m in (*result.sizes, *broken_sizes(result)))
    yield from (m for found in _found(one.order) for m in found)
    yield from one.digests


def _found(order: Order | None) -> list[tuple[int, ...]]:
    return [] if order is None else [found.sizes for found in order.found]


def broken_sizes(result: RelationResult) -> list[int]:
    """The M of the batches in which some row differed, ascending."""
    return sorted({BatchSpec.parse(spec).size for spec in broken_companies(result)})


def _strips(one: Verification, sizes: Sequence[int]) -> Iterator[Strip]:
    for result in sorted(one.relations, key=lambda result: result.relation != MAIN):
        if result.relation == MAIN or (result.status in _DIFFER and broken_sizes(result)):
            yield _strip(one, result, sizes)
    found = _found(one.order)
    if len(found) > 1:
        letters = {m: letter(number) for number, ms in enumerate(found) for m in ms}
        words = "; ".join(f"{letter(number)} at {_at(ms)}" for number, ms in enumerate(found))
        yield Strip(one.case.arm, "order of addition", tuple(_segments(sizes, letters)), words, order=True)


def _at(sizes: Sequence[int]) -> str:
    return f"M={numbers(sizes)}" if len(sizes) <= 3 else f"{len(sizes)} M from {sizes[0]:,} to {sizes[-1]:,}"


def letter(number: int) -> str:
    """The name of an order of addition."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"#{number + 1}"


def _strip(one: Verification, result: RelationResult, sizes: Sequence[int]) -> Strip:
    differs = broken_sizes(result) if result.status in _DIFFER else []
    states: dict[int, str] = {}
    if result.status in ("held", *_DIFFER):
        # Records of schema 2 do not tell which M were tried.
        states = dict.fromkeys(result.sizes, "same") if result.sizes else dict.fromkeys(sizes, "quiet")
        states |= dict.fromkeys(differs, "differs")
    label = "" if result.relation == MAIN else result.relation
    return Strip(one.case.arm, label, tuple(_segments(sizes, states)), _words(result, differs))


def _words(result: RelationResult, differs: Sequence[int]) -> str:
    if result.status == "held":
        return f"the same at {len(result.sizes)} M" if result.sizes else f"the same in all {result.companies} batches"
    if not differs:
        return f"{result.status}: {result.reason}" if result.reason else result.status
    return f"differs at {_at(differs)}" + (f", of {len(result.sizes)} tried" if result.sizes else "")


def _segments(sizes: Sequence[int], looks: dict[int, str]) -> Iterator[Segment]:
    cell, place = 100 / len(sizes), 0
    for look, run in groupby(sizes, key=lambda m: looks.get(m, "")):
        count = len(list(run))
        if look:
            yield Segment(start=round(place * cell, 2), width=round(count * cell, 2), look=look)
        place += count


def _marks(sizes: Sequence[int]) -> Iterator[tuple[float, int]]:
    """Powers of two and the largest M, as far as there is room."""
    cell, taken = 100 / len(sizes), -100.0
    last = 100 - cell / 2
    for number, m in enumerate(sizes):
        place = (number + 0.5) * cell
        largest = number == len(sizes) - 1
        if largest or (m & (m - 1) == 0 and place - taken >= 8 and last - place >= 8):
            taken = place
            yield round(place, 2), m
