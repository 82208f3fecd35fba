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
from profiles.command_line import CommandLine, Version, refuse_several_outputs, say
from profiles.errors import CommandError, ReportError
from profiles.files import written_whole
from profiles.invocation import called
from profiles.output.csv_table import write_csv
from profiles.output.text import in_words
from profiles.trace.cut import cut

app = CommandLine("profiles")


@app.callback()
def profiles(version: Version = False) -> None:
    """Record a run with a profiler, and explain what it recorded."""


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
) -> int:
    """Record the command after --.

    Such as a run of kernels_bench: capture -- kernels-bench --quick.

    Recording slows kernels down. So a run of kernels_bench is recorded when it is over: it then does what it timed, and
    its counterexamples, once more. --whole, or a --range, records the run itself.

    Exit status: the command's own; 2 if it was not started; 3 if it succeeded but nothing was recorded.
    """
    _check_collector(collector, range_, nsys_option)
    place = out or default_directory()
    if collector == "torch":
        captured = capture_with_torch(command, place, app.warn)
    else:
        line, chosen = (None if whole or range_ else after_the_run(command)) or (command, range_)
        captured = capture_with_nsys(line, place, chosen, app.warn, nsys_option or ())
    if captured.reports:
        app.warn(f"recorded: {shlex.join([*called('profiles'), 'analyze', str(place / captured.reports[0])])}")
    return captured.exit_status


def _check_collector(collector: str, range_: str | None, nsys_options: list[str] | None) -> None:
    if collector not in get_args(Collector):
        raise CommandError(f"--collector {collector}: expected nsys or torch")
    if range_ is not None and not all(range_.partition("@")):
        such = "--range 'verify/torch/mm/64x64/bf16@kernels_bench'"
        raise CommandError(f"--range {range_}: expected NAME@DOMAIN, such as {such}")
    if range_ is not None and collector == "torch":
        raise CommandError("--range needs --collector nsys: torch's profiler records every range")
    if nsys_options and collector == "torch":
        raise CommandError("--nsys-option needs --collector nsys")


@app.command("analyze")
def analyze_command(
    report: Annotated[Path, typer.Argument(help=".nsys-rep, its .sqlite export, torch's (.json), or an NPU's (.db).")],
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
        raise CommandError("--uncaptured needs --run: the run that was recorded")
    refuse_several_outputs(csv=csv, json=json, html=html)
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
    if "-" not in (csv, json, str(html)):
        say(in_words(analysis))


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
    left = cut(report, to, range_)
    say([f"{to}: {left} kernels, copies and fills"])


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """A file to write, or standard output for ``-``."""
    if name == "-":
        yield sys.stdout
        return
    try:
        with written_whole(Path(name)) as file:
            yield file
    except (OSError, ValueError) as error:  # the latter where no file can have such a name
        raise ReportError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from error


def main() -> NoReturn:
    """Entry point."""
    app.main()
