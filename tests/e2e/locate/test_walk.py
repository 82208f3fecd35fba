"""The first place is found in passes that are known: a small network of hashes, with a fault in it or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.locate.judging.align import match
from e2e.locate.judging.walk import first, walk
from e2e.locate.seen.rows import NeedleRows
from e2e.locate.seen.trace import Event, Place, Step, Values

WIDTH = 64
LAYERS = 3
OPERATORS = ("norm", "gemm", "attention", "out", "act")


@dataclass(frozen=True)
class Fault:
    """What is planted: from these positions on a place gives other bits in a company of so many tokens."""

    layer: int
    operator: str
    positions: frozenset[int]
    above: int


def mixed(*values: object) -> int:
    return hash(values)


@dataclass
class Network:
    """Its state is the keys of each layer, by position."""

    fault: Fault | None

    def run(self, prompt: int, steps: Sequence[tuple[int, int]], company: Sequence[int]) -> list[Step]:
        """A pass.

        Args:
            prompt: positions.
            steps: for each step the first position and how many.
            company: tokens of others in each step.
        """
        cached: dict[int, list[int]] = {layer: [] for layer in range(LAYERS)}
        found = []
        for number, ((start, count), others) in enumerate(zip(steps, company, strict=True)):
            rows = NeedleRows("0", 1, others, count, start, others + count, others + count, 2)
            found.append(Step(rows, tuple(range(start, start + count)), tuple(self._step(rows, cached)), number))
        return found

    def _step(self, rows: NeedleRows, cached: dict[int, list[int]]) -> list[Event]:
        positions = range(rows.first, rows.last + 1)
        state = [mixed("token", p) for p in positions]
        events: list[Event] = []
        for layer in range(LAYERS):
            before = state
            for operator in OPERATORS:
                given = state
                seen = None
                if operator == "attention":
                    cached[layer] += given
                    seen = np.array(cached[layer], np.int64)
                state = [
                    self._one(layer, operator, p, given[at], tuple(cached[layer][: p + 1]), rows.tokens)
                    for at, p in enumerate(positions)
                ]
                kind = "attention" if operator == "attention" else "operator"
                events.append(self._event(f"layers.{layer}.{operator}", operator, kind, given, state, rows, seen))
            whole = self._event(f"layers.{layer}", "", "module", before, state, rows, None)
            events.append(whole._replace(sequence=True))
        return events

    def _one(self, layer: int, operator: str, p: int, given: int, past: tuple[int, ...], tokens: int) -> int:
        told = (layer, operator, given, past if operator == "attention" else ())
        fault = self.fault
        hit = fault is not None and (fault.layer, fault.operator) == (layer, operator) and p in fault.positions
        return mixed(*told, "other" if hit and fault is not None and tokens > fault.above else "")

    @staticmethod
    def _event(
        path: str,
        operator: str,
        kind: str,
        given: list[int],
        out: list[int],
        rows: NeedleRows,
        seen: np.ndarray | None,
    ) -> Event:
        def values(numbers: list[int]) -> tuple[Values, ...]:
            return (Values("token", np.array(numbers, np.int64), (rows.tokens, WIDTH)),)

        return Event(Place(path, operator, 0), kind, values(given), values(out), cached=seen)  # type: ignore[arg-type]


Drawn = tuple[int, list[tuple[int, int]], list[tuple[int, int]], list[int]]


@st.composite
def passes(draw: st.DrawFn) -> Drawn:
    """The needle's tokens, its steps alone and in company, where its prefill may be cut, and the others' tokens."""
    prompt, decoded = draw(st.integers(1, 12)), draw(st.integers(0, 3))
    alone = [(0, prompt), *((prompt + at, 1) for at in range(decoded))]
    cuts = sorted(draw(st.sets(st.integers(1, prompt - 1), max_size=3))) if prompt > 1 else []
    edges = [0, *cuts, prompt]
    company = [(a, b - a) for a, b in pairwise(edges)] + alone[1:]
    others = draw(st.lists(st.integers(1, 40), min_size=len(company), max_size=len(company)))
    return prompt, alone, company, others


def both(fault: Fault | None, drawn: Drawn) -> tuple[list[Step], list[Step]]:
    """A pass alone and one in company."""
    prompt, alone, company, others = drawn
    network = Network(fault)
    own = network.run(prompt, alone, [0] * len(alone))
    return own, network.run(prompt, company, others)


@settings(deadline=None)
@given(passes())
def test_company_that_changes_nothing_is_accused_of_nothing(drawn: Drawn) -> None:
    own, seen = both(None, drawn)
    found = list(walk(match(own, seen)))
    assert first(found) is None
    assert all(one.compared.all() and one.outputs_equal.all() for one in found)


@settings(deadline=None)
@given(passes(), st.integers(0, LAYERS - 1), st.sampled_from(OPERATORS), st.data())
def test_the_planted_place_is_the_first_and_its_rows_are_the_guilty_ones(
    drawn: Drawn, layer: int, operator: str, data: st.DataObject
) -> None:
    _, _, company, others = drawn
    last = company[-1][0] + company[-1][1]
    positions = data.draw(st.frozensets(st.integers(0, last - 1), min_size=1))
    fault = Fault(layer, operator, positions, above=12)
    own, seen = both(fault, drawn)
    found = first(list(walk(match(own, seen))))
    hit = [
        (step, {p for p in range(a, a + n) if p in positions})
        for step, ((a, n), more) in enumerate(zip(company, others, strict=True))
        if n + more > fault.above
    ]
    hit = [(step, which) for step, which in hit if which]
    if not hit:
        assert found is None
        return
    assert found is not None
    assert found.event.place == Place(f"layers.{layer}.{operator}", operator, 0)
    step, which = hit[0]
    assert found.step.counted == step
    assert set(np.flatnonzero(found.guilty) + found.step.rows.first) == which


def one_step(*events: Event, tokens: int = 4) -> Step:
    rows = NeedleRows("0", 0, 0, 2, 0, tokens, tokens, 1)
    return Step(rows, (7, 8), events, 0)


def row(*digests: int, tokens: int = 4, width: int = 8) -> tuple[Values, ...]:
    return (Values("token", np.array(digests, np.int64), (tokens, width)),)


def test_an_operator_that_is_given_another_number_is_not_guilty_but_its_module_is() -> None:
    def step(number: float, out: int) -> Step:
        inner = Event(Place("m", "aten.mul", 0), "operator", row(1, 2), row(1, out), scalars=(number,))
        return one_step(inner, Event(Place("m", "", 0), "module", row(1, 2), row(1, out)))

    verdicts = list(walk(match([step(1.0, 2)], [step(1.5, 3)])))
    found = first(verdicts)
    assert found is not None
    assert found.event.place == Place("m", "", 0)
    assert verdicts[0].reasons == ("it is given 1.0 alone and 1.5 in company",)


def test_operators_that_only_one_pass_calls_are_not_compared_but_their_module_is() -> None:
    def step(names: tuple[str, ...], out: int) -> Step:
        inner = [Event(Place("m", name, 0), "operator", row(1, 2), row(5, out)) for name in names]
        return one_step(*inner, Event(Place("m", "", 0), "module", row(1, 2), row(5, out)))

    verdicts = list(walk(match([step(("a", "b"), 6)], [step(("a", "c"), 7)])))
    found = first(verdicts)
    assert found is not None
    assert found.event.place == Place("m", "", 0)
    assert "alone a, b; in company a, c" in verdicts[0].reasons[0]


def test_a_tensor_without_rows_that_differs_clears_an_operator_and_not_its_module() -> None:
    def step(scale: int, out: int) -> Step:
        whole = Values("whole", np.array([scale], np.int64), ())
        inner = Event(Place("m", "scale", 0), "operator", (*row(1, 2), whole), row(1, out))
        return one_step(inner, Event(Place("m", "", 0), "module", row(1, 2), row(1, out)))

    found = first(list(walk(match([step(3, 2)], [step(4, 9)]))))
    assert found is not None
    assert found.event.place.operator == ""


def test_what_is_made_of_other_tokens_is_not_compared() -> None:
    event = Event(Place("m", "a", 0), "operator", row(1, 2), row(1, 2))
    other = replace_tokens(one_step(event), (7, 9))
    (only,) = match([one_step(event)], [other])
    assert only.from_position == 1


def replace_tokens(step: Step, tokens: tuple[int, ...]) -> Step:
    return step._replace(token_ids=tokens)


def test_a_chunks_last_row_is_no_row_of_the_whole_prefill() -> None:
    def logits(digest: int) -> Event:
        values = (Values("sequence", np.array([digest], np.int64), (1, WIDTH)),)
        return Event(Place("logits", "mm", 0), "operator", values, values)

    chunk = one_step(logits(1))
    whole = Step(replace(chunk.rows, count=4), (7, 8, 9, 10), (logits(2),), 0)
    (found,) = walk(match([whole], [chunk]))
    assert not found.compared.any()
