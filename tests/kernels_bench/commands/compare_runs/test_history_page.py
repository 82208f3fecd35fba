"""Many runs as a page: which case changed when, what it took in each run; nothing in it can run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.commands.compare_runs.comparison import RunComparison, VerdictChange
from kernels_bench.commands.compare_runs.history import ArmThen, CaseThen, Entry
from kernels_bench.commands.compare_runs.history_page import FEW, history_page
from kernels_bench.timing.change import CaseChange, Scatter
from support import BASELINES
from support.pages import Element, assert_inert, opened, parsed
from support.processes import kernels_bench

KEPT = BASELINES / "h100-80gb-hbm3-attention"
KEY = "mm/4096x4096/bf16"


def since(**changes: Any) -> RunComparison:
    nothing: dict[str, Any] = {
        "environment": (), "selection": (), "verified": (2, 0, 0), "verdicts": (), "missing": (), "digests": (9, 9),
        "other_data": 0, "other_bits": (), "warm": (), "cold": (), "broken": (), "apart": (), "speeds": (),
        "scatter": Scatter(drift=0.0, timings=0.0, cases=0.0, shows=None),
    }  # fmt: skip
    return RunComparison(**(nothing | changes))


def entry(number: int, found: RunComparison | None, us: dict[str, dict[str, float]], key: str = KEY) -> Entry:
    return Entry(
        directory=f"runs/{number}",
        created=f"2026-01-0{number}T00:00:00Z",
        device="NVIDIA H100",
        arms={arm: ArmThen(kept=1, examined=1, speed=None) for arm in us},
        cases={f"{arm}/{key}": CaseThen(verdict="sampled", warm_us=medians) for arm, medians in us.items()},
        since=found,
    )


def three(key: str = KEY) -> list[Entry]:
    """Torch becomes slow in the second run, and samebits has other bits in the third, at another M."""
    slow = CaseChange(key=f"torch/{key}", moved="slow", share=1.0, error=0.01)
    both = {"1": 4.0, "16": 16.0}
    return [
        entry(1, None, {"torch": both, "samebits": both}, key),
        entry(2, since(speeds=(slow,)), {"torch": {"1": 8.0, "16": 32.0}, "samebits": both}, key),
        entry(3, since(other_bits=(f"samebits/{key} M=16",)), {"torch": both | {"64": 1e3}, "samebits": both}, key),
    ]


def cells(dom: Element, case: int = 0) -> dict[str, list[str]]:
    """What each arm's cells say of each run."""
    rows = dom.all("table", cls="needles")[case].all("tbody")[0].all("tr")
    return {row.all("th")[0].text: [cell.text for cell in row.all("td")] for row in rows}


def test_where_bits_and_speed_changed_stands_in_the_run_that_changed_them() -> None:
    dom = parsed(history_page(three()))
    assert_inert(dom)
    assert dom.all("h1")[0].text == "Over 3 runs there changed bits in 1 and speed for the worse in 1 of 1 case."
    assert cells(dom) == {"torch": ["", "slower", ""], "samebits": ["", "", "other bits"]}
    assert "torch/mm/4096x4096/bf16: slow +100.0%" in dom.text


def test_a_verdict_that_changed_is_told() -> None:
    worse = VerdictChange(key=f"torch/{KEY}", first="sampled", second="variant", worse=True)
    first, second, _ = three()
    dom = parsed(history_page([first, second.model_copy(update={"since": since(verdicts=(worse,))})]))
    assert dom.all("h1")[0].text == "Over 2 runs there changed a verdict in 1 of 1 case."
    assert cells(dom)["torch"] == ["", "another verdict"]


def test_times_are_means_over_the_loads_that_every_run_has_and_twice_as_long_is_as_far_in_every_place() -> None:
    """4 and 16 us are 8 us in the mean, 8 and 32 are 16; the M that the third run alone has is left out."""
    (figure,) = parsed(history_page(three())).all("figure")
    assert figure.all("figcaption")[0].text == "µs a call over runs, M=1, 16"
    lines = {path.attributes["d"] for path in figure.all("path", cls="line")}
    places = [[float(place.split()[1]) for place in d[1:].split("L")] for d in sorted(lines, key=len)]
    (torch,) = [line for line in places if len(set(line)) > 1]
    assert torch[0] == torch[2] > torch[1]
    (samebits,) = [line for line in places if len(set(line)) == 1]
    assert samebits[0] == torch[0]
    assert [text.text for text in figure.all("g", cls="middle")[0].all("text")] == ["1", "2", "3", "run"]


def test_without_two_runs_there_is_nothing_to_draw_or_to_compare() -> None:
    dom = parsed(history_page(three()[:1]))
    assert dom.all("h1")[0].text == "One run, and nothing to compare it with."
    assert not dom.all("figure")
    nothing = parsed(history_page([three()[0], three()[0].model_copy(update={"since": since()})]))
    assert nothing.all("h1")[0].text == "Over 2 runs nothing changed of 1 case."
    assert nothing.all("h1")[0].attributes["class"] == "good"


def test_of_many_cases_those_that_changed_are_open() -> None:
    first, second, _ = three()
    many = {f"torch/mm/{n}x1/bf16": CaseThen(verdict="sampled", warm_us={}) for n in range(2 * FEW)}
    runs = [one.model_copy(update={"cases": many | one.cases}) for one in (first, second)]
    found = parsed(history_page(runs)).all("details", cls="case")
    shown = [case.all("b")[0].text for case in found if "open" in case.attributes]
    assert len(shown) == FEW
    assert KEY in shown


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1) | st.sampled_from(["<script>x()</script>", "\"'><img src=x onerror=x>"]))
def test_any_text_is_text_and_nothing_else(text: str) -> None:
    runs = [one.model_copy(update={"directory": text, "device": text}) for one in three(f"{text}/4096x4096/bf16")]
    assert_inert(parsed(history_page(runs)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs, written by the command."""
    place = tmp_path_factory.mktemp("history")
    shutil.copytree(KEPT, place / "again")
    manifest = json.loads((place / "again" / "run.json").read_text())
    (place / "again" / "run.json").write_text(json.dumps(manifest | {"created": "2099-01-01T00:00:00Z"}))
    done = kernels_bench("history", place / "again", KEPT, "--html", place / "page.html")
    assert (done.status, done.err) == (0, "")
    return place / "page.html"


def test_two_equal_runs_make_a_small_page_on_which_nothing_changed(page: Path) -> None:
    dom = parsed(page.read_text())
    assert_inert(dom)
    assert dom.all("h1")[0].text.startswith("Over 2 runs nothing changed of ")
    assert dom.all("figure")
    assert page.stat().st_size < 1e6


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1600, False)])
def test_a_browser_shows_it_within_the_window_and_the_keyboard_reaches_all(
    page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    script = """
      const summaries = [...doc.querySelectorAll('summary')], scrolls = [...doc.querySelectorAll('.scroll')];
      for (const one of doc.querySelectorAll('details')) one.open = true;
      return [doc.documentElement.scrollWidth,
        summaries.length > 3 && [...summaries, ...scrolls].every(one => one.tabIndex === 0),
        view.getComputedStyle(doc.body).backgroundColor];
    """
    ground = "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    assert opened(page, script, tmp_path, width, dark) == [width, True, ground]
