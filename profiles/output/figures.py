"""The page's pictures, drawn with plotly: axes are named with their units, and all fit a phone's width.

Colours that depend on the page's ground come with `templates`; the page's script chooses one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal
from unicodedata import east_asian_width

from profiles.analysis.kernels.families import FAMILIES
from profiles.analysis.schema import ArmFamilies, CrossCheck, KernelMap, MapEntry, RangeSummary
from profiles.errors import ReportError
from profiles.installing import pip_install
from profiles.output.looks import COLOURS, Look
from profiles.trace.kernel_names import call_in_words, identity

try:
    import plotly.graph_objects as go
    from plotly.offline import get_plotlyjs
except ImportError as error:
    raise ReportError(f"--html needs plotly: {pip_install('plotly')}") from error

Mark = Literal["bar", "dot", "ring", "line"]
Identity = tuple[tuple[str, tuple[int, int, int], int], ...]

_MOST_RANGES = 20
# Lines of text, in pixels and characters: a phone shows 46 of them.
_TEXT, _BAR, _SPACE, _CHARACTERS, _SHORT = 16, 14, 18, 46, 24
_ABOVE, _BELOW, _ROW, _COLUMN = 8, 48, 40, 130
_GREY, _PALE = "#888888", "rgba(128, 128, 128, 0.35)"
_CACHES: Mapping[str, str] = {"warm": "#D55E00", "cold": "#0072B2"}
# Of one width, so that as many characters always fit.
_NAMES = {"family": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace", "size": 11}
_SYMBOLS: Mapping[Mark, str] = {"dot": "circle", "ring": "circle-open"}
# Ticks at 1, 2 and 5 of every power of ten.
_LOG = {"type": "log", "dtick": "D2"}


@dataclass(frozen=True)
class Key:
    """A line of a legend: what a name stands for."""

    name: str
    colour: str
    mark: Mark


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, and how wide it may grow.

    Attributes:
        figure: what plotly draws.
        widest: in pixels; 0 for any width.
    """

    figure: go.Figure
    widest: int = 0

    def json(self) -> str:
        """As the page's script takes it: JSON that cannot end the script element it stands in."""
        return str(self.figure.to_json()).replace("<", "\\u003c")


def library() -> str:
    """Plotly, so that the page needs no network."""
    return str(get_plotlyjs())


def templates() -> str:
    """What figures look like on a light and on a dark ground, as JSON."""
    return json.dumps(
        {
            "light": _template(ink="#1d2127", muted="#5b6470", grid="#e6e8eb", raised="#ffffff", ground="#ffffff"),
            "dark": _template(ink="#e4e7eb", muted="#9aa4b1", grid="#2c323a", raised="#23282f", ground="#15181c"),
        }
    )


def _template(ink: str, muted: str, grid: str, raised: str, ground: str) -> dict[str, object]:
    axis = {
        "gridcolor": grid, "zerolinecolor": grid, "linecolor": grid, "tickfont": {"color": muted},
        "title": {"font": {"color": muted, "size": 12}, "standoff": 8},
    }  # fmt: skip
    clear = "rgba(0, 0, 0, 0)"
    layout = {
        "paper_bgcolor": clear, "plot_bgcolor": clear, "font": {"color": ink}, "xaxis": axis, "yaxis": axis,
        "hoverlabel": {"bgcolor": raised, "bordercolor": muted, "font": {"color": ink}},
        # A name hides the grid behind it.
        "annotationdefaults": {"bgcolor": ground},
    }  # fmt: skip
    return {"layout": layout}


def _laid_out(figure: go.Figure, rows: int, widest: int = 0, **layout: Any) -> Picture:
    """A figure for the page.

    Args:
        figure: with its traces and axes.
        rows: height within the axes, in pixels; the page's script keeps it.
        widest: of the figure, in pixels; 0 for any width.
        layout: what else plotly is to know.
    """
    figure.update_layout(
        template=None,
        height=_ABOVE + rows + _BELOW,
        meta={"rows": rows},
        margin={"l": 4, "r": 12, "t": _ABOVE, "b": _BELOW},
        font={"size": 12, "family": "system-ui, sans-serif"},
        hoverlabel={"align": "left", "namelength": -1},
        showlegend=False,
        **layout,
    )
    return Picture(figure, widest)


def plain(text: str, characters: int = _CHARACTERS) -> str:
    """A name from a report as plotly writes it: text, not markup, on lines that fit."""
    # A percent sign may begin one of plotly's placeholders.
    return "<br>".join(escape(line, quote=False).replace("%", "&#37;") for line in lines(text, characters))


def lines(text: str, characters: int = _CHARACTERS) -> list[str]:
    """A text on lines of at most so many characters, broken behind punctuation where that is possible.

    Where a text has characters of double width, such as Chinese ones, a line holds half as many.
    """
    if any(east_asian_width(one) in "WF" for one in text):
        characters //= 2
    parts = [part[at : at + characters] for part in re.findall(r"[^\s/,:;+]*[\s/,:;+]*", text) if part
             for at in range(0, len(part), characters)]  # fmt: skip
    found = [""]
    for part in parts:
        if found[-1] and len(found[-1]) + len(part) > characters:
            found.append("")
        found[-1] += part
    return found


def agreement_key(rows: Sequence[CrossCheck]) -> list[Key]:
    """The legend of both pictures of agreement."""
    series = [Key(name, *_mark(name)) for name in _series(rows)]
    return [*series, Key(_EQUAL, _GREY, "line"), Key(_ALLOWED, _GREY, "line")]


_EQUAL, _ALLOWED = "equal", "2 % above 10 µs, 0.3 µs below"


def medians_picture(rows: Sequence[CrossCheck]) -> Picture:
    """Medians over kernel times."""
    low, high = (pick(row.kernel_us for row in rows) for pick in (min, max))
    figure = go.Figure(_line([low, high], [low, high], _EQUAL))
    for name, points in _series(rows).items():
        figure.add_trace(_points(name, points, [us for _, us in points], "%{y:.3f} µs"))
    figure.update_yaxes(title="median in the run (µs)", **_LOG)
    return _over_kernel_time(figure)


def shares_picture(rows: Sequence[CrossCheck]) -> Picture:
    """How far medians are from kernel times, and how far they may be: 2 % above 10 µs, 0.3 µs below."""
    low, high = (pick(row.kernel_us for row in rows) for pick in (min, max))
    steps = [low * (high / low) ** (i / 60) for i in range(61)] if high > low else [low]
    allowed = [2.0 if us > 10 else 30.0 / us for us in steps]
    figure = go.Figure([_line(steps, [sign * share for share in allowed], _ALLOWED) for sign in (1, -1)])
    for name, points in _series(rows).items():
        figure.add_trace(_points(name, points, [100 * (us / row.kernel_us - 1) for row, us in points], "%{y:+.2f} %"))
    figure.update_yaxes(title="median over kernel time (%)")
    return _over_kernel_time(figure)


def _over_kernel_time(figure: go.Figure) -> Picture:
    figure.update_xaxes(title="kernel time of a call in Nsight (µs)", **_LOG)
    figure.update_yaxes(automargin=True)
    return _laid_out(figure, 320)


def _line(x: Sequence[float], y: Sequence[float], name: str) -> go.Scatter:
    look = {"color": _GREY, "dash": "dot", "width": 1.5}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=look, hoverinfo="skip")


def _points(name: str, points: Sequence[tuple[CrossCheck, float]], y: Sequence[float], value: str) -> go.Scatter:
    colour, mark = _mark(name)
    return go.Scatter(
        x=[row.kernel_us for row, _ in points],
        y=y,
        name=name,
        mode="markers",
        marker={"color": colour, "size": 8, "symbol": _SYMBOLS[mark], "line": {"width": 2 * (mark == "ring")}},
        text=[plain(row.case) for row, _ in points],
        hovertemplate=f"%{{text}}<br>{name}<br>kernel time %{{x:.3f}} µs, median {value}<extra></extra>",
    )


def _mark(name: str) -> tuple[str, Mark]:
    """The cache's colour; a ring for what was not recorded."""
    return _CACHES[name.partition(",")[0]], "ring" if name.endswith(_WITHOUT) else "dot"


_WITHOUT = "without the profiler"


def _series(rows: Sequence[CrossCheck]) -> dict[str, list[tuple[CrossCheck, float]]]:
    """The points of each kind: a row and the median that stands for it."""
    series: dict[str, list[tuple[CrossCheck, float]]] = {}
    for row in rows:
        series.setdefault(f"{row.cache}, {'captured' if row.captured else 'run'}", []).append((row, row.run_us))
        if row.uncaptured_us is not None:
            series.setdefault(f"{row.cache}, {_WITHOUT}", []).append((row, row.uncaptured_us))
    return series


def calls(maps: Iterable[KernelMap]) -> dict[Identity, MapEntry]:
    """Every call of some maps, by all that makes it another one."""
    found: dict[Identity, MapEntry] = {}
    for entry in (entry for one in maps for entry in one.entries):
        found.setdefault(identity(entry.kernels), entry)
    return found


def forms(entry: MapEntry) -> str:
    """The blocks and registers of a call's kernels; copies and fills have none."""
    kernels = [one for one in entry.kernels if any(one.block)]
    each = (f"block {'×'.join(map(str, one.block))}, {one.registers} registers" for one in kernels)
    return "; ".join(dict.fromkeys(each))


def map_picture(maps: Sequence[KernelMap], looks: Mapping[Identity, Look]) -> Picture:
    """A line a case, a column a load; colour, pattern and letter tell the call."""
    entries = sorted((entry for one in maps for entry in one.entries), key=lambda entry: (entry.length or 0, entry.m))
    loads = list(dict.fromkeys(entry.load for entry in entries))
    figure = go.Figure([_cells(maps, loads, call, looks[call]) for call in calls(maps)])
    columns, rows = list(range(len(loads))), list(range(len(maps)))
    named = [f"<b>{plain(one.arm, _SHORT)}</b><br>{plain(one.shape, _SHORT)}" for one in maps]
    title = "rows M × length of each" if any(entry.length is not None for entry in entries) else "rows M"
    figure.update_xaxes(
        title=title, tickvals=columns, ticktext=loads,
        range=[-0.5, len(loads) - 0.5], showgrid=False, zeroline=False, fixedrange=True, automargin=True,
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=rows, ticktext=named, range=[len(maps) - 0.5, -0.5], showgrid=False, zeroline=False,
        fixedrange=True, automargin=True, ticklabelposition="outside", ticklabelstandoff=6,
    )  # fmt: skip
    height = sum(max(_ROW, 8 + _TEXT * (1 + name.count("<br>"))) for name in named)
    return _laid_out(figure, height, 180 + _COLUMN * len(loads), barmode="overlay", bargap=0.1)


def _cells(maps: Sequence[KernelMap], loads: Sequence[str], call: Identity, look: Look) -> go.Bar:
    """The cells of one call, each a bar from its column's left to its right."""
    found = [
        (row, loads.index(entry.load), entry)
        for row, one in enumerate(maps)
        for entry in one.entries
        if identity(entry.kernels) == call
    ]
    hover = [
        f"{plain(f'{maps[row].arm} {maps[row].shape}, M={entry.load}')}<br>"
        f"<b>{plain(call_in_words(entry.kernels))}</b><br>{plain(forms(entry))}"
        for row, _, entry in found
    ]
    return go.Bar(
        y=[row for row, _, _ in found],
        x=[0.94] * len(found),
        base=[column - 0.47 for _, column, _ in found],
        orientation="h",
        name=look.letter,
        text=[look.letter] * len(found),
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        insidetextfont={"color": look.ink, "size": 13, "weight": 600},
        marker={
            "color": look.colour,
            "line": {"width": 0},
            "cornerradius": 4,
            "pattern": {"shape": look.pattern, "fillmode": "overlay", "fgcolor": look.ink, "fgopacity": 0.35, "size": 9,
                        "solidity": 0.15},
        },
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def families_key(arms: Sequence[ArmFamilies]) -> list[Key]:
    """The legend of the picture of families: those that took any time."""
    found = {one.family for arm in arms for one in arm.families if one.time_ns}
    return [Key(name, colour, "bar") for colour, name in zip(COLOURS, FAMILIES, strict=True) if name in found]


def families_picture(arms: Sequence[ArmFamilies]) -> Picture:
    """A bar an arm, made of its families."""
    names = [f"{arm.arm}, {arm.phase}" for arm in arms]
    times = {
        key: [sum(one.time_ns for one in arm.families if one.family == key.name) / 1e6 for arm in arms]
        for key in families_key(arms)
    }
    return _bars(names, times, "GPU time in all trials (ms)")


RANGES_KEY = (Key("busy", COLOURS[0], "bar"), Key("idle within its span", _PALE, "bar"))


def ranges_picture(ranges: Iterable[RangeSummary]) -> Picture:
    """The ranges with the most GPU time: busy, and idle within their spans."""
    shown = sorted(ranges, key=lambda one: -one.busy_ns)[:_MOST_RANGES]
    names = [one.text or "(outside of all ranges)" for one in shown]
    # What no range encloses are single launches, whose spans add up to no time of its own.
    idle = [one.gap_ns / 1e6 if one.message else 0.0 for one in shown]
    busy = [one.busy_ns / 1e6 for one in shown]
    return _bars(names, dict(zip(RANGES_KEY, (busy, idle), strict=True)), "GPU time (ms)")


def _bars(names: Sequence[str], parts: Mapping[Key, Sequence[float]], unit: str) -> Picture:
    """A bar a name, made of parts; names stand above their bars, so that long ones need no margin.

    Args:
        names: of the bars, from above.
        parts: their lengths, ``(names,)`` each.
        unit: title of the axis.
    """
    wrapped = [plain(name) for name in names]
    middles, height = [], 0
    for name in wrapped:
        height += _SPACE + _TEXT * (1 + name.count("<br>")) + _BAR
        middles.append(height - _BAR // 2)
    figure = go.Figure(
        [
            go.Bar(
                y=middles, x=times, width=_BAR, name=key.name, orientation="h",
                marker={"color": key.colour, "line": {"width": 0}}, customdata=wrapped,
                hovertemplate=f"%{{customdata}}<br>{key.name} %{{x:,.3f}} ms<extra></extra>",
            )
            for key, times in parts.items()
        ]
    )  # fmt: skip
    for name, middle in zip(wrapped, middles, strict=True):
        figure.add_annotation(
            x=0, y=middle, xref="x domain", text=name, align="left", xanchor="left", yanchor="bottom", yshift=_BAR // 2,
            xshift=-1, borderpad=1, showarrow=False, font=_NAMES,
        )  # fmt: skip
    figure.update_xaxes(title=unit, rangemode="tozero", fixedrange=True, exponentformat="none", separatethousands=True)
    figure.update_yaxes(visible=False, range=[height + _SPACE // 2, 0], fixedrange=True)
    return _laid_out(figure, height + _SPACE // 2, barmode="stack")
