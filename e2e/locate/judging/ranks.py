"""One judgement of what several ranks saw.

All ranks run the same calls.  What a rank gives may depend on what all of them took, since calls add or join parts
over ranks, and so do the modules that hold such calls: it is guilty where the inputs of all were equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from e2e.locate.judging.align import Match
from e2e.locate.judging.apart import Apart
from e2e.locate.judging.walk import Verdict, walk
from e2e.locate.seen.trace import Place

Key = tuple[int, Place]
"""Number of a step, and a place in it."""


def joined(matches: Sequence[Sequence[Match]]) -> tuple[list[Verdict], dict[Key, tuple[int, ...]]]:
    """Every place once, in order, with the ranks whose outputs differ there.

    Args:
        matches: by rank, each its own steps.

    Returns:
        The verdicts, all of the first rank's steps; and by place the ranks, where not all of several are the same.
    """
    if len(matches) == 1:
        return list(walk(matches[0])), {}
    places: dict[Key, dict[int, Verdict]] = defaultdict(dict)
    for rank, own in enumerate(matches):
        numbers = {id(one.step): number for number, one in enumerate(own)}
        for verdict in walk(own):
            places[numbers[id(verdict.step)], verdict.event.place][rank] = verdict
    steps = [one.step for one in matches[0]]
    found: list[Verdict] = []
    differing: dict[Key, tuple[int, ...]] = {}
    # A place that the first rank lacks comes after all of its own of the same step.
    for key in sorted(places, key=lambda key: key[0]):
        if key[0] >= len(steps):
            continue
        verdicts = places[key]
        differing[key] = tuple(rank for rank, one in verdicts.items() if (one.compared & ~one.outputs_equal).any())
        found.append(_of_all(list(verdicts.values()), len(matches))._replace(step=steps[key[0]]))
    return found, differing


def _of_all(verdicts: Sequence[Verdict], ranks: int) -> Verdict:
    shown = next((one for one in verdicts if one.guilty.any()), verdicts[0])
    compared, inputs, outputs = (
        np.logical_and.reduce([getattr(one, name) for one in verdicts])
        for name in ("compared", "inputs_equal", "outputs_equal")
    )
    reasons = tuple(dict.fromkeys(reason for one in verdicts for reason in one.reasons))
    if len(verdicts) < ranks:
        inputs, reasons = np.zeros_like(inputs), (*reasons, "not all ranks call it")
    return Verdict(shown.step, shown.event, compared, inputs, outputs, reasons)


def apart_over(
    ranks: Sequence[Mapping[Key, Sequence[Apart]]], differing: Mapping[Key, tuple[int, ...]]
) -> Mapping[Key, Sequence[Apart]]:
    """How far rows were apart, of each place where they were: in the first of the ranks in which they differ."""
    if len(ranks) == 1:
        return ranks[0]
    keys = dict.fromkeys(key for own in ranks for key in own)
    return {key: _first_of(ranks, differing.get(key, ()), key) for key in keys}


def _first_of(ranks: Sequence[Mapping[Key, Sequence[Apart]]], differing: Sequence[int], key: Key) -> Sequence[Apart]:
    return next((ranks[rank][key] for rank in (*differing, *range(len(ranks))) if key in ranks[rank]), ())
