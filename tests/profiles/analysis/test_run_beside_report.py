"""A run beside its report: medians against kernel times, kernels by M, and why bits changed."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import Timing
from profiles.analysis.analyse import analyse
from profiles.analysis.cross_check import agreement, cross_check, timed_calls
from profiles.analysis.schema import Analysis
from profiles.errors import ReportError
from profiles.run_files.kernels_bench_run import read_run
from profiles.trace.nsight_sqlite import read_sqlite
from support.profiler_reports import (
    CAPTURED,
    MESSAGE,
    UNCAPTURED,
    Launch,
    Span,
    h100_report,
    timing,
    write_report,
    write_run,
)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(h100_report(), CAPTURED, UNCAPTURED)


def rows(analysis: Analysis, cache: str) -> list[Any]:
    return [row for row in analysis.cross_check if row.cache == cache]


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_medians_without_a_profiler_agree_with_nsight(analysis: Analysis, cache: str) -> None:
    found = agreement(rows(analysis, cache), uncaptured=True)
    assert found.long >= 10
    assert found.short >= 3
    assert found.long_share <= 0.02
    assert found.short_us <= 0.3


def test_warm_medians_of_the_captured_run_agree_once_its_waiting_is_taken_off(analysis: Analysis) -> None:
    found = agreement(rows(analysis, "warm"))
    assert found.long_share <= 0.02
    assert found.short_us <= 0.3
    # And that is no matter of course: recording adds about a microsecond a kernel.
    raw = [row.run_us - row.kernel_us for row in rows(analysis, "warm") if row.kernel_us < 10]
    assert min(raw) > 0.5


def test_recording_costs_more_than_nothing(analysis: Analysis) -> None:
    warm, cold = analysis.capture_costs
    assert (warm.cache, cold.cache) == ("warm", "cold")
    assert warm.cases == cold.cases == len(read_run(CAPTURED).timed)
    assert 0.005 < cold.share < warm.share < 0.2


def test_one_row_by_hand(analysis: Analysis) -> None:
    (row,) = [row for row in rows(analysis, "warm") if row.case == "torch/mm/4096x4096/bf16/16"]
    assert (row.calls, row.kernels, row.samples) == (9, 2, 30)
    assert row.captured
    assert row.kernel_us == pytest.approx(8.67, abs=0.005)
    assert row.span_us == pytest.approx(8.89, abs=0.005)
    assert row.run_us == pytest.approx(11.633, abs=0.001)
    assert row.uncaptured_us == pytest.approx(8.657, abs=0.001)
    assert row.difference_us == pytest.approx(row.run_us - row.kernel_us - row.wait_us)


def test_every_timed_case_is_told_or_has_a_reason(analysis: Analysis) -> None:
    timed = {record.key for record in read_records(CAPTURED) if isinstance(record, Timing)}
    told = {row.case for row in analysis.cross_check}
    untold = {one.case: one.reason for one in analysis.untold}
    assert told | set(untold) == timed
    assert not told & set(untold)
    # samebits' worker was killed before its last kernels were saved.
    assert all("the process ended before they were saved" in reason for reason in untold.values())
    assert "samebits/mean/4096/bf16:fp32/1" in untold


def test_kernels_by_m(analysis: Analysis) -> None:
    maps = {one.case: one for one in analysis.kernel_maps}
    one = maps["torch/mm/4096x4096/bf16"]
    assert [entry.m for entry in one.entries] == [1, 16, 256, 2048]
    assert one.edges[1] == (
        "M=16→256: nvjet_sm90_tst_128x16_64x11_4x1_v_bz_splitK_NNT + splitKreduce_kernel "
        "→ nvjet_sm90_tst_128x64_64x8_1x2_h_bz_NNT"
    )
    assert len(one.edges) == 3
    assert maps["samebits/mm/4096x4096/bf16"].edges == ()
    assert maps["torch/mm/1821x1015/bf16"].edges[0].startswith("M=1→16: gemvx::kernel → cutlass_75_tensorop")


def test_variant_verdicts_are_explained(analysis: Analysis) -> None:
    found = {one.case: one for one in analysis.explanations}
    split = found["torch/mm/4096x4096/bf16"]
    assert split.found == "changed"
    assert "split-K: no → yes" in split.changes
    assert "tile: 256x128 → 128x16" in split.changes
    assert split.basis == "M=4096 by the nearest that was timed, M=2048; M=16 as timed"
    mean = found["torch/mean/4096/bf16:fp32"]
    assert mean.changes == ("reduce_kernel: block 32×16×1 → 512×1×1",)
    assert "M=4096 by the nearest that was timed, M=16, which is far from it" in mean.basis


def test_a_run_that_was_not_recorded_is_told_from_the_one_that_was() -> None:
    trace = read_sqlite(h100_report())
    assert timed_calls(trace, read_run(CAPTURED)).captured
    other = timed_calls(trace, read_run(UNCAPTURED))
    assert not other.captured
    assert all(row.difference_us == row.run_us - row.kernel_us for row in cross_check(other))


# --- small runs and reports, made to measure ---------------------------------------------------------------


def variant(reference: int, company: int) -> dict[str, Any]:
    sides = {
        name: {"spec": f"first:{m}", "size": m, "launch": "eager", "position": 0}
        for name, m in (("reference", reference), ("company", company))
    }
    found = {"relation": "batch_size", "status": "broken", "counterexample": {"relation": "batch_size", **sides}}
    return {"kind": "verification", "case": timing(1, 1)["case"], "status": "measured", "relations": [found]}


def replay(at: int, *names: str, lasts: int = 1000, apart: int = 100, gauges: bool = True) -> Launch:
    """A graph's replay: kernels of a microsecond one after the other, then the gauges."""
    kernels = [(name, at + i * (lasts + apart), at + i * (lasts + apart) + lasts) for i, name in enumerate(names)]
    end = kernels[-1][2]
    spins = [("spin_kernel", end + 500 * i, end + 500 * i + 400) for i in range(1, 6)] if gauges else []
    return Launch(at - 50, at - 40, [*kernels, *spins], graph=True)


def small(tmp_path: Path, launches: list[Launch], *records: dict[str, Any], pid: int = 7) -> Analysis:
    report = write_report(tmp_path / "a.sqlite", [Span(MESSAGE, 0, 10**9)], launches)
    return analyse(report, write_run(tmp_path / "run", *records, pid=pid))


def test_warm_and_cold_calls_are_told_by_their_form(tmp_path: Path) -> None:
    warm = [replay(10_000 * i, *["a", "b"] * 4) for i in (1, 3)]
    cold = [replay(10_000 * i, *["spoil", "a", "b"] * 3) for i in (5, 7)]
    noise = [Launch(90_000, 90_001, [("fill", 90_100, 90_200), ("a", 90_300, 90_400)])]
    found = small(tmp_path, [*warm, *cold, *noise], timing(16, 3))
    one, other = found.cross_check
    assert (one.cache, one.calls, one.samples, one.kernels) == ("warm", 3, 2, 2)
    assert one.kernel_us == pytest.approx(2.0)
    assert one.span_us == pytest.approx((6 * 1000 + 5 * 100) / 3e3)
    assert (other.cache, other.calls, other.samples, other.kernels) == ("cold", 1, 4, 2)
    assert other.kernel_us == pytest.approx(2.0)


def test_one_call_a_sample_is_not_taken_for_a_cold_round(tmp_path: Path) -> None:
    # With calls = 1 an even number of cold rounds is "one sequence, twice" too.
    warm, cold = replay(10_000, "a", "a"), replay(30_000, *["spoil", "a"] * 4)
    for order in ([warm, cold], [cold, warm]):
        folder = tmp_path / str(order.index(warm))
        folder.mkdir()
        one, other = small(folder, order, timing(16, 1)).cross_check
        assert (one.cache, one.kernels, one.samples) == ("warm", 1, 1)
        assert (other.cache, other.kernels, other.samples) == ("cold", 1, 3)


def test_what_the_recording_waits_is_part_of_a_captured_run_only(tmp_path: Path) -> None:
    late = Launch(
        950,
        960,
        [
            ("a", 1000, 2000),
            ("a", 7100, 8100),
            ("a", 8200, 9200),
            *[("spin_kernel", 9300 + 200 * i, 9400 + 200 * i) for i in range(5)],
        ],
        graph=True,
    )
    for pid, captured in ((7, True), (8, False)):
        (tmp_path / str(pid)).mkdir()
        (row,) = small(tmp_path / str(pid), [late], timing(16, 2, warm_us=4.0), pid=pid).cross_check
        assert row.captured is captured
        assert row.wait_us == pytest.approx((5100 - 100) / 2e3)
        assert row.difference_us == pytest.approx(4.0 - 1.0 - (2.5 if captured else 0.0))


def test_calls_that_no_graph_holds_lie_between_two_spins(tmp_path: Path) -> None:
    def eager(at: int, *names: str) -> list[Launch]:
        return [Launch(at + i, at + i, [(name, at + 20 * i, at + 20 * i + 10)]) for i, name in enumerate(names)]

    launches = eager(1000, "a", "spin_kernel", *"aaa", "spin_kernel", "spin_kernel", "spoil", "a", "spin_kernel")
    warm, cold = small(tmp_path, launches, timing(16, 2, "stream")).cross_check
    assert (warm.samples, warm.kernels, cold.samples) == (1, 1, 1)
    assert (warm.kernel_us, cold.kernel_us) == pytest.approx((0.01, 0.01))


@pytest.mark.parametrize(
    ("launches", "record", "reason"),
    [
        ([], timing(16, 3), "its ranges hold no kernel"),
        ([replay(1000, "a", "b", "c")], timing(16, 3), "repeat 4 times in a row"),
        ([replay(1000, "a", "a")], timing(17, 1), "the report has no range of this case"),
        ([replay(1000, "a", "a")], timing(16, 1, "host"), "by the CPU's clock"),
        ([replay(1000, "a", "a")], timing(16, 0), "number of calls"),
    ],
)
def test_why_calls_cannot_be_told(tmp_path: Path, launches: list[Launch], record: Any, reason: str) -> None:
    (one,) = small(tmp_path, launches, record).untold
    assert reason in one.reason


def explained(tmp_path: Path, forms: dict[int, tuple[str, ...]], reference: int, company: int) -> Any:
    spans = [Span(f"torch/mm/8x4,bf16/{m}", 100_000 * i, 100_000 * i + 50_000) for i, m in enumerate(forms, 1)]
    launches = [replay(100_000 * i + 1000, *names, *names) for i, names in enumerate(forms.values(), 1)]
    report = write_report(tmp_path / "a.sqlite", spans, launches)
    run = write_run(tmp_path / "run", *(timing(m, 1) for m in forms), variant(reference, company))
    (found,) = analyse(report, run).explanations
    return found


def test_the_same_kernels_explain_nothing(tmp_path: Path) -> None:
    found = explained(tmp_path, {1: ("a",), 16: ("a",)}, 16, 1)
    assert (found.found, found.changes) == ("nothing visible", ())


def test_companies_of_one_size_have_one_kernel(tmp_path: Path) -> None:
    assert explained(tmp_path, {1: ("a",), 16: ("b",)}, 16, 16).found == "nothing visible"


def test_sizes_that_one_timed_m_stands_for_explain_nothing(tmp_path: Path) -> None:
    found = explained(tmp_path, {1: ("a",), 256: ("b",)}, 200, 300)
    assert found.found == "untold"
    assert "time them too, with --batch 200,300" in found.basis


def test_a_case_that_was_not_timed_is_untold(tmp_path: Path) -> None:
    report = write_report(tmp_path / "a.sqlite", [Span(MESSAGE, 0, 1000)], [])
    (found,) = analyse(report, write_run(tmp_path / "run", variant(16, 1))).explanations
    assert found.found == "untold"
    assert "nor in ranges of the batches" in found.basis


def test_the_companies_own_kernels_explain_most(tmp_path: Path) -> None:
    sizes = {16: ("gemm", "splitKreduce"), 1: ("gemv",)}
    spans = [
        Span(f"company/torch/mm/8x4/bf16/first:{m}/eager", 10_000 * i, 10_000 * i + 5000) for i, m in enumerate(sizes)
    ]
    launches = [
        Launch(10_000 * i + 100 + n, 10_000 * i + 101 + n, [(name, 10_000 * i + 900 - n, 10_000 * i + 950)])
        for i, names in enumerate(sizes.values())
        for n, name in enumerate(reversed(names))
    ]
    report = write_report(tmp_path / "a.sqlite", spans, launches)
    (found,) = analyse(report, write_run(tmp_path / "run", variant(16, 1))).explanations
    assert found.found == "changed"
    assert found.reference.own
    assert found.basis == "what ran for the two batches themselves"
    assert [kernel.name for kernel in found.reference.kernels] == ["gemm", "splitKreduce"]
    assert found.changes[0] == "kernel: gemm + splitKreduce → gemv"


def test_a_run_of_other_cases_is_said(tmp_path: Path) -> None:
    report = write_report(tmp_path / "a.sqlite", [Span("elsewhere", 0, 1000)], [])
    found = analyse(report, write_run(tmp_path / "run", timing(16, 3)))
    assert any("no timed case in common" in note for note in found.notes)


def damaged(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "run"
    shutil.copytree(CAPTURED, path)
    if name.endswith(".gz"):
        (path / name).write_bytes(gzip.compress(text.encode()))
    else:
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "[]", "run.json is damaged"),
        ("run.json", '{"schema_version": 1}', "no run of kernels_bench"),
        (
            "run.json",
            '{"schema_version": 99, "selection": {}}',
            "has schema 99; this samebits reads schema 2, 3, 4, 5 and 6",
        ),
        ("records.jsonl.gz", "{}\nnonsense\n", "line 2 is damaged"),
        ("records.jsonl.gz", "[]\n", "line 1 is damaged: other: Input should be an object"),
        ("records.jsonl.gz", '{"kind": "timing", "m": 1}\n', "line 1 is damaged: timing.case: Field required"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ReportError) as caught:
        read_run(damaged(tmp_path, name, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_directory_and_half_a_line(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"it has no run\.json"):
        read_run(tmp_path)
    path = damaged(tmp_path, "records.jsonl.gz", json.dumps(timing(1, 1)) + "\n" + '{"kind": "tim')
    assert [one.m for one in read_run(path).timed] == [1]
