"""One case of a run as a picture: time over M for each arm, coloured by whether its bits held.  SVG text, no torch.

Both axes are logarithmic.  Text and background follow the reader's light or dark scheme together, so that the picture
can be read in either, and each line ends in its arm's name and verdict, so that colour is not needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from kernels_bench.records.results import AnyRecord, Timing, Verification
from kernels_bench.report.log_axes import LogAxis, apart, ticks, within
from kernels_bench.report.summary.schema import Verdict
from profiles.run_files.record import Record

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 270, 56, 48
"""Margins in pixels; the names of the arms stand in the right one."""
LINE_HEIGHT = 20

_WORDS: Mapping[Verdict, str] = {
    "sampled": "kept its bits",
    "variant": "bits change with the batch",
    "defined": "bits change by definition",
    "wrong": "wrong result",
}
_STYLE = """
text { font: 14px sans-serif; fill: #1f2328; }
.title { font-weight: bold; }
.paper { fill: #ffffff; }
.grid { stroke: #d1d9e0; fill: none; }
.lead { stroke: #818b98; fill: none; }
.sampled { stroke: #0a7d5a; fill: #0a7d5a; }
.variant { stroke: #c4410c; fill: #c4410c; }
.wrong { stroke: #a02784; fill: #a02784; }
.other { stroke: #59636e; fill: #59636e; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .paper { fill: #0d1117; }
  .grid { stroke: #3d444d; }
  .sampled { stroke: #3fd69b; fill: #3fd69b; }
  .variant { stroke: #ff9a57; fill: #ff9a57; }
  .wrong { stroke: #f08ad9; fill: #f08ad9; }
  .other { stroke: #9198a1; fill: #9198a1; }
}
.line { fill: none; stroke-width: 2.5; }
.variant.line, .wrong.line { stroke-dasharray: 7 5; }
.name { stroke: none; }
"""


class Curve(Record):
    """One arm's times in one case.

    Attributes:
        arm: its name.
        verdict: what is known of its bits there.
        points: pairs of M and the median with a warm L2 in microseconds a call, M ascending; at least one.
    """

    arm: str
    verdict: Verdict
    points: tuple[tuple[int, float], ...]


def curves_of(records: Iterable[AnyRecord], case: str) -> tuple[Curve, ...]:
    """Every arm that was timed in a case, in the order of the records.

    Args:
        records: a run's.
        case: operator, sizes and dtype, such as ``linear/4096x12288/bf16``.

    Raises:
        ValueError: no arm was timed there, or sequences were, whose times depend on their length as well.
    """
    verdicts: dict[str, Verdict] = {}
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if isinstance(record, Verification) and record.case.without_arm == case:
            verdicts[record.case.arm] = record.verdict
        elif isinstance(record, Timing) and record.case.without_arm == case and record.warm is not None:
            if record.length is not None:
                raise ValueError(f"{case} is timed at several lengths, and a picture has one line an arm")
            points.setdefault(record.case.arm, []).append((record.m, record.warm.median_us))
    if not points:
        raise ValueError(f"the run has no timings of {case}")
    timed = (arm for arm in verdicts if arm in points)
    return tuple(Curve(arm=arm, verdict=verdicts[arm], points=tuple(sorted(points[arm]))) for arm in timed)


def figure(title: str, curves: Sequence[Curve]) -> str:
    """Time over M for each arm.

    Args:
        title: of the picture, in a line.
        curves: those to draw; at least one.
    """
    axes = _Axes(curves)
    # What kept its bits lies below, since what is dashed lets it be seen where two lines are one.
    ordered = sorted(curves, key=lambda curve: curve.verdict == "variant")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(f'{title}: {_in_words(curves)}')}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        *axes.drawn(),
        *(part for curve in ordered for part in _line(curve, axes)),
        *_names(curves, axes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _in_words(curves: Sequence[Curve]) -> str:
    """The picture for those who cannot see it."""
    return "; ".join(f"{_name(one)}, {one.points[0][1]:.1f} to {one.points[-1][1]:.1f} µs" for one in curves)


def _name(curve: Curve) -> str:
    """An arm and what became of its bits."""
    return f"{curve.arm}: {_WORDS.get(curve.verdict, curve.verdict)}"


def _colour(curve: Curve) -> str:
    return curve.verdict if curve.verdict in _WORDS else "other"


class _Axes:
    """Where M and microseconds stand in the picture."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        points = [point for curve in curves for point in curve.points]
        self.sizes = sorted({m for m, _ in points})
        self._ticks = ticks(min(us for _, us in points), max(us for _, us in points))
        self.x = LogAxis(self.sizes[0], self.sizes[-1], LEFT, WIDTH - RIGHT)
        self.y = LogAxis(self._ticks[0], self._ticks[-1], HEIGHT - BOTTOM, TOP)

    def drawn(self) -> Iterator[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for us in self._ticks:
            yield f'<path class="grid" d="M{LEFT} {self.y(us):.1f}H{right}"/>'
            yield f'<text x="{LEFT - 8}" y="{self.y(us) + 5:.1f}" text-anchor="end">{us:g}</text>'
        for m in self.sizes:
            yield f'<path class="grid" d="M{self.x(m):.1f} {TOP}V{bottom}"/>'
            yield f'<text x="{self.x(m):.1f}" y="{bottom + 18}" text-anchor="middle">{m}</text>'
        yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">rows in the batch, M</text>'
        middle = (TOP + bottom) / 2
        yield f'<text x="18" y="{middle}" transform="rotate(-90 18 {middle})" text-anchor="middle">µs a call</text>'


def _line(curve: Curve, axes: _Axes) -> Iterator[str]:
    places = [(axes.x(m), axes.y(us)) for m, us in curve.points]
    yield f'<path class="{_colour(curve)} line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
    for x, y in places:
        yield f'<circle class="{_colour(curve)}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def _names(curves: Sequence[Curve], axes: _Axes) -> Iterator[str]:
    """Names beside the ends of the lines, moved apart where ends meet."""
    ends = sorted(((axes.y(curve.points[-1][1]), curve) for curve in curves), key=lambda end: end[0])
    x = WIDTH - RIGHT + 28
    places = within(apart([end for end, _ in ends], LINE_HEIGHT), LINE_HEIGHT, LINE_HEIGHT, HEIGHT - LINE_HEIGHT)
    for y, (end, curve) in zip(places, ends, strict=True):
        start = axes.x(curve.points[-1][0]) + 6
        yield f'<path class="lead" d="M{start:.1f} {end:.1f}L{x - 5} {y:.1f}"/>'
        yield f'<text class="{_colour(curve)} name" x="{x}" y="{y + 5:.1f}">{escape(_name(curve))}</text>'
