"""Where a report comes from, by the report and by the files beside it."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from profiles.analysis.origin import origin
from profiles.analysis.schema import Origin, Told
from support.profiler_reports import CAPTURED, Span, h100_report, profiles, write_report

GPU = "NVIDIA H100 80GB HBM3"
RUN = "python -m kernels_bench --quick --op mm,rms_norm,mean --arm torch,vllm,samebits"


def small_report(place: Path) -> Path:
    return write_report(place / "report.sqlite", [Span("r", 0, 9)], [])


def whole_report(place: Path) -> Path:
    """With the tables in which Nsight Systems names the machine's GPUs and the time."""
    report = small_report(place)
    with closing(sqlite3.connect(report)) as database:
        database.execute("CREATE TABLE TARGET_INFO_GPU (vmId INTEGER, id INTEGER, name TEXT, busLocation TEXT)")
        database.executemany("INSERT INTO TARGET_INFO_GPU VALUES (0, ?, ?, '0000:00:1e.0')", [(0, GPU), (1, GPU)])
        database.execute(
            "CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER, utcTime TEXT, localTime TEXT)"
        )
        database.execute("INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (1795357446123456789, '', '')")
        database.commit()
    return report


def with_capture(place: Path, **record: object) -> None:
    told = {"created": "2026-11-23T03:14:03Z", "command": "python mine.py", "reports": ["report.sqlite"]}
    (place / "capture.json").write_text(json.dumps(told | record))


def test_a_run_tells_all_of_a_report_that_tells_nothing() -> None:
    by = "run.json of the run"
    told = Origin(
        device=Told(value=GPU, by=by), created=Told(value="2026-11-22T14:24:05Z", by=by), command=Told(value=RUN, by=by)
    )
    assert origin(h100_report(), CAPTURED) == (told, ())
    assert origin(h100_report()) == (Origin(), ())


def test_the_record_of_the_capture_goes_before_the_report_and_the_run(tmp_path: Path) -> None:
    report = whole_report(tmp_path)
    with_capture(tmp_path)
    found, notes = origin(report, CAPTURED)
    assert found.command == Told(value="python mine.py", by="capture.json")
    assert found.created == Told(value="2026-11-23T03:14:03Z", by="capture.json")
    assert found.device == Told(value=GPU, by="the report")
    assert notes == ()


def test_a_whole_report_tells_its_gpu_and_date(tmp_path: Path) -> None:
    found, _ = origin(whole_report(tmp_path))
    assert (found.device, found.command) == (Told(value=GPU, by="the report"), None)
    assert found.created == Told(value="2026-11-22T14:24:06Z", by="the report")


def test_a_record_of_another_report_is_not_believed(tmp_path: Path) -> None:
    with_capture(tmp_path, reports=["other.sqlite"])
    assert origin(small_report(tmp_path)) == (Origin(), ())


def test_a_damaged_record_is_noted_and_the_report_analysed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "capture.json").write_text('{"created": ')
    ended = profiles("analyze", small_report(tmp_path), "--html", tmp_path / "page.html")
    assert (ended.status, ended.stderr) == (0, "")
    assert "- capture.json is damaged and left out: Invalid JSON" in ended.stdout
    assert "capture.json is damaged and left out" in (tmp_path / "page.html").read_text()


def test_what_the_capture_recorded_is_the_title_of_its_page(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import torch; torch.ones(2) + 1"]
    ended = profiles("capture", "--collector", "torch", "--out", tmp_path / "out", "--", *command)
    assert ended.status == 0, ended.stderr
    capture = json.loads((tmp_path / "out" / "capture.json").read_text())
    report = tmp_path / "out" / "report.json.gz"
    assert profiles("analyze", report, "--html", tmp_path / "page.html").status == 0
    title = f"{capture['created'][:10]} {capture['created'][11:16]} UTC · {capture['command']} · report.json.gz"
    page = (tmp_path / "page.html").read_text()
    assert f"<title>{title.replace('&', '&amp;').replace(chr(39), '&#x27;')}</title>" in page
    assert "<h1><span class='unknown'>GPU unknown</span> <time>" in page


def test_no_name_of_the_machine_gets_into_the_page(tmp_path: Path) -> None:
    report = whole_report(tmp_path)
    with closing(sqlite3.connect(report)) as database:
        database.execute(
            "CREATE TABLE TARGET_INFO_SYSTEM_ENV (globalVid INTEGER, devStateName TEXT, name TEXT, value TEXT)"
        )
        database.execute("INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES (0, '', 'Hostname', 'the-hosts-name')")
        database.commit()
    with_capture(tmp_path, tool_command="/home/user/nsys profile")
    assert profiles("analyze", report, "--html", tmp_path / "page.html").status == 0
    page = (tmp_path / "page.html").read_text()
    assert GPU in page
    assert "the-hosts-name" not in page
    assert "/home/user" not in page
