"""A run of engines on one screen: what stands there, that it fits, and that nothing else does."""

from __future__ import annotations

import json
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from e2e.records import FORMAT, ArmLost, RunState, Speeds, read_state
from e2e.report.page import page
from e2e.report.screen import counterexample, price_text, screen_of
from e2e.report.speeds import Price, verdicts
from e2e.report.summary import EngineSummary, summarise
from e2e.report.text import report as report_lines
from e2e.report.verdict import difference
from e2e.workload.trials import STAGGERED
from kernels_bench.console.screen import show_screen
from support import BASELINES
from support.e2e_answers import OTHER_BITS, OTHER_PROMPT, OTHER_TOKENS, WATCHED, answer, ledger, manifest, trial
from support.pages import parsed
from support.processes import completed, environment

STATUS = 1  # of the first of them, where a claim was not kept
RUNS = sorted(
    (path.parent for path in (BASELINES / "vllm-e2e").glob("*/run.json")), key=lambda run: "eager" not in run.name
)


def shown(known: RunState, *arms: str, width: int = 200, trials: tuple[int, ...] = (0,)) -> str:
    asked = manifest(*arms, trials=trials)
    console = Console(file=StringIO(), width=width, force_terminal=False)
    show_screen(screen_of(summarise(asked, known, "samebits-runs/any"), asked, known), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def row(text: str, arm: str) -> list[str]:
    """An arm's cells, which two blanks or more part."""
    table = text.partition("\n\n")[2].splitlines()
    line = next(line for line in table if line.startswith(f"{arm} "))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_answer_comes_first_then_a_row_an_arm() -> None:
    text = shown(ledger(OTHER_BITS, answer()), "baseline", "batch-invariant")
    assert text.splitlines()[0] == (
        "baseline changed the needles' bits with the batch; batch-invariant kept the needles' bits in every batch "
        "(exit status 0)."
    )
    assert row(text, "baseline") == ["baseline", "❌ variant", "1 of 1", "1", "–", "15"]
    assert row(text, "batch-invariant") == ["batch-invariant", "✅ invariant", "0 of 1", "–", "+50%, one trial", "10"]
    assert "report samebits-runs/any --full" in text
    assert "report samebits-runs/any --html page.html" in text


def test_the_first_trial_that_shows_it_is_told_and_the_staggered_one_comes_last() -> None:
    def first(*numbers: int) -> str:
        known = ledger(answer(), answer())
        known.trials["baseline"] = [trial(n, OTHER_BITS if n in numbers else answer()) for n in (0, 1, 2, STAGGERED)]
        return row(shown(known, "baseline", trials=(0, 1, 2, STAGGERED)), "baseline")[3]

    assert [first(STAGGERED, 1, 2), first(2), first(STAGGERED), first()] == ["2", "3", "staggered", "–"]


def test_an_arm_that_claims_to_keep_bits_is_told_of_before_one_that_claims_nothing() -> None:
    both = shown(ledger(OTHER_TOKENS, OTHER_BITS), "baseline", "batch-invariant")
    (told,) = [line for line in both.splitlines() if line.startswith("- ")][:1]
    assert told.startswith("- batch-invariant: needle 1 was given the same tokens in trial 1 as alone")
    assert "--arms batch-invariant --trial 1" in both
    assert "--arms baseline" not in both
    alone = shown(ledger(OTHER_TOKENS, answer()), "baseline", "batch-invariant")
    assert "- baseline: needle 1 was given other tokens in trial 1 than alone" in alone
    assert "--arms baseline --trial 1" in alone


def test_a_counterexample_is_told_in_plain_words() -> None:
    assert counterexample(difference(answer(), OTHER_TOKENS, STAGGERED)) == (
        "needle 1 was given other tokens in the staggered trial than alone, and other bits from token 2 of its answer "
        "on; log probabilities of the same tokens differ by up to 0.25"
    )
    assert counterexample(difference(answer(), OTHER_BITS, None)) == (
        "needle 1 was given the same tokens asked again alone as the first time, with other log probabilities from "
        "token 2 of its answer on, by up to 0.5"
    )
    assert "from token 3 of its prompt on" in counterexample(difference(WATCHED, OTHER_PROMPT, STAGGERED))
    nan = answer(logprobs=(float("nan"), -2.0, -3.0))
    assert counterexample(difference(answer(), nan, 0)).endswith("from token 1 of its answer on, of which one is NaN")


def test_what_could_not_be_measured_says_why() -> None:
    known = ledger(OTHER_BITS, answer())
    known.lost["serial"] = ArmLost(arm="serial", status="failed", reason="no memory was left")
    known.lost["batch-invariant"] = ArmLost(arm="batch-invariant", status="failed", reason="in trial 2: it died")
    text = shown(known, "baseline", "batch-invariant", "serial", trials=(0, 1))
    assert row(text, "serial")[:3] == ["serial", "❗ failed", "–"]
    assert "- serial failed: no memory was left" in text
    assert "- batch-invariant inconclusive: 1 of its 2 trials were not run; go on with --resume" in text
    assert "- batch-invariant then failed: in trial 2: it died" in text
    assert "--resume samebits-runs/any" in text
    assert "(exit status 3)." in text


@given(*[st.floats(-90, 1e4)] * 3)
def test_a_price_is_an_interval_or_nobody_knows_it(a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    told = price_text(Price(share=middle, low=low, high=high))
    assert (told == "inconclusive") == (low <= 0 <= high)
    if low > 10:
        assert told == f"+{low:.0f}% to +{high:.0f}%"
    assert price_text(None) == "–"


def test_a_price_that_nobody_knows_is_among_what_was_not_measured() -> None:
    known = ledger(OTHER_BITS, answer())
    known.take(trial(1, answer(), arm="batch-invariant", seconds=2.5, tokens=30, batch_size=10))
    text = shown(known, "baseline", "batch-invariant", trials=(0, 1))
    assert "inconclusive" in row(text, "batch-invariant")
    assert "- what batch-invariant costs: a trial takes -57% to +336% more time, which spans zero; " in text


@pytest.mark.parametrize(
    ("device", "slowest", "told"), [("cuda", 8.0, True), ("cuda", 5.0, False), ("cpu", 8.0, False)]
)
def test_trials_that_are_uneven_on_a_gpu_wait_for_its_host(device: str, slowest: float, told: bool) -> None:
    known = ledger(OTHER_BITS, answer())
    known.trials["baseline"][1] = trial(1, OTHER_BITS, speeds=Speeds(first_token_ms=10.0, output_token_ms=slowest))
    asked = manifest("baseline", "batch-invariant", trials=(0, 1))
    asked = asked.model_copy(update={"device": asked.device.model_copy(update={"type": device})})
    said = screen_of(summarise(asked, known, "any"), asked, known).unmeasured
    busy = [one.text for one in said if "busy host" in one.text]
    assert bool(busy) is told
    if told:
        assert busy[0].startswith("baseline: a token of an answer took 4 to 8 ms, by trial, as where steps wait")


def on_a_gpu() -> RunState:
    """Trials of which the GPU's time is known: the baseline's 0.5 s, the other's 0.6 s, in three of them."""
    known = ledger(OTHER_BITS, answer())
    for arm, seconds in (("baseline", 0.5), ("batch-invariant", 0.6)):
        known.trials[arm] = [  # type: ignore[index]
            trial(n, OTHER_BITS if arm == "baseline" else answer(), arm=arm, gpu_s=seconds + n / 1000) for n in range(3)
        ]
    return known


def test_the_gpus_time_stands_beside_the_time_that_was_waited_where_it_was_recorded() -> None:
    arms, trials = ("baseline", "batch-invariant"), (0, 1, 2)
    text = shown(on_a_gpu(), *arms, trials=trials)
    assert row(text, "baseline")[-2:] == ["0.501 s", "–"]
    assert row(text, "batch-invariant")[-2:] == ["0.601 s", "+20% to +20%"]
    full = "\n".join(report_lines(manifest(*arms, trials=trials), on_a_gpu(), "d"))
    assert "  Baseline:         0.501s\n  Batch Invariant:  0.601s\n  Overhead:         +19.96%" in full
    cells = parsed(page(manifest(*arms, trials=trials), on_a_gpu(), "d")).all("table", cls="arms")[0].text
    assert "GPU time, s its price" in cells
    assert "0.601 +20% to +20%" in cells


def test_a_gpus_time_that_was_not_recorded_of_every_trial_is_not_told() -> None:
    known = on_a_gpu()
    known.trials["baseline"] = [one.model_copy(update={"gpu_s": None}) for one in known.trials["baseline"]]
    arms, trials = ("baseline", "batch-invariant"), (0, 1, 2)
    assert row(shown(known, *arms, trials=trials), "baseline")[-2:] == ["–", "–"]
    assert row(shown(known, *arms, trials=trials), "batch-invariant")[-1] == "–"
    none = ledger(OTHER_BITS, answer())
    assert "GPU" not in shown(none, *arms)
    assert "GPU" not in "\n".join(report_lines(manifest(*arms), none, "d"))
    assert "GPU" not in page(manifest(*arms), none, "d")


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_nothing_but_commands_and_names_is_wider_than_the_console_and_no_number_is_torn(run: Path, width: int) -> None:
    asked, known = FORMAT.read_manifest(run), read_state(FORMAT.read_records(run))
    summary = summarise(asked, known, "samebits-runs/any")
    console, wide = (Console(file=StringIO(), width=columns, force_terminal=False) for columns in (width, 1000))
    for one in (console, wide):
        show_screen(screen_of(summary, asked, known), one)
    assert isinstance(console.file, StringIO)
    assert isinstance(wide.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if cell_len(line) > width and "python -m" not in line] == []
    if width >= 80:
        assert len(lines) <= 40
    found = verdicts(known, asked.asked)
    for arm in asked.arms:
        cells = row(wide.file.getvalue(), arm)
        assert cells[1].endswith(found[arm].verdict)
        rows = [line for line in lines if line.startswith(f"{arm} ")]
        for cell in cells[1:]:
            assert any(cell in line for line in rows)


def report(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return completed("e2e", "report", RUNS[0], *words, env=environment(**variables))


def test_where_there_is_no_terminal_there_are_no_colours_and_the_long_form_is_one_option_away() -> None:
    screen, full = report(), report("--full")
    assert "\x1b" not in screen.stdout + full.stdout
    assert (screen.returncode, screen.stderr) == (full.returncode, full.stderr) == (STATUS, "")
    for label in ("COMPARISON: Batch Invariance vs Baseline", "Throughput (tokens/s):", "SUMMARY"):
        assert label in full.stdout
        assert label not in screen.stdout


def test_the_summary_for_programs_is_what_the_screen_says(tmp_path: Path) -> None:
    done = report("--json", tmp_path / "summary.json")
    told = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    read = EngineSummary.model_validate(told)
    asked, known = FORMAT.read_manifest(RUNS[0]), read_state(FORMAT.read_records(RUNS[0]))
    assert read == summarise(asked, known, str(RUNS[0]))
    assert done.stdout.splitlines()[0] == told["outcome"]
    assert {"init_time", "avg_time", "throughput", "prompts_per_sec"} <= told["arms"][0]["speed"].keys()
    printed = report("--json", "-")
    assert json.loads(printed.stdout) == told
    both = report("--json", "-", "--html", "-")
    assert (both.returncode, both.stdout) == (2, "")
