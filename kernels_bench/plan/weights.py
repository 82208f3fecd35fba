"""How much each M counts where one number is to stand for many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kernels_bench.console.errors import UsageError
from kernels_bench.operators.model_shapes import Call, calls_of_a_step
from kernels_bench.plan.record import CasePlan
from profiles.files import read_file

DECODING = 256
"""``decode`` counts batches of up to so many rows: sequences of which each computes a token a step."""
_MOST = 1 << 20

NAMED: Mapping[str, Callable[[int], float]] = {
    "even": lambda m: 1.0,
    "decode": lambda m: float(m <= DECODING),
    "prefill": lambda m: float(m >= DECODING),
}
"""Weights by name: all M alike, those up to `DECODING`, or those from it on."""


def weights_of(name: str, sizes: Collection[int]) -> dict[int, float]:
    """Weights of some M, which add up to 1.

    Args:
        name: one of `NAMED`, or a file with a JSON object of weights by M, such as ``{"1": 3, "16": 1}``.
        sizes: each M that was timed; other M of the file count for the nearest of them (by their ratio).

    Raises:
        UsageError: neither, or nothing of it was timed.
    """
    if name in NAMED:
        raw = {m: NAMED[name](m) for m in sizes}
    else:
        raw = dict.fromkeys(sizes, 0.0)
        for m, weight in _read(name).items():
            raw[min(sizes, key=lambda size: (abs(math.log(size / m)), size))] += weight
    total = sum(raw.values())
    if not total:
        raise UsageError(f"--weights {name}: counts none of M={', '.join(map(str, sorted(sizes)))}, which were timed")
    return {m: weight / total for m, weight in sorted(raw.items())}


LINEAR = "linear"
STEPS = (1, 16, 64)
"""Sequences of the decode steps that are told of."""


class Step(NamedTuple):
    """What a plan's kernels take in one decode step of a model, beside the default ones.

    Attributes:
        model: its name.
        precision: of the operators.
        default_arm: whose kernels are compared with.
        state: of the cache.
        linears: calls of a step.
        norms: likewise, of rows; 0 where the plan has not both kinds.
        ratios: the sum of the plan's times over that of the default's, by M.
        lacking: linears that the plan has no price for, so that there are no ratios.
    """

    model: str
    precision: str
    default_arm: str
    state: str
    linears: int
    norms: int
    ratios: dict[int, float]
    lacking: tuple[str, ...]


def steps_of(cases: Sequence[CasePlan]) -> Iterator[Step]:
    """The decode steps of the models that a plan has shapes of, for each dtype."""
    for precision in dict.fromkeys(str(case.precision) for case in cases):
        # By sizes: a shape that models share is in a plan once, under the name of one of them.
        known = {(case.operator, case.shape.token): case for case in cases if str(case.precision) == precision}
        named = {case.shape.model for (operator, _), case in known.items() if operator == LINEAR}
        for model, calls in calls_of_a_step().items():
            # A linear that no decode step calls says nothing of one.
            called = any(call.operator == LINEAR and _key(call) in known for call in calls)
            if called and (model in named or not _lacking(calls, known)):
                yield _step(model, precision, calls, known)


def _lacking(calls: Sequence[Call], known: Mapping[tuple[str, str], CasePlan]) -> tuple[str, ...]:
    """The linears that have no price."""
    wanted = [call for call in calls if call.operator == LINEAR]
    return tuple(call.shape.label for call in wanted if not (found := known.get(_key(call))) or not found.prices)


def _key(call: Call) -> tuple[str, str]:
    return call.operator, call.shape.token


def _step(model: str, precision: str, calls: Sequence[Call], known: Mapping[tuple[str, str], CasePlan]) -> Step:
    norms = [call for call in calls if call.operator != LINEAR]
    with_norms = all((found := known.get(_key(call))) and found.prices for call in norms)
    counted = [call for call in calls if call.operator == LINEAR or with_norms]
    lacking = _lacking(calls, known)
    cases = [(call.times, known[_key(call)]) for call in counted if _key(call) in known]
    return Step(
        model=model,
        precision=precision,
        default_arm=cases[0][1].default_arm,
        state=cases[0][1].state,
        linears=sum(call.times for call in counted if call.operator == LINEAR),
        norms=sum(call.times for call in counted if call.operator != LINEAR),
        ratios={} if lacking else _ratios(cases),
        lacking=lacking,
    )


def _ratios(cases: Sequence[tuple[int, CasePlan]]) -> dict[int, float]:
    """By M the sum of all cases' times, each as often as it is called, over the same of the default kernels."""
    state = cases[0][1].state
    prices = [(times, {one.m: one for one in case.prices if one.state == state}) for times, case in cases]
    shared = [m for m in STEPS if all(m in by_size for _, by_size in prices)]
    return {
        m: sum(times * by_size[m].planned_us for times, by_size in prices)
        / sum(times * by_size[m].default_us for times, by_size in prices)
        for m in shared
    }


def _read(name: str) -> dict[int, float]:
    expected = f'expected {", ".join(NAMED)}, or a JSON file of weights by M, such as {{"1": 3, "16": 1}}'
    try:
        found = json.loads(read_file(Path(name), _MOST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "is no JSON"
        raise UsageError(f"--weights {name}: {reason}; {expected}") from error
    if not isinstance(found, dict) or not found:
        raise UsageError(f"--weights {name}: {expected}")
    for m, weight in found.items():
        fits = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf
        if not m.isdecimal() or not 1 <= int(m[:9]) <= _MOST or not fits:
            raise UsageError(f"--weights {name}: {m}: {weight} is no weight from 0 on of an M from 1 to {_MOST}")
    return {int(m): float(weight) for m, weight in found.items()}
