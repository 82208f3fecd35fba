"""The page's pictures, drawn with plotly: axes are named with their units, and all fit a laptop's width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from profiles.families import FAMILIES
from profiles.findings import ArmFamilies, CrossCheck, KernelMap, RangeSummary
from profiles.installing import pip_install
from profiles.naming import call_in_words, identity
from profiles.trace import ReportError

try:
    import plotly.graph_objects as go
    from plotly.offline import get_plotlyjs
    from plotly.subplots import make_subplots
except ImportError as error:
    raise ReportError(f"--html needs plotly: {pip_install('plotly')}") from error

# Okabe and Ito's colours, which most colour-blind readers tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_MOST_RANGES = 20
_LINE, _LEFT = 26, 260
# Ticks at 1, 2 and 5 of every power of ten.
_LOG = {"type": "log", "dtick": "D2"}
_CONFIG = {"displayModeBar": False, "responsive": True}


class _AsHtml:
    """Pictures as parts of a page; the library itself is written once."""

    def library(self) -> str:
        """Plotly, so that the page needs no network."""
        return f"<script>{get_plotlyjs()}</script>"

    def __call__(self, figure: go.Figure) -> str:
        """One picture."""
        return str(figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG))


as_html = _AsHtml()


def _laid_out(figure: go.Figure, height: int, left: int = 70, **layout: Any) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": left, "r": 20, "t": 40, "b": 60},
        font={"size": 12},
        legend={"orientation": "h", "traceorder": "normal", "y": 1.02, "yanchor": "bottom", "x": 0},
        **layout,
    )
    return figure


def agreement_picture(rows: Sequence[CrossCheck]) -> go.Figure:
    """Medians over kernel times, and beside it how far they are apart."""
    figure = make_subplots(1, 2, horizontal_spacing=0.1)
    low, high = (pick(row.kernel_us for row in rows) for pick in (min, max))
    figure.add_trace(
        go.Scatter(x=[low, high], y=[low, high], mode="lines", name="equal", line={"color": "#bbb", "dash": "dot"})
    )
    for colour, (name, points) in zip(COLOURS, _series(rows).items(), strict=False):
        kernel_us = [row.kernel_us for row, _ in points]
        look = {"name": name, "legendgroup": name, "mode": "markers", "marker": {"color": colour, "size": 7}}
        look |= {"text": [row.case for row, _ in points], "hovertemplate": "%{text}<br>%{x:.3f}, %{y:.3f}"}
        figure.add_trace(go.Scatter(x=kernel_us, y=[us for _, us in points], **look), 1, 1)
        off = [100 * (us / row.kernel_us - 1) for row, us in points]
        figure.add_trace(go.Scatter(x=kernel_us, y=off, showlegend=False, **look), 1, 2)
    _band(figure, low, high)
    for column in (1, 2):
        figure.update_xaxes(title="kernel time of a call in Nsight (µs)", row=1, col=column, **_LOG)
    figure.update_yaxes(title="median in the run (µs)", row=1, col=1, **_LOG)
    figure.update_yaxes(title="median over kernel time (%)", row=1, col=2)
    return _laid_out(figure, 460)


def _series(rows: Sequence[CrossCheck]) -> dict[str, list[tuple[CrossCheck, float]]]:
    """The points of each kind: a row and the median that stands for it."""
    series: dict[str, list[tuple[CrossCheck, float]]] = {}
    for row in rows:
        if row.uncaptured_us is not None:
            series.setdefault(f"{row.cache}, without the profiler", []).append((row, row.uncaptured_us))
        series.setdefault(f"{row.cache}, {'captured' if row.captured else 'run'}", []).append((row, row.run_us))
    return series


def _band(figure: go.Figure, low: float, high: float) -> None:
    """The differences that are allowed: 2 % above 10 µs, 0.3 µs below."""
    steps = [low * (high / low) ** (i / 60) for i in range(61)] if high > low else [low]
    allowed = [2.0 if us > 10 else 30.0 / us for us in steps]
    for sign in (1, -1):
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=[sign * share for share in allowed],
                mode="lines",
                line={"color": "#bbb", "dash": "dot"},
                name="2 % above 10 µs, 0.3 µs below",
                showlegend=sign == 1,
            ),
            1,
            2,
        )


def map_letters(maps: Sequence[KernelMap]) -> dict[str, str]:
    """A letter for every call of some maps, in words."""
    letters: dict[str, str] = {}
    for call in _calls(maps).values():
        number = len(letters)
        letters.setdefault(call, ascii_uppercase[number % 26] + (str(number // 26) if number >= 26 else ""))
    return letters


def _calls(maps: Sequence[KernelMap]) -> dict[tuple[object, ...], str]:
    """What every call is called, by all that makes it another one."""
    calls: dict[tuple[object, ...], str] = {}
    for entry in (entry for one in maps for entry in one.entries):
        key = identity(entry.kernels)
        if key not in calls:
            forms = (f"block {'×'.join(map(str, one.block))}, {one.registers} registers" for one in entry.kernels)
            calls[key] = f"{call_in_words(entry.kernels)} ({'; '.join(forms)})"
    return calls


def map_picture(maps: Sequence[KernelMap], letters: Mapping[str, str]) -> go.Figure:
    """A line a case, a column a load; colour and letter tell the call."""
    calls = _calls(maps)
    entries = sorted((entry for one in maps for entry in one.entries), key=lambda entry: (entry.length or 0, entry.m))
    loads = list(dict.fromkeys(entry.load for entry in entries))
    order = list(letters)
    z, text, hover = [], [], []
    for one in maps:
        known = {entry.load: calls[identity(entry.kernels)] for entry in one.entries}
        z.append([order.index(known[load]) if load in known else None for load in loads])
        text.append([letters[known[load]] if load in known else "" for load in loads])
        hover.append([known.get(load, "not timed, or not in the report") for load in loads])
    figure = go.Figure(
        go.Heatmap(
            z=z, x=loads, y=[f"{one.arm} {one.shape}" for one in maps], text=text, customdata=hover,
            texttemplate="%{text}", hovertemplate="%{y}, M=%{x}<br>%{customdata}<extra></extra>",
            colorscale=_steps(len(order)), zmin=-0.5, zmax=max(0.5, len(order) - 0.5), showscale=False, xgap=2, ygap=2,
        )
    )  # fmt: skip
    figure.update_xaxes(type="category", title="rows M (times length, for attention)", showgrid=False)
    figure.update_yaxes(autorange="reversed", title="arm, shape and dtype", showgrid=False, automargin=True)
    return _laid_out(figure, 130 + _LINE * len(maps), _LEFT)


def _steps(count: int) -> list[tuple[float, str]]:
    """A colour scale of as many steps."""
    scale: list[tuple[float, str]] = []
    for number in range(max(1, count)):
        colour = COLOURS[number % len(COLOURS)]
        scale += [(number / max(1, count), colour), ((number + 1) / max(1, count), colour)]
    return scale


def families_picture(arms: Sequence[ArmFamilies]) -> go.Figure:
    """A bar an arm, made of its families."""
    names = [f"{arm.arm}, {arm.phase}" for arm in arms]
    figure = go.Figure()
    for colour, family in zip(COLOURS, FAMILIES, strict=True):
        times = [sum(one.time_ns for one in arm.families if one.family == family) / 1e6 for arm in arms]
        if any(times):
            figure.add_trace(go.Bar(y=names, x=times, name=family, orientation="h", marker={"color": colour}))
    figure.update_xaxes(title="GPU time in all trials (ms)")
    figure.update_yaxes(title="arm and phase", autorange="reversed", automargin=True)
    return _laid_out(figure, 170 + 45 * len(arms), 160, barmode="stack")


def ranges_picture(ranges: Iterable[RangeSummary]) -> go.Figure:
    """The ranges with the most GPU time: busy, and idle within their spans."""
    shown = sorted(ranges, key=lambda one: -one.busy_ns)[:_MOST_RANGES]
    names = [one.text or "(outside of all ranges)" for one in shown]
    # What no range encloses are single launches, whose spans add up to no time of its own.
    idle = [one.gap_ns / 1e6 if one.message else 0.0 for one in shown]
    figure = go.Figure(
        [
            go.Bar(
                y=names, x=[one.busy_ns / 1e6 for one in shown], name="busy", orientation="h", marker_color=COLOURS[0]
            ),
            go.Bar(y=names, x=idle, name="idle within its span", orientation="h", marker_color="#cccccc"),
        ]
    )
    figure.update_xaxes(title="GPU time (ms)")
    figure.update_yaxes(title="range", autorange="reversed", automargin=True)
    return _laid_out(figure, 170 + _LINE * len(shown), _LEFT, barmode="stack")
