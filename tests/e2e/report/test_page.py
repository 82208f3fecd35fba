"""A run of engines as a page: every needle's answer in every trial, and what it cost; nothing in it can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.records import FORMAT, ArmLost, RunState, read_state
from e2e.report.page import page
from e2e.report.speeds import verdicts
from support import BASELINES
from support.e2e_answers import OTHER_BITS, OTHER_TOKENS, answer, ledger, manifest, trial
from support.pages import Element, assert_inert, opened, parsed
from support.processes import completed

RUNS = sorted(path.parent for path in (BASELINES / "vllm-e2e").glob("*/run.json"))


def drawn(known: RunState, *arms: str, trials: tuple[int, ...] = (0, 1)) -> Element:
    return parsed(page(manifest(*arms, trials=trials), known, "samebits-runs/any"))


def grid(dom: Element, number: int) -> list[list[str]]:
    rows = dom.all("table", cls="needles")[number].all("tbody")[0].all("tr")
    return [[icon.attributes["aria-label"] for icon in row.all("svg", cls="icon")] for row in rows]


def test_of_each_needle_in_each_trial_it_tells_whether_tokens_or_bits_differ() -> None:
    known = ledger(answer(), answer())
    known.trials["baseline"] = [trial(0, OTHER_BITS), trial(1, OTHER_TOKENS)]
    dom = drawn(known, "baseline", "batch-invariant")
    assert grid(dom, 0) == [["the same bits", "other log probabilities", "other tokens"]]
    assert grid(dom, 1) == [["the same bits", "the same bits"]]
    assert dom.all("h1")[0].text.startswith("baseline changed the needles' bits with the batch; ")
    assert "needle 1 differs in trial 2 from step 2 on: token ids part" in dom.text
    assert "--trial 2 " in dom.all("code")[0].text


def test_an_arm_that_is_lost_says_why() -> None:
    known = ledger(OTHER_BITS, answer())
    known.lost["serial"] = ArmLost(arm="serial", status="failed", reason="no memory was left")
    dom = drawn(known, "baseline", "batch-invariant", "serial")
    assert "no memory was left" in dom.text
    assert "serial did not run" in dom.all("h1")[0].text


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_kept_run_is_a_page_that_says_its_verdicts(run: Path) -> None:
    asked, known = FORMAT.read_manifest(run), read_state(FORMAT.read_records(run))
    html = page(asked, known, str(run))
    dom = parsed(html)
    assert_inert(dom)
    rows = [row.all("td")[0].text for row in dom.all("table", cls="arms")[0].all("tbody")[0].all("tr")]
    found = verdicts(known, asked.asked)
    assert rows == [found[arm].verdict for arm in asked.arms]
    assert len(html.encode()) < 1e6


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1) | st.sampled_from(["<script>x()</script>", "\"'><img src=x onerror=x>"]))
def test_any_text_is_text_and_nothing_else(text: str) -> None:
    known = ledger(OTHER_BITS, answer())
    known.lost["serial"] = ArmLost(arm="serial", status="failed", reason=text)
    assert_inert(drawn(known, "baseline", "serial"))


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    path = tmp_path / "page.html"
    done = completed("e2e", "report", RUNS[0], "--html", path)
    assert (done.returncode, done.stderr) == (0, "")
    script = "return [doc.documentElement.scrollWidth, doc.querySelectorAll('.copy[hidden]').length];"
    assert opened(path, script, tmp_path, width) == [width, 0]
