"""What several ranks saw is judged together: each has parts of its own, and a sum takes all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from e2e.locate.judging.align import match
from e2e.locate.judging.apart import Apart
from e2e.locate.judging.ranks import apart_over, joined
from e2e.locate.judging.walk import first, places, walk
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Event, Place, Step, Values

ROWS = NeedleRows("0", 0, 0, 3, 0, 3, 3, 1)
RANKS, LAYERS = 2, 2
OPERATORS = ("gemm", "attention", "sum")


def values(*given: int) -> tuple[Values, ...]:
    return (Values("token", np.array([hash((*given, row)) for row in range(ROWS.count)], np.int64), (3, 8)),)


def passes(fault: tuple[int, str, int] | None) -> list[list[Step]]:
    """What each rank sees of a pass of one step, in which an operator of one rank gives other bits, or a sum does.

    Hidden states are the same in all ranks; of each a product takes a part, and a sum over ranks adds these up.
    """
    seen: list[list[Event]] = [[] for _ in range(RANKS)]
    hidden = 1
    for layer in range(LAYERS):
        parts = [hidden] * RANKS
        for name in OPERATORS:
            before = list(parts)
            nudges = [int(fault == (layer, name, rank)) for rank in range(RANKS)]
            if name == "sum":
                parts = [hash((layer, name, *before, max(nudges)))] * RANKS
            else:
                parts = [hash((layer, name, rank, before[rank], nudges[rank])) for rank in range(RANKS)]
            for rank in range(RANKS):
                place = Place(f"layers.{layer}", name, 0)
                seen[rank].append(Event(place, "operator", values(before[rank]), values(parts[rank])))
        hidden = parts[0]
    return [[Step(ROWS, (7, 8, 9), tuple(events), 0)] for events in seen]


faults = st.tuples(st.integers(0, LAYERS - 1), st.sampled_from(OPERATORS), st.integers(0, RANKS - 1))


@given(faults)
def test_the_one_place_that_is_guilty_is_found_with_its_ranks(fault: tuple[int, str, int]) -> None:
    layer, name, rank = fault
    matches = [match(alone, company) for alone, company in zip(passes(None), passes(fault), strict=True)]
    verdicts, differing = joined(matches)
    place = Place(f"layers.{layer}", name, 0)
    assert list(places(verdicts)) == [place]
    assert differing[0, place] == (tuple(range(RANKS)) if name == "sum" else (rank,))
    # All are of the steps of the first rank, in whose order they are.
    assert [one.event.place for one in verdicts] == [event.place for event in matches[0][0].step.events]
    assert all(one.step is matches[0][0].step for one in verdicts)


def test_by_itself_a_rank_would_accuse_a_sum_of_what_another_one_did() -> None:
    matches = [match(alone, company) for alone, company in zip(passes(None), passes((0, "gemm", 1)), strict=True)]
    (accused,) = places(list(walk(matches[0])))
    assert accused.operator == "sum"
    found = first(joined(matches)[0])
    assert found is not None
    assert found.event.place.operator == "gemm"


def test_what_not_all_ranks_call_is_judged_by_nobody() -> None:
    alone, company = passes(None), passes((1, "sum", 0))
    for steps in (alone, company):
        (step,) = steps[1]
        steps[1] = [step._replace(events=step.events[:-1])]
    verdicts, _ = joined([match(*pair) for pair in zip(alone, company, strict=True)])
    assert first(verdicts) is None
    assert verdicts[-1].reasons == ("not all ranks call it",)


def test_one_rank_is_judged_as_it_is() -> None:
    own = [match(passes(None)[0], passes((1, "attention", 0))[0])]
    verdicts, differing = joined(own)
    assert [one.event for one in verdicts] == [one.event for one in walk(own[0])]
    assert differing == {}


def test_how_far_rows_are_apart_is_told_of_a_rank_in_which_they_are() -> None:
    same, other = (Apart(np.array([count]), None, 8) for count in (0, 5))
    key = 0, Place("layers.0", "gemm", 0)
    assert apart_over([{key: [same]}, {key: [other]}], {key: (1,)})[key] == [other]
    assert apart_over([{}, {key: [other]}], {})[key] == [other]
    assert apart_over([{key: [same]}], {}) == {key: [same]}
