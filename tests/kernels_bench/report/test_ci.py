"""JUnit XML and GitHub's annotations say what the exit status says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.results import AnyRecord
from kernels_bench.report.ci.github import SUMMARY, append_summary, step_summary, workflow_commands
from kernels_bench.report.ci.junit import junit
from kernels_bench.report.summary.summarise import exit_status, summarise_run
from support.records import HIDDEN, O_PROJ, broken, case, ended, facts, held, verified


def suites(records: Sequence[AnyRecord], **changes: Any) -> dict[str, ElementTree.Element]:
    text = junit(latest_records(records), summarise_run(records, facts(**changes)))
    return {suite.get("name", ""): suite for suite in ElementTree.fromstring(text)}


def counts(suite: ElementTree.Element) -> tuple[str | None, ...]:
    return tuple(suite.get(name) for name in ("tests", "failures", "errors", "skipped"))


RECORDS: list[AnyRecord] = [
    verified(case("torch", "mm", O_PROJ), held(), broken(5)),
    verified(case("samebits", "mm", O_PROJ), held()),
    verified(case("cublas-restricted", "mm", O_PROJ), held(), broken(5)),
    ended(case("samebits", "rms_norm", HIDDEN), "failed", "killed"),
    ended(case("cublas-restricted", "rms_norm", HIDDEN), "unsupported", "none"),
]


def test_a_case_fails_where_its_arm_claims_what_broke() -> None:
    found = suites(RECORDS)
    assert counts(found["cublas-restricted"]) == ("2", "1", "0", "1")
    assert counts(found["samebits"]) == ("2", "0", "1", "0")
    failure = found["cublas-restricted"].find("testcase/failure")
    assert failure is not None
    assert "python -m kernels_bench reproduce" in (failure.text or "")


def test_what_changes_bits_and_claims_nothing_fails_no_test_and_is_told() -> None:
    suite = suites(RECORDS)["torch"]
    assert counts(suite) == ("1", "0", "0", "0")
    told = suite.find("testcase/system-out")
    assert told is not None
    assert "batch_size" in (told.text or "")


@given(st.text())
def test_whatever_a_reason_holds_the_xml_can_be_read(reason: str) -> None:
    suites([ended(case("samebits", "mm", O_PROJ), "failed", reason)])


def test_annotations_are_one_line_each_and_errors_only_where_the_run_fails() -> None:
    summary = summarise_run(RECORDS, facts())
    lines = list(workflow_commands(summary))
    assert all("\n" not in line and line.startswith("::") for line in lines)
    kinds = {line.split(" title=samebits%3A ")[1].split("::")[0]: line[2:].split(" ")[0] for line in lines[:2]}
    assert kinds == {"torch": "notice", "cublas-restricted": "error"}
    assert any(line.startswith("::warning") and "killed" in line for line in lines)


def test_the_steps_summary_is_appended_where_there_is_one(tmp_path: Path) -> None:
    summary, file = summarise_run(RECORDS, facts()), tmp_path / "summary.md"
    file.write_text("before\n")
    assert append_summary(summary, {SUMMARY: str(file)})
    assert file.read_text() == "before\n" + step_summary(summary)
    assert exit_status(summary) == 1
    assert "❌" in step_summary(summary)
    assert not append_summary(summary, {})


@pytest.mark.parametrize(("text", "escaped"), [("50 %.", "50 %25."), ("a\rb", "a%0Ab"), ("::error::a", "a")])
def test_what_github_reads_as_a_command_is_escaped(text: str, escaped: str) -> None:
    records = [ended(case("samebits", "mm", O_PROJ), "failed", text)]
    (line,) = workflow_commands(summarise_run(records, facts()))
    assert escaped in line
    assert not {"\r", "\n"} & {*line}
    assert line.startswith("::warning title=samebits::")
