"""The page: offline, and looked at in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from profile_reports import CAPTURED, ROOT, UNCAPTURED, Launch, Span, h100_report, profiles, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium in PATH (apt-get install chromium)")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
)  # fmt: skip
LAPTOP = 1366

PROBE = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const text = (plot, css) => [...plot.querySelectorAll(css)].map(node => node.textContent);
  const drawn = ".points path, .point path, .heatmaplayer image, .heatmap-label, .js-line";
  const found = {
    width: document.documentElement.scrollWidth,
    window: window.innerWidth,
    loaded: performance.getEntriesByType("resource").map(entry => entry.name),
    plots: [...document.querySelectorAll(".js-plotly-plot")].map(plot => ({
      width: plot.getBoundingClientRect().width,
      x: text(plot, ".infolayer [class$=xtitle], .infolayer .x2title"),
      y: text(plot, ".infolayer [class$=ytitle], .infolayer .y2title"),
      drawn: plot.querySelectorAll(drawn).length,
      smallest: Math.min(...[...plot.querySelectorAll("text")].map(t => parseFloat(getComputedStyle(t).fontSize))),
      clipped: [...plot.querySelectorAll(".ytick text")].filter(
        t => t.getBoundingClientRect().left < plot.getBoundingClientRect().left - 1).length,
    })),
    headings: [...document.querySelectorAll("section")].map(section => ({
      title: section.querySelector("h2").textContent,
      plots: section.querySelectorAll(".js-plotly-plot").length,
      missing: text(section, ".missing").join(" "),
    })),
  };
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.replaceChildren(out);
}, 1500));
window.addEventListener("error", event => { document.title = "error: " + event.message; });
</script>
"""


@dataclass(frozen=True)
class Seen:
    """What the browser made of a page."""

    title: str
    facts: dict[str, Any]

    def section(self, title: str) -> dict[str, Any]:
        (one,) = [section for section in self.facts["headings"] if section["title"] == title]
        return dict(one)


def written(tmp_path: Path, *arguments: object) -> str:
    ended = profiles("analyze", *arguments, "--html", tmp_path / "page.html")
    assert (ended.status, ended.stderr) == (0, "")
    return (tmp_path / "page.html").read_text()


def seen(tmp_path: Path, page: str) -> Seen:
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("</body>", PROBE + "</body>"))
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'browser'}",
            f"--window-size={LAPTOP},900",
            "--dump-dom",
            probed,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return Seen(title[1] if title else "", json.loads(unescape(found[1])))


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


ARMS = {"baseline": 0, "batch-invariant": 500}


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = written(tmp_path, h100_report(), "--run", CAPTURED, "--uncaptured", UNCAPTURED)
    assert not re.search(r"<(?:script|img|iframe)[^>]*\ssrc=|<link|@import", page)
    assert page.count("<!doctype html>") == 1


@needs_browser
def test_a_run_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, written(tmp_path, h100_report(), "--run", CAPTURED, "--uncaptured", UNCAPTURED))
    assert found.title == "report.sqlite · samebits profiles"
    assert found.facts["loaded"] == []
    assert found.facts["width"] <= found.facts["window"]
    assert found.section("Medians against kernel time")["plots"] == 1
    assert found.section("Kernels by M")["plots"] == 2
    assert found.section("GPU time by range")["plots"] == 1
    family = found.section("GPU time by family")
    assert (family["plots"], family["missing"]) == (0, "Needs a report of python -m e2e whose trials ran kernels.")
    for plot in found.facts["plots"]:
        assert plot["drawn"] > 0
        assert 900 < plot["width"] <= LAPTOP
        assert plot["smallest"] >= 8
        assert plot["clipped"] == 0
        assert plot["x"]
        assert plot["y"]
        titles = plot["x"] + plot["y"]
        assert all(re.search(r"\((µs|ms|%|times length.*)\)|^arm, shape and dtype$|^range$", one) for one in titles)
    assert found.facts["plots"][0]["drawn"] > 100


@needs_browser
def test_an_engine_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, written(tmp_path, engine_report(tmp_path / "a.sqlite")))
    assert found.section("GPU time by family")["plots"] == 1
    assert "--run DIR" in found.section("Medians against kernel time")["missing"]
    assert "variant verdict" in found.section("Why bits changed")["missing"]
    assert set(found.facts["plots"][0]["x"]) == {"GPU time in all trials (ms)"}
    assert found.facts["plots"][0]["drawn"] == 6  # three families of two arms


@needs_browser
def test_a_report_without_kernels_in_a_browser(tmp_path: Path) -> None:
    found = seen(tmp_path, written(tmp_path, write_report(tmp_path / "a.sqlite", [Span("r", 0, 9)], [])))
    assert found.facts["plots"] == []
    assert all(section["missing"] for section in found.facts["headings"])


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
    assert (ended.status, ended.error) == (2, f"--html needs plotly: {sys.executable} -m pip install plotly")
    assert not (tmp_path / "a.html").exists()
