"""Layers are watched first, and what gives other bits is looked into; what does not come again is said to be so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from e2e.locate.judging.align import match
from e2e.locate.judging.walk import walk
from e2e.locate.probing.focus import Focus, layers_in, modules_in, operators_in
from e2e.locate.rounds import NOT_AGAIN, NOT_INSIDE, Beside, first_of, judged_in, unconfirmed
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Event, Place, Step, Values

LAYER = ("norm", "attn", "attn.qkv", "attn.o", "mlp", "mlp.up")
PATHS = (
    "", "model", "model.embed", *(f"model.layers.{n}" for n in range(3)),
    *(f"model.layers.{n}.{name}" for n in range(3) for name in LAYER), "model.norm", "sampler",
)  # fmt: skip
FAR, ALL = layers_in(PATHS), modules_in(PATHS)
ROWS = NeedleRows("0", 0, 0, 2, 0, 2, 2, 1)


def test_from_afar_only_layers_are_watched_and_what_is_outside_of_them() -> None:
    outside = {"", "model", "model.embed", "model.norm", "sampler"}
    assert FAR.modules == frozenset(outside | {f"model.layers.{n}" for n in range(3)})
    assert FAR.inside == ALL.inside == frozenset({""})
    assert ALL.modules == frozenset(PATHS)
    assert not ALL.looks_into("model.layers.1.norm")


def test_operators_are_watched_in_what_was_guilty_alone() -> None:
    near = operators_in(PATHS, ["model.layers.1.attn.qkv", "sampler"])
    assert near.inside == frozenset({"", "model.layers.1.attn.qkv", "sampler"})
    assert near.has("model.layers.1.attn")  # which calls it
    assert not near.has("model.layers.1.attn.o")
    assert not near.has("model.layers.2.attn")
    whole = operators_in(PATHS, ["model.layers.1.attn"])
    assert whole.inside == frozenset({"", *(f"model.layers.1.attn{more}" for more in ("", ".qkv", ".o"))})


def step(differs: Mapping[tuple[str, str], int], events: Sequence[tuple[str, str]]) -> Step:
    """Events whose inputs are always the same, and whose outputs are 1 but where another number is given."""

    def values(number: int) -> tuple[Values, ...]:
        return (Values("token", np.array([number, number], np.int64), (2, 8)),)

    def event(path: str, operator: str) -> Event:
        kind = "operator" if operator else "module"
        return Event(Place(path, operator, 0), kind, values(0), values(differs.get((path, operator), 1)))  # type: ignore[arg-type]

    return Step(ROWS, (7, 8), tuple(event(*one) for one in events), 0)


def beside(focus: Focus, *guilty: tuple[str, str]) -> Beside:
    assert focus.modules is not None
    events = [(path, "") for path in PATHS if path in focus.modules] + [("model.layers.1.mlp.up", "mm")]
    events.sort(key=lambda one: (one[0] + "~", one[1] == ""))  # what is inside ends before what it is in
    matches = match([step({}, events)], [step(dict.fromkeys(guilty, 2), events)])
    return Beside(focus, matches, list(walk(matches)), {}, 0.5)


UP = "model.layers.1.mlp.up"
NEAR = operators_in(PATHS, [UP])


def test_what_is_found_inside_confirms_what_was_around_it() -> None:
    rounds = [beside(FAR, ("model.layers.1", "")), beside(ALL, (UP, ""))]
    near = beside(NEAR, (UP, "mm"), (UP, ""), ("model.layers.1", ""))
    assert unconfirmed(rounds, [near], all_of=True) == []
    found = first_of(rounds, near, [])
    assert found is not None
    assert found[0] is near
    cause = near.cause(found[1], 2)
    assert (cause.path, cause.operator, cause.why_not_smaller) == (UP, "mm", ())


def test_what_does_not_come_again_is_named_as_it_came() -> None:
    rounds = [beside(FAR, ("model.layers.1", "")), beside(ALL, (UP, ""))]
    quiet = beside(NEAR)
    lost = unconfirmed(rounds, [quiet], all_of=True)
    assert lost == ["model.layers.1", UP]
    found = first_of(rounds, quiet, lost)
    assert found is not None
    cause = found[0].cause(found[1], 2, again=False)
    assert (cause.path, cause.operator, cause.why_not_smaller) == (UP, "", (NOT_AGAIN,))


def test_of_what_does_not_come_again_and_what_does_the_earlier_is_the_first() -> None:
    for lost, other, path in (
        ("model.layers.0", "sampler", "model.layers.0"),
        ("sampler", "model.layers.0", "model.layers.0"),
    ):
        rounds = [beside(FAR, (lost, ""))]
        near = beside(NEAR, (other, ""))
        unsure = unconfirmed(rounds, [near], all_of=True)
        assert unsure == [lost]
        found = first_of(rounds, near, unsure)
        assert found is not None
        assert found[1].event.place.path == path


def test_other_bits_that_nothing_seen_has_changed_are_not_explained() -> None:
    assert beside(FAR).explained
    assert beside(FAR, ("model.layers.1", ""), ("sampler", "")).explained

    def step_with(position: int, out: int) -> Step:
        # As where a layer is given the positions of all sequences, several of each: nothing is concluded from it.
        positions = Values("whole", np.array([position], np.int64), (3, 2))
        rows = (Values("token", np.array([out, out], np.int64), (2, 8)),)
        return Step(ROWS, (7, 8), (Event(Place("model.layers.0", "", 0), "module", (positions, *rows), rows),), 0)

    matches = match([step_with(1, 1)], [step_with(2, 2)])
    blind = Beside(FAR, matches, list(walk(matches)), {}, 0.5)
    assert blind.first() is None
    assert not blind.explained


def test_a_module_that_nobody_looked_into_is_said_to_be_so() -> None:
    near = beside(NEAR, ("sampler", ""))
    found = near.first()
    assert found is not None
    assert near.cause(found, 2).why_not_smaller == (NOT_INSIDE,)


def test_where_only_the_first_is_asked_for_no_other_is_sought_again() -> None:
    rounds = [beside(FAR, ("model.layers.1", ""), ("sampler", ""))]
    near = beside(NEAR, (UP, "mm"))
    assert unconfirmed(rounds, [near], all_of=True) == ["sampler"]
    assert unconfirmed(rounds, [near], all_of=False) == []


def test_a_place_is_counted_once_however_often_it_was_watched() -> None:
    passes = [beside(FAR), beside(ALL), beside(NEAR)]
    assert len(judged_in(passes)) == len(PATHS) + 1
    assert all(judged_in(passes).values())
