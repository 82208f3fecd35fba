"""A plan as a page: for each case which kernel at which M, and its time over M beside the default kernel's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernels_bench.console.text import microseconds
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.plan.words import (
    answer,
    basis_text,
    by_model,
    left_out_lines,
    longest_of,
    price_lines,
    step_lines,
    summary_line,
    versions_text,
)
from kernels_bench.report.html.cases import Picture
from kernels_bench.report.html.frame import render
from kernels_bench.report.html.plot import Line, Point, plot


def plan_page(plan: Plan) -> str:
    """The page."""
    return render(
        "plan.html",
        title=f"samebits: a plan for {plan.device.name}",
        plan=plan,
        outcome=summary_line(plan),
        costs=[*price_lines(plan), *step_lines(plan)],
        good=all(case.chosen is not None for case in plan.cases),
        versions=versions_text(plan),
        counted=", ".join(str(m) for m, weight in plan.weights.items() if weight),
        cases=[_case(case, longest_of(case, plan)) for case in by_model(plan.cases)],
    )


def _case(case: CasePlan, longest: int | None) -> dict[str, object]:
    return {
        "title": f"{case.operator} {case.shape.label}",
        "sizes": f"{case.shape.token} {case.precision}",
        "id": case.key.replace("/", "-").replace(":", "-"),
        "answer": answer(case),
        "basis": "" if case.chosen is None else basis_text(case.chosen, longest),
        "ranges": [
            (f"{one.first} to {one.last}" if one.last is not None else f"from {one.first} on", one.arm)
            for one in case.stretches
        ],
        "prices": [
            (price.load, price.state, price.arm, microseconds(price.default_us), microseconds(price.planned_us),
             f"{price.ratio:.2f} ± {price.error * price.ratio:.2f}")
            for price in case.prices
        ],
        "left_out": list(left_out_lines(case)),
        "picture": next(_pictures(case), None),
    }  # fmt: skip


def _pictures(case: CasePlan) -> Iterator[Picture]:
    prices = [price for price in case.prices if price.state == case.state]
    if not prices:
        return
    longest = max((price.length or 0) for price in prices) or None
    prices = [price for price in prices if price.length == longest]
    lines = [
        Line(case.default_arm, 0, not case.default_keeps, _points((price.m, price.default_us) for price in prices)),
        Line("plan", 1, False, _points((price.m, price.planned_us) for price in prices)),
    ]
    if case.today is not None and case.today.us and case.today.arm != case.default_arm and longest is None:
        lines.append(Line(case.today.arm, 2, False, _points(sorted(case.today.us.items()))))
    tokens = f" sequences of {longest} tokens" if longest else ""
    caption = f"µs a call over M{tokens}, {case.state} cache" + (
        "" if case.default_keeps else "; dashed: its bits change"
    )
    yield Picture(caption, plot(f"time over M of {', '.join(line.name for line in lines)}", lines))


def _points(times: Iterable[tuple[int, float]]) -> tuple[Point, ...]:
    return tuple(Point(m, us, us, us) for m, us in times)
