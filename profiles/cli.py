"""The command line of ``python -m profiles``.  Options are read here; nothing is recorded or analysed here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TextIO, get_args

import typer

from profiles.analysis.analyse import analyse
from profiles.capture.recorder import (
    Collector,
    after_the_run,
    capture_with_nsys,
    capture_with_torch,
    default_directory,
)
from profiles.errors import ReportError
from profiles.invocation import called, note_call
from profiles.output.csv_table import write_csv
from profiles.output.text import in_words
from profiles.trace.cut import cut

USAGE_STATUS, LOST_STATUS, INTERRUPTED_STATUS = 2, 3, 130

app = typer.Typer(
    add_completion=False,
    help="Record a run with a profiler, and explain what it recorded.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def fail(message: str, status: int) -> NoReturn:
    """End with one clear line on standard error."""
    warn(message)
    raise typer.Exit(status)


def warn(message: str) -> None:
    """Say one clear line on standard error."""
    print(f"profiles: {message}", file=sys.stderr)


@app.command("capture")
def capture_command(
    command: Annotated[list[str], typer.Argument(help="After --: the command to record.")],
    out: Annotated[
        Path | None,
        typer.Option(help="New directory for the report.  [default: samebits-profiles/DATE]", metavar="DIR"),
    ] = None,
    range_: Annotated[
        str | None, typer.Option("--range", help="Record only this NVTX range.  [default: all]", metavar="NAME@DOMAIN")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="A run of kernels_bench: record all of it, at a cost to its medians.")
    ] = False,
    collector: Annotated[str, typer.Option(help="nsys, or torch: its own profiler, in process.")] = "nsys",
    nsys_option: Annotated[
        list[str] | None,
        typer.Option(help="A further option for nsys profile; may be repeated.", metavar="--NAME=VALUE"),
    ] = None,
) -> None:
    """Record the command after --.

    Such as a run of kernels_bench: capture -- kernels-bench --quick.

    Recording slows kernels down. So a run of kernels_bench is recorded when it is over: it then does what it timed, and
    its counterexamples, once more. --whole, or a --range, records the run itself.

    Exit status: the command's own; 2 if it was not started; 3 if it succeeded but nothing was recorded.
    """
    if collector not in get_args(Collector):
        fail(f"--collector {collector}: expected nsys or torch", USAGE_STATUS)
    if range_ is not None and not all(range_.partition("@")):
        fail(
            f"--range {range_}: expected NAME@DOMAIN, such as --range 'verify/torch/mm/64x64/bf16@kernels_bench'",
            USAGE_STATUS,
        )
    if range_ is not None and collector == "torch":
        fail("--range needs --collector nsys: torch's profiler records every range", USAGE_STATUS)
    if nsys_option and collector == "torch":
        fail("--nsys-option needs --collector nsys", USAGE_STATUS)
    place = out or default_directory()
    with _reporting():
        if collector == "torch":
            captured = capture_with_torch(command, place, warn)
        else:
            line, chosen = (None if whole or range_ else after_the_run(command)) or (command, range_)
            captured = capture_with_nsys(line, place, chosen, warn, nsys_option or ())
        if captured.reports:
            warn(f"recorded: {shlex.join([*called('profiles'), 'analyze', str(place / captured.reports[0])])}")
    raise typer.Exit(captured.exit_status)


@app.command("analyze")
def analyze_command(
    report: Annotated[Path, typer.Argument(help=".nsys-rep, its .sqlite export, or a torch trace (.json).")],
    run: Annotated[Path | None, typer.Option(help="The kernels_bench run that was recorded.", metavar="DIR")] = None,
    uncaptured: Annotated[
        Path | None, typer.Option(help="The same run without a profiler: tells what recording costs.", metavar="DIR")
    ] = None,
    csv: Annotated[
        str | None, typer.Option(help="Write ranges and kernels (- for standard output).", metavar="FILE")
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write everything (- for standard output).", metavar="FILE")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with pictures.", metavar="FILE")] = None,
) -> None:
    """Say what ran in which range.

    With --run, its medians are checked and its verdicts explained.

    Exit status: 0; 2 if the report or the run cannot be read.
    """
    if uncaptured is not None and run is None:
        fail("--uncaptured needs --run: the run that was recorded", USAGE_STATUS)
    with _reporting():
        analysis = analyse(report, run, uncaptured)
        if csv is not None:
            with _opened(csv) as file:
                write_csv(analysis.ranges, file)
        if json is not None:
            with _opened(json) as file:
                file.write(analysis.model_dump_json(indent=2) + "\n")
        if html is not None:
            from profiles.output.html_page import page  # it brings plotly, which nothing else needs

            with _opened(str(html)) as file:
                file.write(page(analysis))
        if "-" not in (csv, json):
            print("\n".join(in_words(analysis)))


@app.command("cut")
def cut_command(
    report: Annotated[Path, typer.Argument(help="An SQLite export of nsys.")],
    to: Annotated[Path, typer.Argument(help="The new, smaller export.")],
    range_: Annotated[
        str,
        typer.Option(
            "--range", help="Which ranges to keep: a regular expression over domain:message.", metavar="PATTERN"
        ),
    ],
) -> None:
    """Cut a report to some ranges.

    Environment, paths and names of machines are left out, so that it can be kept or given away.
    """
    with _reporting():
        left = cut(report, to, range_)
    print(f"{to}: {left} kernels, copies and fills")


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """A file to write, or standard output for ``-``."""
    if name == "-":
        yield sys.stdout
        return
    try:
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise ReportError(f"cannot write {name}: {error.strerror}") from error


@contextmanager
def _reporting() -> Iterator[None]:
    """Every error that is the user's to mend ends as one line and the right exit status."""
    try:
        yield
    except ReportError as error:
        fail(str(error), error.status)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED_STATUS)


def main() -> None:
    """Entry point."""
    note_call()
    app(prog_name=" ".join(called("profiles")))
