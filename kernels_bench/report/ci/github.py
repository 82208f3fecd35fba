"""A run for GitHub Actions: an annotation for each finding, and the step's summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kernels_bench.report.readme_table import overview
from kernels_bench.report.sentences import finding_text, notice_text, outcome
from kernels_bench.report.summary.schema import GRAVE_WARNINGS, RunSummary
from kernels_bench.report.summary.summarise import exit_status
from profiles.text import inert

SUMMARY = "GITHUB_STEP_SUMMARY"
"""GitHub's variable for the file that a step's summary is appended to."""


def workflow_commands(summary: RunSummary) -> Iterator[str]:
    """GitHub's workflow commands, a line each: an error for what fails the run, a warning for what was not measured."""
    for arm in summary.arms:
        for finding in arm.findings:
            fails = finding.kind == "wrong" or arm.broken_claims
            text = f"{finding_text(arm.arm, finding)}\n{finding.command}"
            yield _command("error" if fails else "notice", f"samebits: {arm.arm}", text)
    for notice in summary.notices:
        if notice.kind in GRAVE_WARNINGS:
            yield _command("warning", "samebits", notice_text(notice))


def step_summary(summary: RunSummary) -> str:
    """The run's answer and its matrix, as Markdown."""
    findings = [
        f"- {finding_text(arm.arm, finding)}\n\n  ```sh\n  {finding.command}\n  ```"
        for arm in summary.arms
        for finding in arm.findings[:1]
    ]
    sign = "✅" if exit_status(summary) == 0 else "❌"
    return (
        "\n\n".join([f"## samebits\n\n{sign} {outcome(summary)}", overview(summary), "\n".join(findings)]).rstrip()
        + "\n"
    )


def append_summary(summary: RunSummary, environment: Mapping[str, str] = os.environ) -> bool:
    """Append the summary to the step's; whether there is one, which is so in a workflow of GitHub only.

    Raises:
        OSError: it cannot be written.
    """
    target = environment.get(SUMMARY, "")
    if not target:
        return False
    with Path(target).open("a", encoding="utf-8") as file:
        file.write(step_summary(summary))
    return True


def _command(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={_property(title)}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return "\n".join(map(inert, text.splitlines())).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
