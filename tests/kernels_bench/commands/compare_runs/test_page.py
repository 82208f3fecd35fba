"""Two runs beside each other, as a page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.commands.compare_runs.comparison import RunComparison, TimingChange, VerdictChange
from kernels_bench.commands.compare_runs.gate import USUALLY, Judgement, answer, judgement, read_gate
from kernels_bench.commands.compare_runs.page import MOST_CHANGES, compare_page
from kernels_bench.commands.published import published_schema
from kernels_bench.report.html.scatter import HEIGHT, WIDTH, Change, scatter
from kernels_bench.timing.change import CaseChange, Scatter
from profiles.run_files.strict_json import strict_json
from support import BASELINES
from support.pages import Element, assert_inert, opened, parsed
from support.processes import completed, kernels_bench

GATE = read_gate(USUALLY)
RUN = BASELINES / "h100-80gb-hbm3-attention"


def found(key: str = "torch/mm/4096x4096/bf16", count: int = 20) -> RunComparison:
    """A verdict for the worse, an output with other bits, and timings of which most are slower than the gate allows."""
    changes = tuple(
        TimingChange(key=f"{key}/{n}", state="warm", first_us=10.0, second_us=10.0 + n) for n in range(count)
    )
    return RunComparison(
        environment=("torch: 2.11.0 then, 2.12.0 now",),
        selection=(),
        verified=(9, 1, 0),
        verdicts=(VerdictChange(key=key, first="sampled", second="variant", worse=True),),
        missing=(f"{key}: sampled, then not verified",),
        digests=(12, 11),
        other_data=3,
        other_bits=(f"{key} M=16",),
        warm=changes,
        cold=(),
        broken=(),
        apart=(),
        speeds=tuple(
            CaseChange(key=f"{key}/{n}", moved="slow" if n else "same", share=n / 10, error=0.01) for n in range(count)
        ),
        scatter=Scatter(drift=0.0, timings=0.002, cases=0.002, shows=0.03),
    )


def drawn(one: RunComparison) -> Element:
    return parsed(compare_page(one, GATE, Path("runs/old"), Path("runs/new")))


def test_it_says_what_the_gate_says_and_what_differs() -> None:
    dom = drawn(found())
    assert_inert(dom)
    assert dom.all("h1")[0].text == answer(found(), GATE)
    assert dom.all("h1")[0].attributes["class"] == "bad"
    for text in (
        "9 verified in both runs, 1 in the first alone",
        "11 of 12 digested outputs",
        "not compared: 3, whose rows are others, or may be",
        "bf16 M=16",
        "2.12.0 now",
    ):
        assert text in dom.text
    assert [row.text for row in dom.all("tbody")[0].all("tr")] == ["torch/mm/4096x4096/bf16 kept variant worse"]


def test_every_case_that_became_slow_is_there_the_slowest_first() -> None:
    dom = drawn(found())
    tables = dom.all("tbody")
    slow = [row.all("td")[-1].text for table in tables[1:3] for row in table.all("tr")]
    assert slow == [f"+{10 * n}.0%" for n in range(19, 0, -1)]
    assert "19 slow" in dom.text
    assert len(tables[1].all("tr")) == MOST_CHANGES


def test_two_runs_that_agree_are_a_good_answer() -> None:
    same = found(count=0).model_copy(update={"verdicts": (), "missing": (), "other_bits": ()})
    dom = drawn(same)
    assert dom.all("h1")[0].attributes["class"] == "good"
    assert not dom.all("svg", cls="plot")


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1) | st.sampled_from(["<script>x()</script>", "\"'><img src=x onerror=x>"]))
def test_any_name_is_text_and_nothing_else(name: str) -> None:
    assert_inert(drawn(found(name, 3)))


@given(st.lists(st.builds(Change, us=st.floats(0.01, 1e7), share=st.floats(-0.99, 1e4)), min_size=1, max_size=50))
def test_every_timing_is_in_the_picture_a_dot_or_at_its_edge_a_ring(changes: list[Change]) -> None:
    svg = ElementTree.fromstring(scatter("told", changes, 0.25))
    (dots,) = [one.get("d") or "" for one in svg.iter("path") if one.get("class") == "dots"]
    places = [(float(x), float(y)) for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h0", dots)]
    places += [(float(one.get("cx") or -1), float(one.get("cy") or -1)) for one in svg.iter("circle")]
    assert len(places) == len(changes)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


@pytest.mark.parametrize("width", [400, 1600])
def test_the_command_writes_a_page_that_fits_the_window(tmp_path: Path, width: int) -> None:
    path = tmp_path / "page.html"
    done = completed("kernels_bench", "compare", RUN, copytree(RUN, tmp_path / "again"), "--html", path)
    assert (done.returncode, done.stderr) == (0, "")
    script = "return [doc.documentElement.scrollWidth, doc.querySelectorAll('.plot').length];"
    assert opened(path, script, tmp_path, width) == [width, 2]


def test_what_is_written_for_programs_is_what_is_said_and_what_the_schema_has(tmp_path: Path) -> None:
    """Strict JSON, also of what is no number."""
    nothing = CaseChange(key="torch/mm/1x1/bf16", moved="unsure", share=float("nan"), error=float("inf"), reason="few")
    one = found().model_copy(update={"speeds": (nothing,)})
    told = json.loads(strict_json(judgement(one, GATE, Path("a"), Path("b"))), parse_constant=pytest.fail)
    assert told["found"]["speeds"][0]["share"] == "NaN"
    assert Judgement.model_validate(told).found.speeds[0].error == float("inf")
    words = ("compare", RUN, copytree(RUN, tmp_path / "again"), "--fail-on", "bits,verdict-worse", "--json")
    done = kernels_bench(*words, tmp_path / "found.json")
    assert (done.status, done.err) == (0, "")
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    read = Judgement.model_validate(written)
    assert done.out.splitlines()[-1] == f"in short: {read.outcome}"
    assert (read.exit_status, read.failures, read.unjudged, read.first) == (0, (), (), str(RUN))
    assert read.fail_on.kinds == ("bits", "verdict-worse")
    assert written.keys() == published_schema()["comparison"]["properties"].keys()
    alone = kernels_bench(*words, "-")
    assert json.loads(alone.out) == written
