"""Whatever stands in a file, a reader gives an answer or one line of error: no traceback, no hang, nothing lost unsaid.

Few tries in every run of the tests; ten thousand of each reader with ``pytest -m long``.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from e2e.records import FORMAT as E2E
from e2e.records import ArmLost, Finished, read_state
from e2e.report.screen import screen_of
from e2e.report.speeds import exit_status as e2e_status
from e2e.report.speeds import verdicts
from e2e.report.summary import summarise
from e2e.report.text import report as e2e_report
from kernels_bench.arms import kernels_of, load_plugin
from kernels_bench.commands.compare_runs.comparison import compare_runs
from kernels_bench.commands.compare_runs.gate import USUALLY, in_words, read_gate
from kernels_bench.commands.compare_runs.gate import exit_status as gate_status
from kernels_bench.commands.counterexamples import reproductions
from kernels_bench.commands.report import summary_of
from kernels_bench.console.screen import show_screen
from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.manifest import MANIFEST, RECORDS, RunDirectory, read_records
from kernels_bench.report.markdown import markdown
from kernels_bench.report.readme_table import overview
from kernels_bench.report.summary.summarise import exit_status
from kernels_bench.report.terminal.render import render
from profiles.analysis.analyse import analyse
from profiles.errors import CommandError, ExitStatus
from profiles.output.csv_table import write_csv
from profiles.output.text import in_words as analysis_in_words
from profiles.run_files.numbered_lines import numbered
from profiles.run_files.strict_json import strict_json
from profiles.text import inert
from support import BASELINES
from support.e2e_answers import OTHER_BITS, alone, answer, manifest, started, trial
from support.hostile import LONG_NUMBER, VALUES, altered, as_json, as_lines, damaged, steers
from support.profiler_reports import Launch, Span, timing, write_report, write_run
from support.run_directories import EVERY_KIND
from support.stored_records import manifest as kernels_manifest


def hammer(reader: Callable[[Path, st.DataObject], None], place: Path, tries: int) -> None:
    """Give a reader so many hostile inputs; an error of ours, which is one line with a status, is an answer too."""

    @settings(max_examples=tries, deadline=60_000, database=None, suppress_health_check=[*HealthCheck])
    @given(st.data())
    def once(data: st.DataObject) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        with suppress(CommandError):
            reader(place, data)

    once()


def said(*texts: str) -> None:
    """What a command shows steers no terminal."""
    assert not any(map(steers, texts))


def lines(data: st.DataObject, records: list[Any]) -> list[bytes]:
    """Lines of a run whose records are altered and numbered anew, or whose bytes are."""
    if data.draw(st.integers(0, 3)) != 2:
        chosen = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=3))
        changed = [data.draw(altered(one, 2)) if n in chosen else one for n, one in enumerate(records)]
        texts = as_lines(changed if data.draw(st.integers(0, 3)) != 2 else data.draw(st.permutations(changed)))
        return [numbered(n, text) + b"\n" for n, text in enumerate(texts, start=1) if text.startswith(b"{")]
    whole = b"".join(numbered(n, text) + b"\n" for n, text in enumerate(as_lines(records), start=1))
    return data.draw(damaged(whole)).splitlines(keepends=True)


def put(place: Path, description: Any, data: st.DataObject, records: list[Any]) -> Path:
    """A run directory that is hostile somewhere."""
    run = place / "run"
    run.mkdir(exist_ok=True)
    if data.draw(st.integers(0, 3)) == 2:
        (run / MANIFEST).write_bytes(as_json(data.draw(altered(description))))
    else:
        (run / MANIFEST).write_bytes(as_json(description))
    content = b"".join(lines(data, records))
    if data.draw(st.integers(0, 9)) == 7:
        packed = gzip.compress(content)
        (run / f"{RECORDS}.gz").write_bytes(data.draw(st.one_of(st.just(packed), damaged(packed))))
    else:
        (run / RECORDS).write_bytes(content)
    return run


# Read once: what is drawn must not depend on when.
KERNELS = json.loads(kernels_manifest().model_dump_json())
ENGINES = json.loads(manifest("baseline", "serial").model_dump_json())
KINDS = [json.loads(record.model_dump_json()) for record in EVERY_KIND]


def kernels_bench_runs(place: Path, data: st.DataObject) -> None:
    """Records of kernels_bench: reported in every form, compared with a whole run, asked for what can be rechecked."""
    run = put(place, KERNELS, data, KINDS)
    summary = summary_of(run)
    assert exit_status(summary) in {*ExitStatus}
    console = Console(file=StringIO(), width=100, color_system=None, force_terminal=False)
    render(summary, console)
    assert isinstance(console.file, StringIO)
    said(console.file.getvalue(), markdown(summary), overview(summary))
    json.loads(strict_json(summary)).keys()
    for record in latest_records(read_records(run)).verifications.values():
        list(reproductions(record, 0))
    gate = read_gate(USUALLY)
    whole = BASELINES / "h100-80gb-hbm3-attention"
    for pair in ((run, run), (run, whole)):
        found = compare_runs(*pair)
        said("\n".join(map(inert, in_words(found, gate))))
        assert gate_status(found, gate) in {*ExitStatus}


def resumed_runs(place: Path, data: st.DataObject) -> None:
    """A run that is gone on with keeps every byte that it had, but half a line."""
    run = put(place, KERNELS, data, KINDS)
    before = (run / RECORDS).read_bytes() if (run / RECORDS).exists() else b""
    try:
        resumed = RunDirectory.resume(run)
    finally:
        assert not (run / RECORDS).exists() or (run / RECORDS).read_bytes() == before
    resumed.append(EVERY_KIND[-1])
    resumed.close()
    after = (run / RECORDS).read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    assert len(list(read_records(run))) == before.count(b"\n") + 1


ANSWERED = [
    json.loads(record.model_dump_json())
    for record in (
        started("baseline"), alone("baseline", answer(0), answer(1)), trial(0, answer(0), OTHER_BITS),
        started("serial"), alone("serial", answer(0), answer(1)), trial(0, answer(0), answer(1), arm="serial"),
        ArmLost(arm="serial", status="failed", reason="the engine did not start"), Finished(seconds=3.0),
    )
]  # fmt: skip


def e2e_runs(place: Path, data: st.DataObject) -> None:
    """Records of e2e, reported."""
    run = put(place, ENGINES, data, ANSWERED)
    known, ledger = E2E.read_manifest(run), read_state(E2E.read_records(run))
    said("\n".join(map(inert, e2e_report(known, ledger, str(run)))))
    summary, console = summarise(known, ledger, str(run)), Console(file=StringIO(), width=90)
    show_screen(screen_of(summary, known, ledger), console)
    assert isinstance(console.file, StringIO)
    said(console.file.getvalue())
    json.loads(strict_json(summary)).keys()
    assert e2e_status(known.arms, ledger, verdicts(ledger, known.asked)) in {*ExitStatus}


def analysed(report: Path, run: Path | None = None) -> None:
    """An analysis in every form but the page, whose pictures take long."""
    analysis = analyse(report, run)
    said("\n".join(map(inert, analysis_in_words(analysis))))
    table = StringIO()
    write_csv(analysis.ranges, table)
    said(table.getvalue())
    json.loads(analysis.model_dump_json())


NAME = "time/torch/mm/8x4/bf16/1/warm/graph/3"
SPANS = [Span(NAME, 0, 90), Span("step", 100, 200), Span("loose", 150, None)]
LAUNCHES = [Launch(10, 20, [("gemm<1>(int)", 30, 60), ("copy", 61, 70)]), Launch(120, 130, [("norm", 140, 180)])]


def runs_beside_reports(place: Path, data: st.DataObject) -> None:
    """A run of kernels_bench as profiles reads it, beside a report."""
    report = write_report(place / "report.sqlite", SPANS, LAUNCHES)
    run = write_run(place / "run", timing(1, 3), timing(16, 3))
    records = [json.loads(line) for line in (run / RECORDS).read_text().splitlines()]
    (run / RECORDS).write_bytes(b"\n".join(as_lines(data.draw(altered(records)))) + b"\n")
    analysed(report, run)


TRACE = {
    "schemaVersion": 1, "baseTimeNanoseconds": 7, "traceEvents": [
        {"ph": "X", "cat": "user_annotation", "name": "step", "pid": 7, "tid": 7, "ts": 1.0, "dur": 90.0},
        {"ph": "X", "cat": "cuda_runtime", "name": "l", "pid": 7, "tid": 7, "ts": 2, "dur": 1,
         "args": {"correlation": 1}},
        {"ph": "X", "cat": "kernel", "name": "void a::b<1>(int)", "pid": 0, "tid": 3, "ts": 5.5, "dur": 4.25,
         "args": {"correlation": 1, "grid": [1, 2, 3], "block": [32, 1, 1], "registers per thread": 16}},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 7, "tid": 7, "ts": 2, "dur": 1, "args": {}},
    ],
}  # fmt: skip


def torch_traces(place: Path, data: st.DataObject) -> None:
    """Traces of torch's profiler, plain and packed."""
    content = data.draw(st.one_of(altered(TRACE).map(as_json), damaged(as_json(TRACE))))
    path = place / "trace.json"
    if data.draw(st.integers(0, 3)) == 2:
        path = place / "trace.json.gz"
        packed = gzip.compress(content)
        content = data.draw(st.one_of(st.just(packed), damaged(packed)))
    path.write_bytes(content)
    analysed(path)


CELLS = st.one_of(
    st.sampled_from(
        (None, 0, -1, 1, 59, 60, 75, 1 << 62, -(1 << 62), (1 << 63) - 1, 0.5, 1e300, float("inf"), "x", b"\xff")
    ),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.text(max_size=5),
)


def sqlite_reports(place: Path, data: st.DataObject) -> None:
    """Reports of Nsight Systems: other values, other bytes, tables that are views."""
    path = write_report(place / "report.sqlite", SPANS, LAUNCHES)
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    else:
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for _ in range(data.draw(st.integers(1, 4))):
                table = data.draw(st.sampled_from(tables))
                column = data.draw(st.sampled_from([row[1] for row in database.execute(f"PRAGMA table_info({table})")]))
                database.execute(
                    f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (data.draw(CELLS), data.draw(st.integers(1, 3)))
                )
            database.commit()
    analysed(path)


def plugins(place: Path, data: st.DataObject) -> None:
    """A plugin whose arm has fields of any kind."""
    fields = {
        "name": "mine",
        "claims": True,
        "summary": "",
        "environment": {},
        "offers": ("mm",),
        "brief": (),
    }
    given = {**fields, "kernels": {}, "unavailable": None, "provenance": None, "precision": "", "compiles": False}
    for name in data.draw(st.lists(st.sampled_from(sorted(given)), min_size=1, max_size=3)):
        given[name] = data.draw(st.sampled_from([value for value in VALUES if value is not LONG_NUMBER]))
    file = place / "plugin.py"
    text = ", ".join(f"{name}={value!r}" for name, value in given.items() if name in {*fields, "precision", "compiles"})
    head = "from kernels_bench.arms import Arm\nnan, inf = float('nan'), float('inf')\n"
    file.write_text(f"{head}ARM = Arm(kernels=lambda: {given['kernels']!r}, {text})\n", errors="backslashreplace")
    (arm,) = load_plugin(str(file)).arms
    kernels_of(arm)
    said(arm.name)
    (place / f"{arm.name}.log").touch()


READERS = (
    kernels_bench_runs, resumed_runs, e2e_runs, runs_beside_reports, torch_traces, sqlite_reports, plugins,
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_hostile_input_has_an_answer_or_one_line(tmp_path: Path, reader: Callable[[Path, st.DataObject], None]) -> None:
    hammer(reader, tmp_path / "place", 40)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_much_hostile_input_has_an_answer_or_one_line(
    tmp_path: Path, reader: Callable[[Path, st.DataObject], None]
) -> None:
    hammer(reader, tmp_path / "place", 10_000)
