"""``python -m profiles analyze`` and ``cut`` as users run them: files, words, one line an error, exit statuses."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from profiles.analysis.schema import Analysis
from profiles.output.csv_table import COLUMNS
from support import ROOT
from support.profiler_reports import CAPTURED, UNCAPTURED, Launch, Span, h100_report, profiles, write_report


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path / "a.sqlite", [Span("r", 0, 100)], [Launch(10, 20, [("k", 30, 40), ("k", 35, 60)])])


def test_ranges_as_csv(report: Path) -> None:
    ended = profiles("analyze", report, "--csv", "-")
    assert ended.status == 0, ended.stderr
    (row,) = csv.DictReader(io.StringIO(ended.stdout))
    assert list(row) == list(COLUMNS)
    expected = {"range": "kernels_bench:r", "busy_ns": "30", "span_ns": "30", "launches": "1", "instances": "2"}
    assert row.items() >= {**expected, "total_ns": "35", "kernel": "k", "grid": "4x1x1", "block": "128x1x1"}.items()
    assert all(meaning and value for meaning, value in COLUMNS.values())


def test_everything_as_json_can_be_read_again(tmp_path: Path) -> None:
    to = tmp_path / "a.json"
    ended = profiles("analyze", h100_report(), "--run", CAPTURED, "--uncaptured", UNCAPTURED, "--json", to)
    assert ended.status == 0, ended.stderr
    found = Analysis.model_validate(json.loads(to.read_text()))
    assert found.cross_check
    assert found.explanations
    assert ended.stderr == ""
    for words in (
        "warm, without the profiler: 0.",
        "M=16→256: nvjet_sm90_tst_128x16_64x11_4x1_v_bz_splitK_NNT + splitKreduce_kernel → nvjet_sm90_tst_128x64",
        "split-K: no → yes",
        "not told, 6 cases",
    ):
        assert words in ended.stdout


def test_a_report_without_kernels_says_so(tmp_path: Path) -> None:
    ended = profiles("analyze", write_report(tmp_path / "a.sqlite", [Span("start/baseline", 0, 9)], []))
    assert ended.status == 0
    assert "the report has no kernel" in ended.stdout
    assert "nothing ran in it" in ended.stdout


def test_cut_from_the_command_line(report: Path, tmp_path: Path) -> None:
    ended = profiles("cut", report, tmp_path / "b.sqlite", "--range", "r$")
    assert (ended.status, ended.stdout) == (0, f"{tmp_path / 'b.sqlite'}: 2 kernels, copies and fills\n")
    assert (
        profiles("analyze", tmp_path / "b.sqlite", "--csv", "-").stdout
        == profiles("analyze", report, "--csv", "-").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("analyze", "none.sqlite"), "none.sqlite: no such file"),
        (("analyze", "text.sqlite"), "text.sqlite is damaged, or no SQLite export"),
        (("analyze", "text.qdstrm"), "text.qdstrm was never imported"),
        (("analyze", "text.json"), "text.json is damaged, or no trace of torch's profiler"),
        (("analyze", "a.sqlite", "--run", "nowhere"), "nowhere is not a run directory"),
        (("analyze", "a.sqlite", "--uncaptured", "nowhere"), "--uncaptured needs --run"),
        (("analyze", "a.sqlite", "--csv", "no/such/folder"), "cannot write no/such/folder: No such file or directory"),
        (("cut", "a.sqlite", "a.sqlite", "--range", "r"), "a.sqlite exists"),
        (("cut", "a.sqlite", "b.sqlite", "--range", "("), "--range (: "),
        (("capture", "--collector", "vtune", "--", "true"), "--collector vtune: expected nsys or torch"),
        (("capture", "--range", "name", "--", "true"), "--range name: expected NAME@DOMAIN"),
    ],
)
def test_errors_are_one_line_and_status_2(
    report: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    for name in ("text.sqlite", "text.json", "text.qdstrm"):
        (tmp_path / name).write_text("text\n" * 100)
    ended = profiles(*arguments, cwd=report.parent)
    assert ended.status == 2
    assert ended.error.startswith(message)
    assert ended.stdout == ""


def test_importing_the_command_line_loads_neither_torch_nor_the_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(
        "import sys, profiles.cli\n"
        "print(sorted({'torch', 'plotly', 'nvtx', 'kernels_bench', 'e2e'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "probe.py"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
