"""``report``: show a run's tables again, and write them to files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernels_bench.console import terminal
from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.manifest import Manifest, ResultsError, read_manifest, read_records
from kernels_bench.records.results import AnyRecord, ArmStart, Finished, Timing, Verification
from kernels_bench.report.ci.github import SUMMARY, append_summary, workflow_commands
from kernels_bench.report.ci.junit import junit
from kernels_bench.report.markdown import markdown
from kernels_bench.report.readme_table import overview, write_between
from kernels_bench.report.summary.coverage import relations_left_out
from kernels_bench.report.summary.schema import ArmFact, RunFacts, RunSummary
from kernels_bench.report.summary.summarise import exit_status, summarise_run
from kernels_bench.report.terminal.render import OVERVIEW, Shown, render
from profiles.errors import ExitStatus
from profiles.files import read_file, write_whole
from profiles.run_files.strict_json import strict_json

MOST_DOCUMENT = 64 << 20
"""Bytes of a document into which a table is drawn."""


@dataclass(frozen=True)
class ReportTargets:
    """What to do with a run beside showing it; ``-`` is standard output.

    Attributes:
        json: for the summary as JSON.
        markdown: for the tables as Markdown.
        html: for the page with pictures.
        into: a document between whose markers the overview is drawn anew.
        junit: for JUnit XML.
        github: whether to annotate a workflow of GitHub, and to append to its step's summary.
    """

    json: str | None = None
    markdown: str | None = None
    html: str | None = None
    into: str | None = None
    junit: str | None = None
    github: bool = False

    @property
    def files(self) -> tuple[str | None, ...]:
        """Those that are files, or standard output."""
        return (self.json, self.markdown, self.html, self.junit)

    def refuse_unwritable(self) -> None:
        """Refuse files that cannot be written, as far as that can be known before hours of measuring.

        Raises:
            ResultsError: one of them cannot.
        """
        for target in self.files:
            if target not in (None, "-") and (reason := _why_unwritable(Path(target))):
                raise ResultsError(f"cannot write {target}: {reason}", ExitStatus.INCOMPLETE)


def _why_unwritable(file: Path) -> str:
    try:
        place = Path(os.path.realpath(file))
        if place.is_dir():
            return os.strerror(errno.EISDIR)
        if not place.parent.exists():
            return os.strerror(errno.ENOENT)
        # A file is written beside the one that it replaces; what is none, such as a pipe, is written to.
        needed = (
            [place] if place.exists() and not place.is_file() else [place.parent, *([place] if place.exists() else [])]
        )
    except (OSError, ValueError) as error:  # no file can have such a name
        return getattr(error, "strerror", None) or str(error)
    return "" if all(os.access(one, os.W_OK) for one in needed) else os.strerror(errno.EACCES)


def report(directory: Path, targets: ReportTargets, shown: Shown = OVERVIEW) -> int:
    """Write the files asked for and show a run's tables; returns the exit status that the run deserves.

    The tables come last, since they say the exit status, which is another one where a file cannot be written.

    Raises:
        ResultsError: the directory is no run, or a file cannot be written.
    """
    records, summary = _read(directory)
    _refuse_unknown(shown.operators, summary)
    texts: tuple[tuple[str | None, Callable[[RunSummary], str]], ...] = (
        (targets.json, strict_json),
        (targets.markdown, markdown),
        (targets.html, partial(_page, records)),
        (targets.junit, partial(_junit, records)),
    )
    if targets.into is not None:
        _draw_into(Path(targets.into), overview(summary), directory.resolve().name)
    for target, text_of in sorted(texts, key=lambda text: text[0] == "-"):
        if target is not None:
            write(target, text_of(summary))
    if targets.github:
        _tell_github(summary)
    if "-" not in targets.files:
        render(summary, terminal.console(), shown)
    return exit_status(summary)


def _page(records: Sequence[AnyRecord], summary: RunSummary) -> str:
    from kernels_bench.report.html.page import page  # the template engine is for those who want a page

    return page(summary, latest_records(records))


def _junit(records: Sequence[AnyRecord], summary: RunSummary) -> str:
    return junit(latest_records(records), summary)


def _tell_github(summary: RunSummary) -> None:
    for line in workflow_commands(summary):
        print(line)
    try:
        append_summary(summary)
    except OSError as error:
        raise ResultsError(f"cannot append to {SUMMARY}: {error.strerror}", ExitStatus.INCOMPLETE) from error


def _refuse_unknown(operators: Sequence[str], summary: RunSummary) -> None:
    known = [operator.operator for operator in summary.operators]
    if unknown := [name for name in operators if name not in known]:
        raise ResultsError(f"the run has no operator {unknown[0]}; it has {', '.join(known)}", ExitStatus.USAGE)


def summary_of(directory: Path) -> RunSummary:
    """What a run found out.

    Raises:
        ResultsError: the directory is no run, or is damaged.
    """
    return _read(directory)[1]


def _read(directory: Path) -> tuple[Sequence[AnyRecord], RunSummary]:
    records = list(read_records(directory))
    return records, summarise_run(records, _facts(directory, read_manifest(directory), records))


def _draw_into(document: Path, drawn: str, name: str) -> None:
    try:
        write_whole(document, write_between(read_file(document, MOST_DOCUMENT).decode(), drawn, name))
    except OSError as error:
        raise ResultsError(f"cannot draw into {document}: {error.strerror}", ExitStatus.INCOMPLETE) from error
    except ValueError as error:
        raise ResultsError(f"cannot draw into {document}: {error}", ExitStatus.INCOMPLETE) from error


def _facts(directory: Path, manifest: Manifest, records: Sequence[AnyRecord]) -> RunFacts:
    """What a report says of the run beside its results."""
    provenance = {record.arm: record.provenance for record in records if isinstance(record, ArmStart)}
    measured = [record for record in records if isinstance(record, Verification | Timing)]
    done = {(record.kind, record.key) for record in measured}
    selection, of_operators = manifest.selection, {record.case.operator for record in measured}
    own = any(record.case.shape.sizes for record in measured)
    return RunFacts(
        device=manifest.device,
        arms=tuple(
            ArmFact(
                name=arm.name,
                claims=arm.claims,
                provenance=provenance.get(arm.process, ""),
                unavailable=arm.unavailable,
                plugin=arm.plugin,
                default_for=arm.default_for,
            )
            for arm in manifest.arms
        ),
        directory=str(directory),
        environment=manifest.environment,
        seconds=sum(record.seconds for record in records if isinstance(record, Finished)) or None,
        command=manifest.command,
        missing=max(0, manifest.planned - len(done)),
        relations_left_out=relations_left_out(
            () if selection.only == "time" else selection.relation, of_operators, manifest.device, own
        ),
        sizes_left_out=manifest.schema_version < 3 and (selection.quick or selection.batch is not None),
        partial_accepted=selection.partial,
    )


def write(target: str, text: str) -> None:
    """Write a text to a file; ``-`` is standard output.

    Raises:
        ResultsError: the file cannot be written.
    """
    if target == "-":
        print(text)
        return
    try:
        write_whole(Path(target), text + "\n")
    except (OSError, ValueError) as error:  # the latter where no file can have such a name
        reason = getattr(error, "strerror", None) or str(error)
        raise ResultsError(f"cannot write {target}: {reason}", ExitStatus.INCOMPLETE) from error
