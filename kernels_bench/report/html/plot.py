"""Numbers over M, or over runs, for several arms as inline SVG: spread drawn, every line named at its end.

Numbers, and M, stand on logarithmic axes; runs follow each other evenly.

Colours come from the page's style by class, so that the picture follows the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup, escape

from kernels_bench.report.html.frame import LOOKS
from kernels_bench.report.log_axes import EvenAxis, LogAxis, apart, ticks, within

WIDTH, HEIGHT = 480, 280
TOP, BOTTOM = 12, 34
LINE_HEIGHT = 15
_CHARACTER = 6.6
"""Pixels that a character of a name takes, about."""
_MARK_APART, _TICK_APART = 20, 11
Axis = LogAxis | EvenAxis
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Point:
    """One number.

    Attributes:
        m: rows in the batch, or the run's number from 1 on.
        value: above 0.
        low: where its spread begins, above 0.
        high: where it ends.
    """

    m: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One arm's numbers.

    Attributes:
        name: the arm's.
        look: number of its colour and mark.
        dashed: whether its bits changed.
        points: M ascending; at least one.
    """

    name: str
    look: int
    dashed: bool
    points: tuple[Point, ...]


OVER_M, OVER_RUNS = "rows in the batch, M", "run"


def plot(told: str, lines: Sequence[Line], over: str = OVER_M) -> Markup:
    """The picture.

    Args:
        told: what is drawn, for those who cannot see it.
        lines: at least one.
        over: what the points' ``m`` are: `OVER_M` or `OVER_RUNS`.
    """
    right = WIDTH - 22 - _CHARACTER * max(len(_short(line.name)) for line in lines)
    points = [point for line in lines for point in line.points]
    sizes = sorted({point.m for point in points})
    steps = ticks(min(point.low for point in points), max(point.high for point in points))
    left = 10 + _CHARACTER * max(len(number_text(step)) for step in steps)
    x = (LogAxis if over == OVER_M else EvenAxis)(sizes[0], sizes[-1], left + 8, right - 8)
    y = LogAxis(steps[0], steps[-1], HEIGHT - BOTTOM, TOP)
    # What kept its bits lies below, since what is dashed lets it be seen where two lines are one.
    ordered = sorted(lines, key=lambda line: line.dashed)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">',
        *_grid(sizes, steps, x, y, (left, right), over),
        *(part for line in ordered for part in _line(line, x, y)),
        *_names(lines, x, y, right),
        "</svg>",
    ]
    return Markup("".join(parts))


def mark(look: int) -> Markup:
    """An arm's mark within 12 by 12 pixels, for a legend."""
    return Markup(f'<path d="{_mark(look, 6, 6)}"/>')


def _grid(
    sizes: Sequence[int], steps: Sequence[float], x: Axis, y: Axis, ends: tuple[float, float], over: str
) -> Iterator[str]:
    """Lines at each M and step, with the numbers beside them."""
    bottom, (left, right) = HEIGHT - BOTTOM, ends
    lines = "".join(f"M{left:.0f} {y(step):.0f}H{right:.0f}" for step in steps)
    lines += "".join(f"M{x(m):.1f} {TOP}V{bottom}" for m in sizes)
    yield f'<path class="grid" d="{lines}"/>'
    yield '<g class="end">'
    yield from (
        f'<text x="{left - 6:.0f}" y="{y(step) + 4:.0f}">{number_text(step)}</text>'
        for step in spaced(steps, [-y(step) for step in steps], _TICK_APART)
    )
    yield '</g><g class="middle">'
    yield from (
        f'<text x="{x(m):.0f}" y="{bottom + 15}">{m}</text>' for m in spaced(sizes, [x(m) for m in sizes], _MARK_APART)
    )
    yield f'<text class="axis" x="{(left + right) / 2:.0f}" y="{HEIGHT - 4}">{over}</text></g>'


def number_text(step: float) -> str:
    """A round number beside an axis."""
    return f"{step:,.0f}" if step >= 1 else f"{step:g}"


def spaced(numbers: Sequence[_Number], places: Sequence[float], least: float) -> Iterator[_Number]:
    """Those whose places, ascending, are not too near to the last one taken; the last number is always one of them."""
    taken = places[0] - least
    for number, place in zip(numbers[:-1], places[:-1], strict=True):
        if place - taken >= least and places[-1] - place >= least:
            taken = place
            yield number
    yield numbers[-1]


def _line(line: Line, x: Axis, y: Axis) -> Iterator[str]:
    places = [(x(point.m), y(point.value)) for point in line.points]
    spread = "".join(f"M{x(p.m):.1f} {y(p.low):.1f}V{y(p.high):.1f}" for p in line.points if p.high > p.low)
    yield f'<g class="a{line.look} l{line.look % LOOKS}{" dashed" if line.dashed else ""}">'
    if spread:
        yield f'<path class="spread" d="{spread}"/>'
    yield f'<path class="line" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in places)}"/>'
    yield f'<path d="{"".join(_mark(line.look, a, b) for a, b in places)}"/></g>'


def _mark(look: int, x: float, y: float) -> str:
    """One of several forms around a point."""
    forms = (
        f"M{x - 3.5:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
        f"M{x - 3.2:.1f} {y - 3.2:.1f}h6.4v6.4h-6.4z",
        f"M{x:.1f} {y - 4.5:.1f}l4.3 7.5h-8.6z",
        f"M{x:.1f} {y - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6-4.6z",
        f"M{x:.1f} {y + 4.5:.1f}l4.3-7.5h-8.6z",
        f"M{x - 1.3:.1f} {y - 4.3:.1f}h2.6v3h3v2.6h-3v3h-2.6v-3h-3v-2.6h3z",
        f"M{x - 4.5:.1f} {y - 1.7:.1f}h9v3.4h-9z",
    )
    return forms[look % len(forms)]


def _names(lines: Sequence[Line], x: Axis, y: Axis, right: float) -> Iterator[str]:
    """Names beside the ends of the lines, moved apart where ends meet."""
    ends = sorted(((y(line.points[-1].value), line) for line in lines), key=lambda end: end[0])
    # A cluster at an edge moves back into the picture.
    places = within(apart([end for end, _ in ends], LINE_HEIGHT), LINE_HEIGHT, TOP, HEIGHT - 8)
    for at, (end, line) in zip(places, ends, strict=True):
        start = x(line.points[-1].m) + 6
        yield f'<g class="a{line.look} l{line.look % LOOKS} name">'
        yield f'<path d="M{start:.0f} {end:.1f}L{right + 12:.0f} {at:.1f}"/>'
        yield f'<text x="{right + 16:.0f}" y="{at + 4:.1f}">{escape(_short(line.name))}</text></g>'


def _short(name: str) -> str:
    """A name that leaves room for the picture."""
    return name if len(name) <= 24 else f"{name[:23]}…"
