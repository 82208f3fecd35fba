"""The page: offline, and looked at in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from profiles.analysis.kernels.families import FAMILIES
from profiles.analysis.schema import (
    Analysis,
    ArmFamilies,
    FamilyDifference,
    FamilyTime,
    KernelMap,
    MapEntry,
    Origin,
    RangeSummary,
    Spread,
    Told,
)
from profiles.installing import pip_install
from profiles.output.html_page import page
from profiles.trace.model import Kernel
from support import ROOT
from support.processes import LIMIT_S
from support.profiler_reports import CAPTURED, UNCAPTURED, Launch, Span, h100_report, profiles, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium in PATH (apt-get install chromium)")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
)  # fmt: skip
PHONE, LAPTOP = 420, 1366
AGREEMENT, MAPS, WHY, FAMILY, RANGE = (
    "Medians against kernel time", "Kernels by M", "Why bits changed", "GPU time by family", "GPU time by range",
)  # fmt: skip

# The page stands in a frame, since no window of chromium is as narrow as a phone.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin: 0">
<iframe style="border: 0" width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
addEventListener("message", event => {{
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = event.data;
  document.body.replaceChildren(out);
}});
</script>"""

PROBE = """
<script>
addEventListener("error", event => { document.title = "error: " + event.message; });
addEventListener("load", () => setTimeout(() => {
  const all = (root, css) => [...root.querySelectorAll(css)];
  const text = (root, css) => all(root, css).map(node => node.textContent);
  const box = node => node.getBoundingClientRect();
  const drawn = ".points path, .point path, .js-line";
  const names = plot => (plot.layout.annotations || []).map((_, at) =>
    text(plot, `.annotation[data-index="${at}"] text`).join("") || "");
  const style = (node, what) => getComputedStyle(node)[what];
  // A column counts if some scrolling brings its head into view, beside the first, which stays.
  const reached = (table, head) => {
    const [frame, first] = [box(table), box(table.querySelector("th"))];
    table.scrollLeft = 0;
    const left = head === table.querySelector("th") ? frame.left : frame.left + first.width;
    table.scrollLeft = box(head).left - left;
    const stays = box(table.querySelector("th")).left >= frame.left;
    return stays && box(head).left >= left - 2 && box(head).right <= frame.right + 2;
  };
  const hovered = plot => {
    Plotly.Fx.hover(plot, [{ curveNumber: plot.data.length - 1, pointNumber: 0 }]);
    const path = plot.querySelector(".hovertext path");
    return { text: style(plot.querySelector(".hovertext text"), "fill"), ground: style(path, "fill") };
  };
  const found = {
    title: document.title,
    heading: text(document, "header").join(""),
    width: document.documentElement.scrollWidth,
    window: document.documentElement.clientWidth,
    ground: style(document.body, "backgroundColor"),
    inks: [...new Set(all(document.body, "h1, h2, p, dt, dd, li, td, th, small").map(node => style(node, "color")))],
    loaded: performance.getEntriesByType("resource").map(entry => entry.name),
    tables: all(document, ".scroll").map(table => ({
      columns: all(table, "thead th").length,
      reached: all(table, "thead th").filter(head => reached(table, head)).length,
      first: box(table.querySelector("th")).width / box(table).width,
      numbers: all(table, "td.number").map(node => style(node, "textAlign") + " " + style(node, "fontVariantNumeric")),
    })),
    plots: all(document, ".js-plotly-plot").map(plot => ({
      width: box(plot).width,
      sticksOut: box(plot).right - box(plot.closest("section")).right,
      cut: all(plot, "text, .point path").filter(node => box(node).width && (
        box(node).left < box(plot).left - 1 || box(node).right > box(plot).right + 1)).map(node => node.textContent),
      x: text(plot, ".infolayer [class$=xtitle]"),
      y: text(plot, ".infolayer [class$=ytitle]").filter(title => title),
      names: names(plot),
      drawn: plot.querySelectorAll(drawn).length,
      smallest: Math.min(...all(plot, "text").map(node => parseFloat(style(node, "fontSize")))),
      inks: [...new Set(all(plot, "text:not(.bartext)").map(node => style(node, "fill")))],
      overlapping: all(plot, ".ytick text").filter((node, at, others) =>
        at && box(node).top < box(others[at - 1]).bottom - 1 && box(node).bottom > box(others[at - 1]).top + 1).length,
      hover: hovered(plot),
    })),
    headings: all(document, "section").map(section => ({
      title: section.querySelector("h2").textContent,
      plots: section.querySelectorAll(".js-plotly-plot").length,
      missing: text(section, ".missing").join(" "),
    })),
    hidden: all(document, "section").map(section => {
      const [button, plot] = [section.querySelector(".legend button"), section.querySelector(".js-plotly-plot")];
      if (!button || !plot) return null;
      button.click();
      return plot.data.filter(trace => trace.visible === false).map(trace => trace.name);
    }),
  };
  parent.postMessage(JSON.stringify(found), "*");
}, 1500));
</script>
"""


@dataclass(frozen=True)
class Seen:
    """What the browser made of a page."""

    facts: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.facts["title"])

    @property
    def plots(self) -> list[dict[str, Any]]:
        return list(self.facts["plots"])

    def section(self, title: str) -> dict[str, Any]:
        (one,) = [section for section in self.facts["headings"] if section["title"] == title]
        return dict(one)


def written(tmp_path: Path, *arguments: object) -> str:
    ended = profiles("analyze", *arguments, "--html", tmp_path / "page.html")
    assert (ended.status, ended.stderr) == (0, "")
    return (tmp_path / "page.html").read_text()


def seen(tmp_path: Path, page: str, width: int = LAPTOP, dark: bool = False) -> Seen:
    framed = tmp_path / "framed.html"
    framed.write_text(FRAME.format(width=width, page=escape(page.replace("</body>", PROBE + "</body>"))))
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={tmp_path / 'browser'}",
            f"--window-size={max(width, 600)},900",
            "--dump-dom",
            framed,
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return Seen(json.loads(unescape(found[1])))


def contrast(one: str, other: str) -> float:
    """Of two colours of CSS, as WCAG 2 defines it: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def engine_report(path: Path) -> Path:
    """Two arms' trials of an engine."""
    spans = [Span(f"trial/{arm}/{n}", 1000 * n + at, 1000 * n + at + 400) for n in (1, 2) for arm, at in ARMS.items()]
    kernels = {"baseline": ["nvjet_tst", "flash_fwd"], "batch-invariant": ["matmul_kernel_persistent", "odd_one"]}
    launches = []
    for span in spans:
        at, names = span.start, kernels[span.text.split("/")[1]]
        launches.append(
            Launch(at + 1, at + 2, [(name, at + 90 * i, at + 90 * i + 80) for i, name in enumerate(names, 1)])
        )
    return write_report(path, spans, launches, {1: "e2e"})


HOSTILE = "</title><script>document.title='got'</script> & \"'%{x}"


def crowded() -> Analysis:
    """More kernels, longer names and odder ones than any run has had."""

    def call(number: int) -> tuple[Kernel, ...]:
        name = f"sm90_xmma_gemm_bf16bf16_tilesize{number}x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"
        return (Kernel(name, f"{name}<{HOSTILE}>", "kernel", (1, 1, 1), (128, 1, 1), 168),)

    loads = [(m, length) for length in (128, 2048, 32768) for m in (1, 16, 256)]
    cases = [
        (arm, shape)
        for arm in ("torch", "triton-unified-invariant")
        for shape in ("32x8x128x16x32768 bf16:fp32", "64 bf16")
    ]
    maps = tuple(
        KernelMap(
            case=f"{arm}/{shape}", arm=arm, operator="attention_decode", shape=shape, edges=(),
            entries=tuple(
                MapEntry(load=f"{m}x{length}", m=m, length=length, kernels=call(len(loads) * row + column))
                for column, (m, length) in enumerate(loads)
            ),
        )
        for row, (arm, shape) in enumerate(cases)
    )  # fmt: skip
    messages = (
        "company/flash-attn3-invariant/attention_decode/32x8x128x16x32768,bf16/neighbour_length:first:4096,rotated/eager",
        HOSTILE, "<b>bold</b>&lt;<a href='javascript:alert(1)'>x</a>", "W" * 60, "名" * 60,
    )  # fmt: skip
    time = Spread(count=1, total_ns=9, average_ns=9, median_ns=9, min_ns=9, max_ns=9, deviation_ns=0)
    ranges = tuple(
        RangeSummary(
            domain="kernels_bench", message=message, style="PushPop", ranges=1, range_ns=9, launches=1, kernels=1,
            copies=0, fills=0, busy_ns=10**6 - at, span=time, gaps=1, gap_ns=10**5, longest_gap_ns=10**5, uses=(),
        )
        for at, message in enumerate(messages)
    )  # fmt: skip
    arms = tuple(
        ArmFamilies(
            arm=arm, phase="decode", ranges=1, joined="launch", total_ns=8 * 10**6, other=(HOSTILE,),
            families=tuple(FamilyTime(family=one, kernels=1, time_ns=10**6, share=0.125) for one in FAMILIES),
        )
        for arm in ("baseline", "batch-invariant")
    )  # fmt: skip
    apart = tuple(
        FamilyDifference(
            family=family, arm="batch-invariant", phase="decode", baseline="baseline", difference_ns=nanoseconds
        )
        for family, nanoseconds in (("normalisation", 123_456_789_012), ("attention", -1234))
    )
    told = Told(value=HOSTILE, by="capture.json")
    return Analysis(
        source="Nsight Systems 2025", report=HOSTILE, notes=(), ranges=ranges, kernel_maps=maps, families=arms,
        differences=apart,
        origin=Origin(device=told, created=Told(value="2026-11-22T14:24:05Z", by="run.json"), command=told),
    )  # fmt: skip


ARMS = {"baseline": 0, "batch-invariant": 500}


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = written(tmp_path, h100_report(), "--run", CAPTURED, "--uncaptured", UNCAPTURED)
    assert not re.search(r"<(?:script|img|iframe)[^>]*\ssrc=|<link|@import", page)
    assert page.count("<!doctype html>") == 1


@pytest.fixture(scope="module")
def h100_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("h100")
    return written(place, h100_report(), "--run", CAPTURED, "--uncaptured", UNCAPTURED)


def test_the_page_suits_phones_and_the_night(h100_page: str) -> None:
    assert "<meta name='viewport' content='width=device-width, initial-scale=1'>" in h100_page
    assert "(prefers-color-scheme: dark)" in h100_page.partition("</style>")[0]


@needs_browser
def test_a_run_in_a_browser(tmp_path: Path, h100_page: str) -> None:
    found = seen(tmp_path, h100_page)
    assert found.title.startswith("NVIDIA H100 80GB HBM3 · 2026-11-22 14:24 UTC · python -m kernels_bench --quick ")
    assert found.title.endswith(" · report.sqlite")
    assert found.facts["loaded"] == []
    assert [found.section(one)["plots"] for one in (AGREEMENT, MAPS, WHY, FAMILY, RANGE)] == [2, 2, 0, 0, 1]
    assert found.section(FAMILY)["missing"] == "Needs a report of python -m e2e whose trials ran kernels."
    for plot in found.plots:
        assert plot["drawn"] > 0
        assert plot["smallest"] >= 8
        titles = plot["x"] + plot["y"]
        assert plot["x"]
        assert all(re.search(r"\((µs|ms|%)\)$|^rows M$", one) for one in titles)
    assert [bool(plot["y"]) for plot in found.plots] == [True, True, False, False, False]
    assert found.plots[0]["drawn"] > 50
    assert found.plots[-1]["names"][0] == "kernels_bench:vllm/mm/4096x4096,bf16/2048"
    assert found.facts["hidden"] == [["warm, captured"], None, None, None, ["busy"]]


@needs_browser
@pytest.mark.parametrize("width", [PHONE, 900, 1600])
def test_nothing_is_cut_off_at_any_width(tmp_path: Path, h100_page: str, width: int) -> None:
    found = seen(tmp_path, h100_page, width)
    assert width - 20 <= found.facts["window"] <= width
    assert found.facts["width"] <= found.facts["window"]
    for plot in found.plots:
        assert plot["sticksOut"] <= 0.5
        assert plot["cut"] == []
        assert plot["overlapping"] == 0
    (table,) = found.facts["tables"]
    assert table["columns"] == table["reached"] == 4
    assert table["first"] < 0.5


@needs_browser
@pytest.mark.parametrize("width", [PHONE, 1600])
def test_many_long_names_are_not_cut_off(tmp_path: Path, width: int) -> None:
    found = seen(tmp_path, page(crowded()), width)
    assert found.facts["width"] <= found.facts["window"]
    assert [(plot["cut"], plot["overlapping"]) for plot in found.plots] == [([], 0)] * 3
    assert found.plots[0]["x"][0] == "rows M × length of each"
    assert found.plots[-1]["names"] == [one.text for one in crowded().ranges]
    (table,) = found.facts["tables"]
    assert table["columns"] == table["reached"] == 4
    assert table["numbers"] == ["right tabular-nums"] * 2


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_everything_is_readable_by_day_and_by_night(tmp_path: Path, h100_page: str, dark: bool) -> None:
    found = seen(tmp_path, h100_page, dark=dark)
    ground = found.facts["ground"]
    assert (contrast(ground, "rgb(0, 0, 0)") < 1.5) == dark
    for ink in [*found.facts["inks"], *(ink for plot in found.plots for ink in plot["inks"])]:
        assert contrast(ink, ground) >= 4.5
    for plot in found.plots:
        assert contrast(plot["hover"]["text"], plot["hover"]["ground"]) >= 4.5


@needs_browser
def test_an_engine_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, written(tmp_path, engine_report(tmp_path / "a.sqlite")))
    assert found.section(FAMILY)["plots"] == 1
    assert "--run DIR" in found.section(AGREEMENT)["missing"]
    assert "variant verdict" in found.section(WHY)["missing"]
    assert set(found.plots[0]["x"]) == {"GPU time in all trials (ms)"}
    assert found.plots[0]["names"] == ["baseline, trial", "batch-invariant, trial"]
    assert found.plots[0]["drawn"] == 6  # three families of two arms


@needs_browser
def test_a_report_without_kernels_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, written(tmp_path, write_report(tmp_path / "a.sqlite", [Span("r", 0, 9)], [])))
    assert found.plots == []
    assert all(section["missing"] for section in found.facts["headings"])


@needs_browser
def test_hostile_facts_are_text_not_markup_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, page(crowded()))
    assert found.title == f"{HOSTILE} · 2026-11-22 14:24 UTC · {HOSTILE} · {HOSTILE}"
    assert found.facts["heading"].count(HOSTILE) == 3


@pytest.mark.parametrize("analysis", [Analysis(source="nsys", report="a.sqlite", notes=(), ranges=())])
def test_what_is_unknown_is_said(analysis: Analysis) -> None:
    text = page(analysis)
    assert "<title>a.sqlite</title>" in text
    heading = text.partition("<header>")[2].partition("</header>")[0]
    assert [f"{what} unknown" in heading for what in ("GPU", "date", "command")] == [True] * 3
    assert "GPU, date, command: a run (--run DIR) or the capture.json beside a report would tell" in heading


def test_no_two_kernels_of_a_map_look_alike(h100_page: str) -> None:
    figures = [json.loads(one) for one in re.findall(r"<script type='application/json'>(.*?)</script>", h100_page)]
    maps = [figure["data"] for figure in figures if all("base" in trace for trace in figure["data"])]
    assert [len(traces) for traces in maps] == [11, 2]
    for traces in maps:
        for part in ("color", "pattern"):
            looks = {json.dumps([trace["marker"]["color"], trace["marker"][part]]) for trace in traces}
            assert len(looks) == len(traces)
        assert len({trace["marker"]["color"] for trace in traces}) == len(traces)
    keys = re.findall(r"<ol class='key'>(.*?)</ol>", h100_page)
    shown = [re.findall(r"--colour: (#\w+).*?'>(\w+)</span>", key) for key in keys]
    assert shown == [[(trace["marker"]["color"], trace["name"]) for trace in traces] for traces in maps]


def test_names_from_a_report_are_text_not_markup(tmp_path: Path) -> None:
    span, kernel = "<script>alert(1)</script>", "k<img src=x onerror=alert(2)>"
    spans, launches = [Span(f"trial/{span}/1", 0, 99)], [Launch(1, 2, [(kernel, 3, 9)])]
    page = written(tmp_path, write_report(tmp_path / "a.sqlite", spans, launches, {1: "e2e"}))
    assert span not in page
    assert kernel not in page


def test_without_plotly_the_error_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "plotly.py").write_text("raise ImportError('no plotly')\n")
    report = write_report(tmp_path / "a.sqlite", [Span("r", 0, 9)], [])
    ended = profiles("analyze", report, "--html", tmp_path / "a.html", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert (ended.status, ended.error) == (2, f"--html needs plotly: {pip_install('plotly')}")
    assert not (tmp_path / "a.html").exists()
