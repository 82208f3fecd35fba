"""Changes over time taken, as inline SVG: how much longer each of many timings took in a second run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup, escape

from kernels_bench.report.html.plot import number_text, spaced
from kernels_bench.report.log_axes import LogAxis, ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 280, 58, 26, 12, 36
LEAST_SHARE = 0.02
"""The picture shows at least so much to both sides of no change, so that noise looks like noise."""

_TICK_APART = 50


@dataclass(frozen=True)
class Change:
    """A timing in two runs: what it took in the first, above 0, and how much longer in the second, as a share."""

    us: float
    share: float


def scatter(told: str, changes: Sequence[Change], line: float | None = None) -> Markup:
    """The picture; what lies beyond its edges stands on them as a ring.

    Args:
        told: what is drawn, for those who cannot see it.
        changes: at least one.
        line: a share above which a change is too much.
    """
    sizes = sorted(abs(change.share) for change in changes)
    most = max(LEAST_SHARE, 1.5 * sizes[int(0.95 * (len(sizes) - 1))], 1.2 * (line or 0))
    steps = ticks(min(change.us for change in changes), max(change.us for change in changes))
    x = LogAxis(steps[0], steps[-1], LEFT + 8, WIDTH - RIGHT)
    middle, scale = (TOP + HEIGHT - BOTTOM) / 2, (HEIGHT - TOP - BOTTOM) / 2 / most

    def y(share: float) -> float:
        """Where a change stands; those beyond the edge stand there."""
        return middle - scale * max(-most, min(most, share))

    inside = [change for change in changes if abs(change.share) <= most]
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">',
        '<g class="end">',
    ]
    for share in _levels(most):
        text = "same" if share == 0 else f"{100 * share:+.4g}%"
        parts.append(f'<text x="{LEFT - 6}" y="{y(share) + 4:.0f}">{text}</text>')
    lines = "".join(f"M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}" for share in _levels(most))
    parts += ["</g>", f'<path class="grid" d="{lines}"/>', '<g class="middle">']
    shown = spaced(steps, [x(step) for step in steps], _TICK_APART)
    parts += [f'<text x="{x(step):.0f}" y="{HEIGHT - BOTTOM + 16}">{number_text(step)}</text>' for step in shown]
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 3}">µs a call in the first run</text></g>')
    if line is not None:
        parts.append(f'<path class="limit" d="M{LEFT} {y(line):.1f}H{WIDTH - RIGHT}"/>')
    dots = "".join(f"M{x(one.us):.1f} {y(one.share):.1f}h0" for one in inside)
    parts.append(f'<path class="dots" d="{dots}"/>')
    parts += [
        f'<circle class="ring" cx="{x(a):.1f}" cy="{b:.1f}" r="4"/>'
        for a, b in _beyond(changes, most, y(most), y(-most))
    ]
    return Markup("".join([*parts, "</svg>"]))


def _beyond(changes: Sequence[Change], most: float, top: float, bottom: float) -> Iterator[tuple[float, float]]:
    for change in changes:
        if abs(change.share) > most:
            yield change.us, top if change.share > 0 else bottom


def _levels(most: float) -> list[float]:
    """No change and some round shares to both sides of it."""
    steps = (mantissa * 10.0**exponent for exponent in count(-3) for mantissa in (1, 2, 5))
    step = next(step for step in steps if most / step < 4)
    above = [number * step for number in range(1, int(most / step + 1e-9) + 1)]
    return [*(-share for share in reversed(above)), 0.0, *above]
