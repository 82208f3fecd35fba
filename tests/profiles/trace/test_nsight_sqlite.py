"""Nsight's reports: the cut of a real one against nsys' own tables, other schemas, damaged files."""

from __future__ import annotations

import csv
import gzip
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from profiles.analysis.analyse import analyse
from profiles.analysis.range_summaries import kernel_uses, summarise
from profiles.analysis.schema import KernelUse, RangeSummary, Spread
from profiles.errors import ReportError
from profiles.trace.attribution import instances
from profiles.trace.cut import cut
from profiles.trace.model import Trace
from profiles.trace.nsight_sqlite import EXPORT_FACTS, read_sqlite
from support import DATA
from support.profiler_reports import GLOBAL_PID, H100, TABLES, Launch, Span, h100_report, real_report, write_report


@pytest.fixture(scope="module")
def trace() -> Trace:
    return read_sqlite(h100_report())


def by_text(trace: Trace) -> dict[str, RangeSummary]:
    return {one.text: one for one in summarise(trace)}


def nsys_table(name: str) -> list[dict[str, str]]:
    with (H100 / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def same_spread(found: Spread, row: dict[str, str], prefix: str = "") -> bool:
    """nsys rounds to a tenth; the tenth of a tie may fall to either side."""
    exact = (found.median_ns, found.min_ns, found.max_ns)
    rounded = (found.average_ns, found.deviation_ns)
    return exact == tuple(float(row[f"{prefix}{name} (ns)"]) for name in ("Med", "Min", "Max")) and all(
        abs(value - float(row[f"{prefix}{name} (ns)"])) <= 0.0501
        for value, name in zip(rounded, ("Avg", "StdDev"), strict=True)
    )


def test_ranges_agree_exactly_with_nsys(trace: Trace) -> None:
    found, rows = by_text(trace), nsys_table("nvtx_gpu_proj_sum")
    assert len(rows) > 30
    for row in rows:
        one = found[row["Range"]]
        assert one.style == row["Style"]
        assert one.span.total_ns == int(row["Total Proj Time (ns)"])
        assert one.range_ns == int(row["Total Range Time (ns)"])
        assert one.ranges == int(row["Range Instances"])
        assert one.launches == int(row["Total GPU Ops"])
        assert same_spread(one.span, row, "Proj ")


def test_kernels_agree_exactly_with_nsys(trace: Trace) -> None:
    names: dict[str, int] = {}
    # nsys adds up all forms of a base name; a copy is no kernel.
    group = np.array([names.setdefault(kernel.kind + kernel.name, len(names)) for kernel in trace.kernels])
    found: dict[tuple[str, int, int, str], KernelUse] = {}
    for label in instances(trace):
        assert label.label is not None
        for use in kernel_uses(trace, label, group):
            found[(label.label.text, use.pid, use.tid, use.kernel.name)] = use
    rows = nsys_table("nvtx_kern_sum")
    assert len(rows) > 100
    for row in rows:
        use = found[(row["NVTX Range"], int(row["PID"]), int(row["TID"]), row["Kernel Name"])]
        assert (use.ranges, use.time.count) == (int(row["NVTX Inst"]), int(row["Kern Inst"]))
        assert use.time.total_ns == int(row["Total Time (ns)"])
        assert same_spread(use.time, row)
    of_kernels = {key for key, use in found.items() if use.kernel.kind == "kernel" and key[0].startswith("kernels_")}
    assert {(r["NVTX Range"], int(r["PID"]), int(r["TID"]), r["Kernel Name"]) for r in rows} == of_kernels


def test_busy_time_gaps_and_span_add_up(trace: Trace) -> None:
    for one in summarise(trace):
        assert one.busy_ns + one.gap_ns == one.span.total_ns
        assert one.longest_gap_ns <= one.gap_ns
        assert one.kernels + one.copies + one.fills == sum(use.time.count for use in one.uses)
        assert one.busy_ns <= sum(use.time.total_ns for use in one.uses)


def test_forms_are_kept_apart(trace: Trace) -> None:
    uses = by_text(trace)["kernels_bench:torch/mm/4096x4096,bf16/16"].uses
    split = next(use for use in uses if "splitK_NNT" in use.kernel.name)
    assert (split.kernel.grid, split.kernel.block, split.kernel.registers) == ((4, 16, 1), (384, 1, 1), 168)
    assert split.kernel.full_name.startswith(split.kernel.name)


def test_a_process_that_was_killed_early_is_named(trace: Trace) -> None:
    (note,) = [note for note in trace.notes if "process 1239" in note]
    assert re.search(r"\d+ ranges begin after its last recorded launch, at 18\.\d+ s", note)


@pytest.mark.parametrize("folder", ["h100", "nsys-2022.4", "nsys-2023.4"])
def test_the_cut_holds_no_environment_path_or_host(folder: str) -> None:
    with closing(sqlite3.connect(real_report(folder))) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        texts = [
            str(value)
            for table in tables
            for row in database.execute(f"SELECT * FROM {table}")
            for value in row
            if isinstance(value, str)
        ]
        (facts,) = [dict(database.execute(f"SELECT name, value FROM {name}")) for name in tables & set(EXPORT_FACTS)]
    allowed = {"NVTX_EVENTS", "StringIds", *EXPORT_FACTS} | {
        f"CUPTI_ACTIVITY_KIND_{name}" for name in ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME")
    }
    assert tables <= allowed
    assert set(facts) == {"EXPORT_PRODUCT_NAME", "EXPORT_PRODUCT_VERSION", "EXPORT_SCHEMA_VERSION"}
    texts += [path.read_text() for path in (DATA / folder).rglob("*") if path.suffix in (".csv", ".json")]
    texts += [gzip.decompress(path.read_bytes()).decode() for path in (DATA / folder).rglob("*.gz")]
    assert len(texts) > 10
    for text in texts:
        assert not re.search(r"(?<![\w/.)])/(tmp|root|home|work|usr|opt|etc|proc|dev|var|mnt)\b", text), text[:200]
        assert not re.search(r"\b[A-Z][A-Z_]{2,}=|\bHOSTNAME\b|localhost|\.(local|internal)\b", text), text[:200]


# Reports of older versions, recorded on an H100 whose driver is newer than they are.


def test_a_report_of_2022_without_kernels_says_so_and_shows_its_ranges() -> None:
    trace = read_sqlite(real_report("nsys-2022.4"))
    assert trace.source == "Nsight Systems 2022.4.2.1, schema 3.0.0"
    assert [label.text for label in trace.labels] == [
        "kernels_bench:replay",
        "kernels_bench:company/torch/mm/512x8192/bf16/first:4096/eager",
        "kernels_bench:company/torch/mm/512x8192/bf16/first:1/eager",
        "kernels_bench:warm-up/torch/mm/512x8192,bf16/1",
        "kernels_bench:torch/mm/512x8192,bf16/1",
    ]
    assert [note.split(" (")[0] for note in trace.notes] == [
        "the report has no kernel",
        "the report has no launch, so that no kernel can be given to a range",
    ]
    assert summarise(trace) == ()


def test_a_report_of_2023_explains_what_changed_and_says_what_was_cut_short() -> None:
    found = analyse(real_report("nsys-2023.4"), DATA / "nsys-2023.4" / "run")
    assert found.source == "Nsight Systems 2023.4.4.54, schema 3.7.2"
    (note,) = found.notes
    assert "6 ranges begin after its last recorded launch" in note
    (why,) = found.explanations
    assert (why.case, why.found) == ("torch/mm/512x8192/bf16", "changed")
    assert "split-K: no → yes" in why.changes
    assert found.cross_check == ()


def test_cutting_keeps_whole_ranges_with_what_is_nested(tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "a.sqlite",
        [Span("outer", 0, 100), Span("inner", 10, 20), Span("other", 200, 300)],
        [Launch(11, 12, [("k", 30, 40)]), Launch(50, 51, []), Launch(201, 202, [("left_out", 210, 220)])],
    )
    assert cut(path, tmp_path / "b.sqlite", "^kernels_bench:outer$") == 1
    found = by_text(read_sqlite(tmp_path / "b.sqlite"))
    assert {text: one.kernels for text, one in found.items()} == {"kernels_bench:outer": 1, "kernels_bench:inner": 1}
    assert b"left_out" not in (tmp_path / "b.sqlite").read_bytes()
    with pytest.raises(ReportError, match="exists"):
        cut(path, tmp_path / "b.sqlite", "outer")
    with pytest.raises(ReportError, match=r"no range of .* matches nothing"):
        cut(path, tmp_path / "c.sqlite", "nothing")


@pytest.mark.parametrize(
    "gone",
    [
        ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME"),
        ("CUPTI_ACTIVITY_KIND_RUNTIME",),
        ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"),
        ("StringIds",),
    ],
)
def test_what_a_report_lacks_its_cut_lacks_too(tmp_path: Path, gone: tuple[str, ...]) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES, without=gone)
    cut(path, tmp_path / "b.sqlite", "")
    whole, part = read_sqlite(path), read_sqlite(tmp_path / "b.sqlite")
    assert [label.text for label in part.labels] == [label.text for label in whole.labels]
    assert {one.text: one.kernels for one in summarise(part)}.items() <= by_kernels(whole).items()


def by_kernels(trace: Trace) -> dict[str, int]:
    return {one.text: one.kernels for one in summarise(trace)}


def test_a_cut_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES, without=["CUPTI_ACTIVITY_KIND_KERNEL.correlationId"])
    with pytest.raises(ReportError, match="cannot cut"):
        cut(path, tmp_path / "b.sqlite", "")
    assert not (tmp_path / "b.sqlite").exists()


def test_a_kernel_belongs_to_the_range_around_its_launch(tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "a.sqlite",
        [Span("r", 100, 200), Span("r", 300, 400), Span("same time, other thread", 100, 200, tid=8)],
        [
            Launch(100, 110, [("in", 1000, 1010)]),
            Launch(150, 201, [("leaves too late", 1020, 1030)]),
            Launch(99, 105, [("enters too early", 1040, 1050)]),
            Launch(390, 400, [("in", 1005, 1100)]),
            Launch(150, 160, [("other process", 1000, 1010)], pid=9, tid=7),
            Launch(150, 151, [("in", 1020, 1025)], pid=9, tid=8),
        ],
    )
    found = by_text(read_sqlite(path))
    one = found["kernels_bench:r"]
    assert (one.ranges, one.launches, one.kernels) == (2, 2, 2)
    assert (one.busy_ns, one.span.total_ns, one.gap_ns) == (105, 105, 0)
    assert [use.kernel.name for use in one.uses] == ["in"]
    assert "kernels_bench:same time, other thread" not in found
    assert found[""].kernels == 4
    assert {use.kernel.name for use in found[""].uses} == {"leaves too late", "enters too early", "other process", "in"}


def test_a_replayed_graph_is_one_launch_of_many_kernels(tmp_path: Path) -> None:
    kernels = [("a", 100, 200), ("b", 150, 260), ("a", 300, 310)]
    path = write_report(tmp_path / "a.sqlite", [Span("r", 0, 50)], [Launch(10, 20, kernels, graph=True)])
    one = by_text(read_sqlite(path))["kernels_bench:r"]
    assert (one.launches, one.kernels, one.busy_ns, one.span.total_ns) == (1, 3, 170, 210)
    assert (one.gaps, one.gap_ns, one.longest_gap_ns) == (1, 40, 40)


def test_start_end_ranges_default_domain_and_ranges_never_left(tmp_path: Path) -> None:
    spans = [Span("s", 0, 50, domain=0, type=60), Span("open", 5, None), Span("last", 6, 90)]
    path = write_report(tmp_path / "a.sqlite", spans, [Launch(10, 20, [("k", 30, 40)])])
    trace = read_sqlite(path)
    found = by_text(trace)
    assert found["s"].style == "StartEnd"
    assert found["kernels_bench:open"].kernels == 1
    assert any("1 ranges were never left" in note for note in trace.notes)


SPANS = [Span("r", 0, 100)]
LAUNCHES = [Launch(10, 20, [("k", 30, 40)])]


@pytest.mark.parametrize(
    ("without", "note"),
    [
        (["NVTX_EVENTS"], "no range"),
        (["CUPTI_ACTIVITY_KIND_KERNEL"], "no kernel"),
        (["CUPTI_ACTIVITY_KIND_RUNTIME"], "no launch"),
        (["StringIds"], "no name"),
        (["CUPTI_ACTIVITY_KIND_KERNEL.registersPerThread"], "no column registersPerThread: taken as 0"),
        (["CUPTI_ACTIVITY_KIND_KERNEL.gridX", "CUPTI_ACTIVITY_KIND_KERNEL.gridY"], "no column gridX, gridY"),
        (["CUPTI_ACTIVITY_KIND_RUNTIME.correlationId"], "1 kernels, copies and fills have no launch"),
    ],
)
def test_what_a_schema_lacks_is_said_and_the_rest_is_read(tmp_path: Path, without: list[str], note: str) -> None:
    trace = read_sqlite(write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES, without=without))
    assert any(note in line for line in trace.notes), trace.notes
    summarise(trace)


def test_a_report_without_graph_nodes_or_text_ids_is_read_in_silence(tmp_path: Path) -> None:
    # nsys 2022.4 exports no graphNodeId where no graph was traced.
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES, without=["CUPTI_ACTIVITY_KIND_KERNEL.graphNodeId"])
    trace = read_sqlite(path)
    assert trace.notes == ()
    assert by_text(trace)["kernels_bench:r"].kernels == 1


def test_texts_that_are_not_registered_are_read(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES, without=["NVTX_EVENTS.textId"])
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE NVTX_EVENTS SET text = 'plain' WHERE eventType = 59")
        database.commit()
    assert "kernels_bench:plain" in by_text(read_sqlite(path))


def test_graphs_traced_as_a_whole_are_named(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE (start, end)")
    assert any("--cuda-graph-trace=node" in note for note in read_sqlite(path).notes)


def test_any_name_of_a_file_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%20 d"
    folder.mkdir()
    assert by_text(read_sqlite(write_report(folder / "é.sqlite", SPANS, LAUNCHES)))["kernels_bench:r"].kernels == 1


def test_an_empty_report_has_no_ranges(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, [])
    assert summarise(read_sqlite(path)) == ()


def one_line(error: pytest.ExceptionInfo[ReportError], path: Path) -> bool:
    text = str(error.value)
    return "\n" not in text and str(path) in text


@pytest.mark.parametrize("content", [b"", b"no database\n" * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        read_sqlite(path)
    assert one_line(caught, path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_truncated_report_is_refused_in_one_line(tmp_path: Path, share: float) -> None:
    whole = h100_report().read_bytes()
    path = tmp_path / "a.sqlite"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ReportError) as caught:
        read_sqlite(path)
    assert one_line(caught, path)


@pytest.mark.parametrize("value", ["text", b"\xff\xfe"])
def test_values_of_a_wrong_kind_are_damage(tmp_path: Path, value: object) -> None:
    path = write_report(tmp_path / "a.sqlite", SPANS, LAUNCHES)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET start = ?", (value,))
        database.commit()
    with pytest.raises(ReportError, match="damaged"):
        read_sqlite(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such file"):
        read_sqlite(tmp_path / "none.sqlite")


def _schema(tables: Iterable[str]) -> set[str]:
    return {f"{table}.{column}" for table in tables for column in TABLES[table]}


def test_the_made_reports_have_the_columns_of_the_real_one() -> None:
    with closing(sqlite3.connect(h100_report())) as database:
        real = {f"{table}.{row[1]}" for table in TABLES for row in database.execute(f"PRAGMA table_info({table})")}
        (pid,) = database.execute("SELECT globalPid FROM CUPTI_ACTIVITY_KIND_KERNEL LIMIT 1").fetchone()
    assert _schema(TABLES) <= real
    assert pid & GLOBAL_PID == GLOBAL_PID
