"""Match what two passes did with the same tokens: by position in the sequence, module and operator.

A token's prefill in one pass may be a chunk in the other, and steps have other numbers; a position does not change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from e2e.locate.seen.trace import Event, Place, Step

Names = tuple[str, ...]
LACKING = "it is not called alone"


class Match(NamedTuple):
    """A step of one pass, and what another pass did with the same positions.

    Attributes:
        step: of the pass in company.
        others: the steps of the pass alone that compute some of the same positions, each with its events by place.
        unlike: modules in which the two passes called other operators, with those of each, alone first.
        from_position: the first position at which the passes have other tokens; None where they have the same.
        lacking: what to say of a place that the pass alone lacks.
    """

    step: Step
    others: tuple[tuple[Step, Mapping[Place, Event]], ...]
    unlike: Mapping[str, tuple[Names, Names]]
    from_position: int | None = None
    lacking: str = LACKING


def match(alone: Sequence[Step], company: Sequence[Step], lacking: str = LACKING) -> list[Match]:
    """Every step in company beside what was done alone, as far as the passes have the same tokens.

    Args:
        alone: steps of the one pass.
        company: of the other.
        lacking: what to say of a place of the other that the one lacks.
    """
    tokens = {step.rows.first + at: token for step in alone for at, token in enumerate(step.token_ids)}
    known = [(step, {event.place: event for event in step.events}, operators(step.events)) for step in alone]
    found: list[Match] = []
    for step in company:
        own = range(step.rows.first, step.rows.last + 1)
        parted = next((p for p, token in zip(own, step.token_ids, strict=False) if tokens.get(p, token) != token), None)
        beside = [one for one in known if one[0].rows.first <= own[-1] and own[0] <= one[0].rows.last]
        others = tuple((one, events) for one, events, _ in beside)
        unlike = _unlike([names for _, _, names in beside], operators(step.events))
        found.append(Match(step, others, unlike, parted, lacking))
        if parted is not None:
            break  # from here on the two are answers to other questions
    return found


def operators(events: Sequence[Event]) -> dict[str, Names]:
    """The operators that were called in each module itself, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.kind == "operator":
            found[event.place.path].append(event.place.operator)
    return {path: tuple(names) for path, names in found.items()}


def _unlike(alone: Sequence[Mapping[str, Names]], company: Mapping[str, Names]) -> dict[str, tuple[Names, Names]]:
    paths = {path for names in (*alone, company) for path in names}
    own = {path: company.get(path, ()) for path in paths}
    return {
        path: (names.get(path, ()), own[path])
        for names in alone
        for path in sorted(paths)
        if names.get(path, ()) != own[path]
    }
