"""How a run's summary looks: on a terminal, in a pipe, on GitHub and as JSON."""

import json
import math
import re
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any, Literal, NoReturn
from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from kernels_bench.console.printing import NOTHING
from kernels_bench.records.results import AnyRecord, RelationResult, Timing, Verification
from kernels_bench.report.markdown import markdown
from kernels_bench.report.sentences import WORDS, outcome, ratio_text, sentences
from kernels_bench.report.summary.schema import SIGNS, ArmFact, RunSummary, Verdict
from kernels_bench.report.summary.summarise import summarise_run
from kernels_bench.report.terminal.render import Shown, render
from profiles.run_files.strict_json import strict_json
from support import ROOT
from support.records import (
    CEILING,
    HIDDEN,
    O_PROJ,
    QKV_PROJ,
    broken,
    case,
    company,
    counterexample,
    ended,
    facts,
    held,
    measured,
    timed,
    verified,
)
from support.summaries import other_orders, same_order

# µs at M = 1, 16, 256, 2048: an H100's, N = K = 4096.
TIMES = {
    "torch": (11.3, 9.4, 16.6, 90.0),
    "cublas-restricted": (13.0, 11.0, 16.9, 91.0),
    "vllm": (63.7, 60.4, 30.1, 110.0),
    "samebits": (12.0, 9.9, 20.0, 101.0),
}
SIZES = (1, 16, 256, 2048)


def gemm_records() -> list[AnyRecord]:
    """Four arms in three cases: torch variant, cublas-restricted variant once, the others not."""
    records: list[AnyRecord] = [CEILING]
    for shape, dtype in ((O_PROJ, "bf16"), (QKV_PROJ, "bf16"), (O_PROJ, "fp16")):
        for arm, times in TIMES.items():
            of = case(arm, "mm", shape, dtype)
            variant = arm == "torch" or (arm == "cublas-restricted" and shape is QKV_PROJ)
            relations = [held(), broken(5) if variant else held("batch_size")]
            tail = "torch's own" if arm == "torch" else ""
            digests = {m: f"{shape.token}{dtype}{m}{tail if m < 256 else ''}" for m in SIZES}
            records.append(verified(of, *relations, digests=digests))
            records += [timed(of, m, us) for m, us in zip(SIZES, times, strict=True)]
    return records


def norm_records() -> list[AnyRecord]:
    """A norm that one arm lacks, that fails in another, and whose timings were disturbed."""
    norm = [case(arm, "rms_norm", HIDDEN) for arm in TIMES]
    torch, cublas, vllm, samebits = norm
    disturbed = measured(3.0, ["median known to ±7.5 % only: close other programs and run again"])
    graph = RelationResult(relation="graph", status="unsupported", reason="needs a CUDA device")
    return [
        verified(torch, held(), broken(7, "position", company=company(7, "shuffle:7:1"), reference=company(7))),
        ended(cublas, "unsupported", "the arm has no rms_norm"),
        verified(vllm, held(), graph),
        ended(samebits, "failed", "the worker of samebits was killed by SIGSEGV"),
        timed(torch, 16, 3.0, throttle_reasons=("sw_power_cap",)),
        timed(vllm, 16, 4.0, warm=disturbed),
        Timing(case=samebits, m=16, status="skipped", reason="the worker of samebits was killed by SIGSEGV"),
    ]


def a_run(**changes: Any) -> RunSummary:
    return summarise_run([*gemm_records(), *norm_records()], facts(**changes))


FULL = Shown(full=True)


def shown(summary: RunSummary, width: int = 80, terminal: bool = False, what: Shown = FULL) -> str:
    colours: Literal["standard", "auto"] = "standard" if terminal else "auto"
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=colours)
    render(summary, console, what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def is_command(line: str) -> bool:
    return line.lstrip().startswith("python -m kernels_bench")


@pytest.mark.parametrize("width", [80, 120])
class TestRendered:
    def test_nothing_but_commands_is_wider_than_the_console(self, width: int) -> None:
        lines = shown(a_run(), width).splitlines()
        assert [line for line in lines if cell_len(line) > width and not is_command(line)] == []
        assert [line for line in lines if line != line.rstrip()] == []

    def test_the_table_says_it_all(self, width: int) -> None:
        text = shown(a_run(), width)
        row = next(line for line in text.splitlines() if re.match(r"vllm +✅ kept 3/3", line))
        assert row.split()[4:10] == ["0.33×", "0.18×", "0.16×", "0.55×", "0.82×", "0.33×"]
        head = next(line for line in text.splitlines() if line.startswith("arm "))
        assert re.split(r"\s+", head)[:9] == [
            "arm", "(cases)", "torch", "M=1", "M=16", "M=256", "M=2048", "cold", "ceiling"
        ]  # fmt: skip
        assert re.search(r"^cublas-restricted +❌ variant 1/3 +0.92×", text, re.MULTILINE)
        assert re.search(r"^torch +❌ variant 3/3 +1×", text, re.MULTILINE)
        assert "…" not in text  # rich's mark of what it cut off

    def test_columns_are_aligned(self, width: int) -> None:
        lines = shown(a_run(), width).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("arm "))
        # The speed at M=2048 is the fifth of a row; a sign takes two columns.
        values = [list(re.finditer("×", line))[4].end() for line in lines[start + 2 : start + 6]]
        ends = [cell_len(line[:end]) for line, end in zip(lines[start + 2 : start + 6], values, strict=True)]
        ends.append(lines[start].index("M=2048") + 6)
        assert len(set(ends)) == 1

    def test_every_finding_has_its_command_unbroken(self, width: int) -> None:
        lines = shown(a_run(), width).splitlines()
        assert sum(line.strip() == counterexample(5).command for line in lines) == 2
        assert sum(line.strip() == counterexample(7, "position").command for line in lines) == 1
        rerun = "python -m kernels_bench --op rms_norm --arm samebits --shapes 4096 --dtype bf16"
        assert sum(line.strip() == rerun for line in lines) == 1

    def test_sentences_warnings_and_whereabouts(self, width: int) -> None:
        text = " ".join(shown(a_run(), width).split())
        for part in (
            "vllm and samebits kept their bits in 3 of 3 cases; they run at 0.33× and 0.90× of torch",
            "torch, which claims nothing, changed bits with the batch in 3 of 3 cases.",
            "cublas-restricted claims batch invariance, yet changed bits with the batch in 1 of 3 cases",
            "cublas-restricted unsupported: the arm has no rms_norm",
            "batch_size: row 0 differs at M=5 vs M=4096: 3,986 elements, the first by 1 ulp, at most by 2",
            "position: row 0 differs at M=7 (shuffle:7:1) vs M=7",
            "median known to ±7.5 % only: close other programs and run again",
            "the clock was held down by sw_power_cap",
            "relation graph could not be examined: needs a CUDA device",
            "cublas-restricted claims batch invariance and did not keep it",
            "(exit status 1)",
            "NVIDIA H100 80GB HBM3 (SM90) · driver 580.95.05 · torch 2.11.0",
            "copy 3000 GB/s; matrix product bf16 700 TFLOP/s",
            "samebits-runs/2026-01-31-120000 (3 min 32 s)",
        ):
            assert part in text

    def test_plain_unless_a_terminal(self, width: int) -> None:
        assert "\x1b" not in shown(a_run(), width)
        coloured = shown(a_run(), width, terminal=True)
        assert "\x1b[32m✅ kept 3/3" in coloured  # green
        assert "\x1b[33m❌ variant 3/3" in coloured  # yellow: torch claims nothing
        assert "\x1b[1;31m❌ variant 1/3" in coloured  # bold red: a broken promise
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(a_run(), width)


def test_the_terminal_and_the_documentation_share_one_vocabulary() -> None:
    """Sign and word together, in tables, in their legend and in the documentation's; each sign two columns wide."""
    texts = {"terminal": shown(a_run(), 120), "markdown": markdown(a_run())}
    seen = {verdict for arm in a_run().arms for verdict in arm.verdicts if verdict in SIGNS}
    assert len(seen) >= 3
    for verdict in seen:
        for text in texts.values():
            word = WORDS.get(verdict, verdict)
            assert re.search(rf"{SIGNS[verdict]} {word}: ", text)
            assert not re.search(rf"^(?!.*{SIGNS[verdict]}).*{word} \d+/\d+", text, re.MULTILINE)
    page = " ".join((ROOT / "docs" / "results.md").read_text().split())
    told: tuple[Verdict, ...] = ("sampled", "variant", "wrong", "failed", "inconclusive")
    for verdict in told:
        assert f"{SIGNS[verdict]} `{WORDS.get(verdict, verdict)}`: " in page
    assert {cell_len(sign) for sign in SIGNS.values()} == {2}
    assert {east_asian_width(sign) for sign in SIGNS.values()} == {"W"}


def test_same_bits_stand_in_the_table_where_there_is_room() -> None:
    wide, narrow = shown(a_run(), 160), shown(a_run(), 80)
    assert re.search(r"^vllm .* cublas-restricted, samebits; torch at M=256, 2048$", wide, re.MULTILINE)
    assert "has the same bits" not in wide
    assert "cublas-restricted has the same bits as vllm, samebits; torch at M=256, 2048\n" in narrow
    # Said of cublas-restricted, and so of them.
    assert "vllm has the same bits" not in narrow
    assert "samebits has the same bits" not in narrow


def test_what_has_no_room_in_the_table_is_told_below_it() -> None:
    """The orders of addition too, once the arms with the same bits are."""
    read = {"torch": other_orders(), "cublas-restricted": same_order(), "vllm": same_order()}
    records = [
        record.model_copy(update={"order": read.get(record.case.arm)}) if isinstance(record, Verification) else record
        for record in gemm_records()
    ]
    wide, middle, narrow = (shown(summarise_run(records, facts()), width) for width in (160, 100, 80))
    row = r"^torch +❌ variant 3/3 +differs 3/3 +1× "
    assert re.search(row, wide, re.MULTILINE)
    assert re.search(row, middle, re.MULTILINE)
    assert "has the same bits as" not in wide
    assert "has the same bits as" in middle
    assert "order of addition: torch differs 3/3;" not in wide + middle
    assert re.search(r"^torch +❌ variant 3/3 +1× ", narrow, re.MULTILINE)
    told = " ".join(narrow.split())
    assert "order of addition: torch differs 3/3; cublas-restricted same 3/3; vllm same 3/3; samebits –" in told
    for width, text in ((160, wide), (100, middle), (80, narrow)):
        assert max(cell_len(line) for line in text.splitlines() if not is_command(line)) <= width


def test_a_table_wider_than_the_console_is_not_cut() -> None:
    name = "a-plugin-whose-name-is-rather-long"
    records: list[AnyRecord] = [verified(case(arm)) for arm in ("torch", name)]
    records += [timed(case(arm), 2048, 10.0) for arm in ("torch", name)]
    text = shown(summarise_run(records, facts()), 40)
    assert re.search(rf"^{name} ✅ kept 1/1 1.00× +1.00× 1.00× +{NOTHING}$", text, re.MULTILINE)


def test_what_was_not_measured_is_a_dash_and_never_a_zero() -> None:
    records: list[AnyRecord] = [verified(case(arm), digests={1: arm}) for arm in ("torch", "vllm")]
    text = shown(summarise_run([*records, timed(case("torch"), 1, 10.0)], facts()))
    row = re.search(r"^vllm +✅ kept 1/1 +(.*)$", text, re.MULTILINE)
    assert row is not None
    assert row[1].split() == [NOTHING] * 5  # vs torch, M=1, cold, ceiling, same bits as


def test_an_m_that_one_arm_lacks_is_a_dash() -> None:
    times = [timed(case(arm), 1, 10.0) for arm in ("torch", "vllm")]
    text = shown(summarise_run([*times, timed(case("torch"), 16, 10.0)], facts()))
    assert re.search(rf"^vllm +{NOTHING} +1.00× +1.00× +{NOTHING} +1.00× ", text, re.MULTILINE)


@given(st.integers(40, 140))
def test_names_are_never_broken_over_lines(width: int) -> None:
    text = shown(a_run(), width)
    for name in ("(qwen3-8b/qkv_proj", "samebits-runs/2026-01-31-120000", "cublas-restricted"):
        assert name in text
    assert not re.search(r"(qwen3|cublas|samebits)-$", text, re.MULTILINE)


def test_a_console_that_knows_ascii_only_gets_ascii() -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii", write_through=True)
    render(a_run(), Console(file=file, width=80), Shown(full=True))
    text = raw.getvalue().decode("ascii")
    assert "?" not in text
    assert "0.33x" in text
    assert re.search(r"^vllm +kept 3/3 ", text, re.MULTILINE)
    assert re.search(r"^kept: a row had the same bits in every batch tried", text, re.MULTILINE)
    assert "-----" in text


def test_text_of_others_is_not_taken_for_markup() -> None:
    records = [verified(case("vllm"), wrong="[bold]index [/] out of [red]range")]
    assert "[bold]index [/] out of [red]range" in shown(summarise_run(records, facts()), 200, terminal=True)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, NOTHING), (1.0, "1.00×"), (0.594, "0.59×"), (0.0312, "0.031×"), (0.0996, "0.10×"),
        (9.994, "9.99×"), (9.996, "10.0×"), (12.34, "12.3×"), (123.4, "123×"),
    ],
)  # fmt: skip
def test_ratios_are_short(ratio: float | None, text: str) -> None:
    assert ratio_text(ratio) == text


@given(st.floats(min_value=1e-3, max_value=999.4))
def test_a_ratio_keeps_its_value_and_its_width(ratio: float) -> None:
    text = ratio_text(ratio)
    assert len(text) <= 6
    assert float(text[:-1]) == pytest.approx(ratio, rel=0.051, abs=0.0006)


class TestOutcome:
    def test_of_a_run_that_kept_every_promise(self) -> None:
        summary = summarise_run([verified(case("torch"), broken()), verified(case("vllm"))], facts())
        assert outcome(summary) == "every arm that claims batch invariance kept it: vllm (exit status 0)."

    def test_of_a_run_with_failures(self) -> None:
        summary = summarise_run([ended(case("samebits"), "failed"), verified(case("vllm"))], facts())
        assert outcome(summary) == ("vllm kept batch invariance; failed: 1 measurement of samebits (exit status 3).")

    def test_what_is_lacking_is_named_in_it_since_it_may_stand_alone(self) -> None:
        """First on a screen, in a page's heading, in a step's summary: nothing stands above it."""
        records = [verified(case("vllm")), verified(case("mine", "mm"), held("repeat"))]
        records += [ended(case(arm, "mm", shape), "failed") for arm, shape in (("samebits", HIDDEN), ("other", HIDDEN))]
        records += [ended(case("samebits", "mm", O_PROJ), "failed"), ended(case("other", "mm", O_PROJ), "skipped")]
        told = outcome(
            summarise_run(
                records,
                facts(
                    arms=[
                        ArmFact(name=name, claims=("graph",) if name == "mine" else True)
                        for name in ("vllm", "mine", "samebits", "other")
                    ]
                ),
            )
        )
        assert told == (
            "vllm kept batch invariance; failed: 2 measurements of samebits and 1 of other; "
            "skipped: 1 measurement of other; claims that stay open: 1 case of mine (exit status 3)."
        )

    def test_of_a_wrong_kernel_and_of_an_unfinished_run(self) -> None:
        summary = summarise_run([verified(case("torch"), wrong="no")], facts(missing=7))
        assert outcome(summary) == "torch gave wrong results; the run is not complete (exit status 1)."
        again = "    python -m kernels_bench --resume samebits-runs/2026-01-31-120000"
        assert f"missing   7 measurements; go on with\n{again}\n" in shown(summary)

    def test_of_a_run_that_proves_nothing(self) -> None:
        only_torch = summarise_run([verified(case("torch"))], facts())
        assert outcome(only_torch) == "no arm claims batch invariance (exit status 0)."


def test_sentences_say_when_there_is_nothing_to_compare_with() -> None:
    summary = summarise_run([verified(case("vllm")), timed(case("vllm"), 1, 1.0)], facts())
    assert sentences(summary.arms, "torch") == [
        "vllm kept its bits in 1 of 1 case; there is no speed to compare with torch's."
    ]


def not_strict(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


class TestJson:
    def test_is_strict_and_reads_back_as_the_summary(self) -> None:
        odd = broken(1, expected=math.nan, got=-math.inf, ulp=None, max_ulp=None)
        records = [*gemm_records(), verified(case("samebits", "softmax", HIDDEN), odd)]
        summary = summarise_run(records, facts())
        text = strict_json(summary)
        data = json.loads(text, parse_constant=not_strict)
        assert data["schema_version"] == 4
        arm = next(o for o in data["operators"] if o["operator"] == "softmax")["arms"][0]
        found = arm["findings"][0]["counterexample"]
        assert (found["expected"], found["got"]) == ("NaN", "-Infinity")
        assert strict_json(RunSummary.model_validate_json(text)) == text

    def test_holds_no_raw_samples(self) -> None:
        assert "warm_samples" not in strict_json(a_run())


class TestMarkdown:
    def test_every_table_is_whole(self) -> None:
        tables = re.findall(r"(?:^\|.*\|\n)+", markdown(a_run()), re.MULTILINE)
        assert len(tables) == 2
        for table in tables:
            rows = table.strip().splitlines()
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
            assert re.fullmatch(r"\| [:\-| ]+ \|", rows[1])
        assert "| vllm | ✅ kept 3/3 | 0.33× | 0.18× | 0.16× | 0.55× | 0.82× | 0.33× |" in tables[0]

    def test_names_device_versions_and_command(self) -> None:
        text = markdown(a_run())
        assert "NVIDIA H100 80GB HBM3 (SM90)" in text
        assert "vllm 0.26.1" in text
        assert "```sh\npython -m kernels_bench --op mm,rms_norm\n```" in text

    def test_escapes_what_github_would_read_as_markup(self) -> None:
        records = [ended(case("vllm"), "unsupported", "a|b <c> *d* _e_ rms_norm"), verified(case("torch"))]
        assert r"a\|b \<c> \*d\* \_e\_ rms_norm" in markdown(summarise_run(records, facts()))
