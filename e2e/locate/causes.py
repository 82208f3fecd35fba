"""From verdicts to records: what a cause is called, how much of it differs, and how the difference grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from e2e.locate.judging.align import Match
from e2e.locate.judging.apart import Apart
from e2e.locate.judging.walk import Verdict, hidden_inside
from e2e.locate.records import Cause, Cell, StepKind, StepSeen
from e2e.locate.seen.trace import Place, Step, shown

_MOST_REASONS = 6
_WITH_PARTS = ("module", "compiled")
"""Kinds of places that have others inside."""
AllApart = Mapping[tuple[int, Place], Sequence[Apart]]
"""By step and place, see `e2e.locate.judging.graft.Comparer`."""


def kind_of(step: Step, prompt: int) -> StepKind:
    """What a step is to a needle with so many tokens."""
    if step.rows.first >= prompt:
        return "decode"
    return "prefill" if step.rows.count >= prompt else "chunk"


def cause_of(found: Verdict, verdicts: Sequence[Verdict], all_apart: AllApart, prompt: int) -> Cause:
    """A guilty place.

    Args:
        found: there.
        verdicts: of its pass, in order.
        all_apart: how far rows were apart in its pass.
        prompt: the needle's tokens.
    """
    steps = list(dict.fromkeys(id(one.step) for one in verdicts))
    number = steps.index(id(found.step))
    place, guilty = found.event.place, found.guilty
    elements = ulps = of = None
    lengths = [one.distance for one in all_apart.get((number, place), []) if one.distance is not None]
    apart = [(*one.numbers(), one.of) for one in all_apart.get((number, place), [])]
    fitting = [one for one in apart if len(one[0]) == len(guilty)] or [one for one in apart if len(one[0]) == 1]
    if fitting:
        at = np.flatnonzero(guilty) if len(fitting[0][0]) == len(guilty) else np.array([0])
        elements = int(sum(np.asarray(one[0])[at] for one in fitting).max())
        of = sum(one[2] for one in fitting)
        far = [int(np.asarray(one[1])[at].max()) for one in fitting if one[1] is not None]
        ulps = max(far) if far else None
    return Cause(
        step=number,
        step_kind=kind_of(found.step, prompt),
        layer=place.layer,
        path=place.path,
        operator=place.operator,
        number=place.number,
        kind=found.event.kind,
        inside=tuple(dict.fromkeys(found.event.inside)),
        rows=found.step.rows.count,
        rows_equal=int((found.compared & found.inputs_equal).sum()),
        rows_differ=int(guilty.sum()),
        elements=elements,
        elements_of=of,
        ulps=ulps,
        distance=max(map(float, lengths)) if lengths else None,
        why_not_smaller=hidden_inside(verdicts, found)[:_MOST_REASONS] if found.event.kind in _WITH_PARTS else (),
    )


def steps_of(matches: Sequence[Match], prompt: int) -> tuple[StepSeen, ...]:
    """The needle's steps."""
    return tuple(
        StepSeen(
            kind=kind_of(one.step, prompt),
            tokens_alone=one.others[0][0].rows.tokens if one.others else None,
            tokens=one.step.rows.tokens,
            sequences=one.step.rows.sequences,
        )
        for one in matches
    )


def cells_of(verdicts: Sequence[Verdict], steps: Sequence[Step], all_apart: AllApart) -> tuple[Cell, ...]:
    """How far the needle is from itself alone at the end of every layer, and before and after all layers."""
    return tuple(_cells(verdicts, {id(step): at for at, step in enumerate(steps)}, all_apart))


def _cells(verdicts: Sequence[Verdict], numbers: dict[int, int], all_apart: AllApart) -> Iterator[Cell]:
    """A cell for the first call, in each step, of every module that is shown."""
    for one in verdicts:
        path = one.event.place.path
        if one.event.kind != "module" or not shown(path):
            continue
        if not one.compared.any() or one.event.place.number:
            continue
        number = numbers[id(one.step)]
        apart = all_apart.get((number, one.event.place), [])
        of = sum(each.of * len(each.elements) for each in apart)
        far = [float(each.distance) for each in apart if each.distance is not None]
        yield Cell(
            step=number,
            path=path,
            rows=float(one.differs.sum() / one.compared.sum()),
            elements=sum(int(each.elements.sum()) for each in apart) / of if of else None,
            distance=max(far) if far else None,
        )
