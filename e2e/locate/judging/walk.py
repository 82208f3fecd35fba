"""The first place whose inputs are equal and whose outputs are not.

Each of the needle's rows is judged by itself.  Of an operator a row's inputs are its own rows of all tensors, and what
belongs to no row.  Of attention they are the query's row and the sequence's own cached keys and values up to it; of a
module that holds attention, every row of the sequence up to it, in this step and all before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from e2e.locate.judging.align import Match
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Event, Place, Step, Values

Flags = NDArray[np.bool_]


class Verdict(NamedTuple):
    """What became of the needle's rows at one place of one step.

    Attributes:
        step: in company.
        event: there.
        compared: by row, whether both passes had it.
        inputs_equal: by row, whether all that it depends on was the same.
        outputs_equal: by row, whether all that came of it was.
        reasons: why nothing can be concluded from the place itself; empty where something can.
    """

    step: Step
    event: Event
    compared: Flags
    inputs_equal: Flags
    outputs_equal: Flags
    reasons: tuple[str, ...] = ()

    @property
    def guilty(self) -> Flags:
        """By row, whether its inputs were equal and its outputs not."""
        return self.compared & self.inputs_equal & ~self.outputs_equal

    @property
    def differs(self) -> Flags:
        """By row, whether its outputs differ, for whatever reason."""
        return self.compared & ~self.outputs_equal


def walk(matches: Sequence[Match]) -> Iterator[Verdict]:
    """Every place of every step, in the order in which they ended: what is inside a module comes before it."""
    intact: dict[tuple[str, str], bool] = {}
    for one in matches:
        for event in one.step.events:
            yield _judged(one, event, intact)


def first(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The first place where a row is guilty; None where there is none."""
    return next((one for one in verdicts if one.guilty.any()), None)


def hidden_inside(verdicts: Sequence[Verdict], cause: Verdict) -> tuple[str, ...]:
    """Why nothing smaller is named: what in a module could not be judged, each reason once, and where it shows."""
    if cause.event.kind != "module":
        return cause.reasons
    path = cause.event.place.path
    inside = [
        one
        for one in verdicts
        if one.step is cause.step and (one.event.place.path == path or one.event.place.path.startswith(path + "."))
    ]
    reasons = (f"{one.event.place.operator or one.event.place.path}: {r}" for one in inside for r in one.reasons)
    shows = next((one for one in inside if one.event is not cause.event and one.differs.any()), None)
    told = [] if shows is None else [f"the first in it that gave other bits, of other inputs: {shows.event.place}"]
    return tuple(dict.fromkeys((*reasons, *told)))


def _judged(match: Match, event: Event, intact: dict[tuple[str, str], bool]) -> Verdict:
    """Of an event which rows could be compared, which took the same, and which gave the same."""
    rows = match.step.rows
    compared, inputs, outputs = (np.zeros(rows.count, bool) for _ in range(3))
    reasons: dict[str, None] = dict.fromkeys(event.unseen)
    if event.kind == "operator" and event.place.path in match.unlike:
        names = match.unlike[event.place.path]
        said = (", ".join(one) or "none" for one in names)
        reasons["other operators are called there: alone {}; in company {}".format(*said)] = None
    else:
        for other, events in match.others:
            beside = events.get(event.place)
            if beside is None:
                reasons[match.lacking] = None
                continue
            more = _compare(rows, event, other.rows, beside, (compared, inputs, outputs))
            reasons |= dict.fromkeys(more)
    if event.sequence:
        key = (event.place.path, event.place.operator)
        equal = np.logical_and.accumulate(inputs) & intact.get(key, True)
        intact[key] = intact.get(key, True) and bool(inputs.all())
        inputs = equal
    return Verdict(match.step, event, compared, inputs, outputs, tuple(reasons))


def _compare(
    rows: NeedleRows, event: Event, other_rows: NeedleRows, other: Event, into: tuple[Flags, Flags, Flags]
) -> list[str]:
    """Judge the rows that a step shares with another one; why that cannot be done, where it cannot."""
    reasons = _not_alike(event, other)
    spaces = {one.space for one in event.outputs} - {"whole"}
    if not spaces and event.outputs:
        reasons.append("none of what comes out has a row a token or a sequence")
    if reasons or not spaces:
        return reasons
    low, high = max(rows.first, other_rows.first), min(rows.last, other_rows.last)
    if "sequence" in spaces:
        if rows.last != other_rows.last:
            return []  # what is made of a chunk's last token is used by nobody
        low = rows.last
    shared = range(low, high + 1)
    sides = Sides(rows, other_rows, shared)
    compared, inputs, outputs = (flags[low - rows.first : high + 1 - rows.first] for flags in into)
    compared[:], inputs[:], outputs[:] = True, True, True
    for mine, theirs in zip(event.outputs, other.outputs, strict=True):
        if mine.space != "whole":
            outputs &= sides.same(mine, theirs)
    for mine, theirs in zip(event.inputs, other.inputs, strict=True):
        inputs &= sides.same(mine, theirs)
    if event.cached is not None and other.cached is not None:
        equal = np.logical_and.accumulate(event.cached[: high + 1] == other.cached[: high + 1])
        inputs &= equal[low:]
    return []


class Sides(NamedTuple):
    """Where the same positions stand in the steps of two passes.

    Attributes:
        mine: in company.
        theirs: alone.
        shared: the positions that both have.
    """

    mine: NeedleRows
    theirs: NeedleRows
    shared: range

    def same(self, mine: Values, theirs: Values) -> Flags:
        """By position, whether two tensors have the same bits where it depends on them."""
        if mine.space == "whole":
            equal = len(mine.digests) > 0 and np.array_equal(mine.digests, theirs.digests)
        elif mine.space == "sequence":
            equal = bool(mine.digests[0] == theirs.digests[0])
        else:
            at, beside = self.shared[0] - self.mine.first, self.shared[0] - self.theirs.first
            count = len(self.shared)
            same: Flags = mine.digests[at : at + count] == theirs.digests[beside : beside + count]
            return same
        return np.full(len(self.shared), equal)


def _not_alike(event: Event, other: Event) -> list[str]:
    """Why two calls cannot be compared row by row."""
    reasons: list[str] = []
    for what, mine, theirs in (("takes", event.inputs, other.inputs), ("gives", event.outputs, other.outputs)):
        if [(v.space, v.shape[1:] if v.space != "whole" else ()) for v in mine] != [
            (v.space, v.shape[1:] if v.space != "whole" else ()) for v in theirs
        ]:
            shapes = (" and ".join(map(str, (v.shape for v in values))) for values in (theirs, mine))
            reasons.append("it {} tensors of {} alone and of {} in company".format(what, *shapes))
    if any(v.space == "whole" and not len(v.digests) for v in (*event.inputs, *other.inputs)):
        reasons.append("it takes a tensor that is too large to be compared")
    if event.scalars != other.scalars:
        pairs = zip(other.scalars, event.scalars, strict=False)
        a, b = next((pair for pair in pairs if pair[0] != pair[1]), (other.scalars, event.scalars))
        reasons.append(f"it is given {a} alone and {b} in company")
    return reasons


def places(verdicts: Sequence[Verdict]) -> dict[Place, Verdict]:
    """The first guilty verdict of each place."""
    found: dict[Place, Verdict] = {}
    for one in verdicts:
        if one.guilty.any():
            found.setdefault(one.event.place, one)
    return found
