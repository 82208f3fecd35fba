"""One command from start to end: find out what is here, plan, run, report."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kernels_bench.commands.run.measure import Runner
from kernels_bench.commands.run.prestart import HeadStart, expected_gpu, hidden_beside
from kernels_bench.commands.run.replay import replay
from kernels_bench.commands.workload import Plan, UsageError, make_plan
from kernels_bench.console import terminal
from kernels_bench.console.progress import Display, display_for
from kernels_bench.records.cases import Case, at_token
from kernels_bench.records.manifest import (
    Manifest,
    ResultsError,
    RunDirectory,
    Selection,
    default_directory,
    read_manifest,
    read_records,
    timestamp,
)
from kernels_bench.records.rerun_commands import command_line
from kernels_bench.records.results import AnyRecord, ArmStart, Counterexample, Finished, Timing, Verification
from kernels_bench.relations.base import Comparison
from kernels_bench.relations.base import company as make_company
from kernels_bench.report.readme_table import overview, write_between
from kernels_bench.report.summary.coverage import relations_left_out
from kernels_bench.report.summary.findings_text import apart, most_apart
from kernels_bench.report.summary.schema import ArmFact, RunFacts, RunSummary
from kernels_bench.report.summary.summarise import exit_status, summarise_run
from kernels_bench.report.terminal import markdown, render, to_json
from kernels_bench.workers.messages import Catalogue, Failure, Reproduce, Reproduced
from kernels_bench.workers.pool import Crew
from kernels_bench.workers.process import WorkerError, read_catalogue
from profiles.instruments.environment import Environment, read_environment_with
from profiles.instruments.ranges import RangesNotRecorded

INTERRUPTED_STATUS = 130

PARALLEL = {"cuda": 6, "cpu": 2}
"""Workers that verify at once: while one waits, compiles or uses one core only, another computes.

Processes take turns on a GPU, so that more of them give little once all is compiled (180 cases on an H100: 29 s with
one, 24 s with two, 23 s with three or five).
"""

_ROOM = 0.7
"""Of a GPU's memory, what all cases that are verified at once may take; reading orders and the processes take some."""


@dataclass(frozen=True)
class Outputs:
    """What to do with a run beside showing it; ``-`` is standard output.

    Attributes:
        json: for the summary as JSON.
        markdown: for the tables as Markdown.
        into: a document between whose markers the overview is drawn anew.
        replay: whether a profiler is to see parts of it once more, see `kernels_bench.commands.run.replay`.
    """

    json: str | None = None
    markdown: str | None = None
    into: str | None = None
    replay: bool = False


def catalogue_of(selection: Selection, meanwhile: Callable[[], None] = lambda: None) -> Catalogue:
    """What could be run here; it takes seconds to find out, in which ``meanwhile`` is called.

    Raises:
        WorkerError: a plugin cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return read_catalogue(selection.plugin, Path(scratch) / "catalogue.log", meanwhile, selection.timeout_s)


def begin(selection: Selection, out: Path | None, command: str, outputs: Outputs) -> int:
    """A new run; returns the exit status.

    Raises:
        UsageError: the selection makes no sense.
        ResultsError: the results cannot be written.
        WorkerError: nothing can be run.
    """
    started = time.perf_counter()
    with HeadStart(selection, hidden_beside(out or default_directory())) as early:
        catalogue = catalogue_of(selection, lambda: early.start(expected_gpu()))
        plan = make_plan(catalogue, selection)
        manifest = Manifest(
            created=timestamp(),
            command=command,
            selection=selection,
            device=catalogue.device,
            arms=(*plan.arms, *plan.left_out),
            planned=plan.planned,
            environment=_environment(catalogue),
        )
        # Only now, since another run may have taken a default name meanwhile.
        run = RunDirectory.create(out or default_directory(), manifest)
        return _run(plan, run, early, outputs, started)


def go_on(directory: Path, typed: Selection, out: Path | None, outputs: Outputs) -> int:
    """Go on with a run, with the options it was begun with; returns the exit status.

    Raises:
        UsageError: options that belong to a new run.
        ResultsError: the directory is no run, or of another environment.
    """
    if typed != Selection() or out is not None:
        raise UsageError(f"--resume {directory} takes its options from the run itself; leave the others out")
    started = time.perf_counter()
    run = RunDirectory.resume(directory)
    selection = run.manifest.selection
    with HeadStart(selection, run.path / "logs") as early:
        catalogue = catalogue_of(selection, lambda: early.start(expected_gpu()))
        run.refuse_other_environment(_environment(catalogue), catalogue.device, catalogue.arms)
        return _run(make_plan(catalogue, selection), run, early, outputs, started)


def _environment(catalogue: Catalogue) -> Environment:
    return read_environment_with(catalogue.device.uuid, lambda line: print(f"kernels_bench: {line}", file=sys.stderr))


def _run(plan: Plan, run: RunDirectory, early: HeadStart, outputs: Outputs, started: float) -> int:
    interrupted = False
    try:
        with display_for(terminal.console(stderr=True)) as display:
            _announce(plan, run, display)
            _work(plan, run, early, display, outputs.replay)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        with suppress(ResultsError):  # the disk may be what failed
            run.append(Finished(seconds=time.perf_counter() - started))
        run.close()
    status = report(run.path, outputs)
    if interrupted:
        again = command_line(options={"resume": str(run.path)})
        print(f"kernels_bench: interrupted; go on with {again}", file=sys.stderr)
        return INTERRUPTED_STATUS
    return status


def _announce(plan: Plan, run: RunDirectory, display: Display) -> None:
    device = run.manifest.device
    display.note(f"{device.name}: {', '.join(arm.name for arm in plan.arms)}; results in {run.path}")
    if device.below_sm90:
        display.note("this GPU is older than SM90, for which these kernels were made; everything runs that can")
    for arm in plan.arms:
        if arm.caveat:
            display.note(f"{arm.name}: {arm.caveat}")
    for reason in dict.fromkeys(arm.unavailable for arm in plan.left_out):
        names = (arm.name for arm in plan.left_out if arm.unavailable == reason)
        display.note(f"without {', '.join(names)}: {reason}")


def _work(plan: Plan, run: RunDirectory, early: HeadStart, display: Display, again: bool) -> None:
    def came_up(start: ArmStart) -> None:
        run.append(start)
        display.note(f"{start.arm}: {start.provenance}, loaded in {start.seconds:.1f} s")

    on_cpu = run.manifest.device.type == "cpu"
    timeout_s, facts = run.manifest.selection.timeout_s, run.manifest.environment.device
    total = facts.memory_total_bytes if facts is not None else None
    room = None if total is None else int(_ROOM * total)
    with Crew(plan.arms, run.path / "logs", timeout_s, came_up, plan.helpers, room) as crew:
        early.hand_over(crew)
        crew.start()
        Runner(plan, crew, run, display, parallel=PARALLEL["cpu" if on_cpu else "cuda"]).run()
        if again:
            with suppress(RangesNotRecorded):  # the workers said so already: without ranges they do not start
                replay(plan, crew, read_records(run.path, samples=True), display)


def report(directory: Path, outputs: Outputs) -> int:
    """Show a run's tables and write the files asked for; returns the exit status that the run deserves.

    Raises:
        ResultsError: the directory is no run, or a file cannot be written.
    """
    summary = summary_of(directory)
    texts = ((outputs.json, to_json), (outputs.markdown, markdown))
    if "-" not in (outputs.json, outputs.markdown):
        render(summary, terminal.console())
    for target, text_of in texts:
        if target is not None:
            write(target, text_of(summary))
    if outputs.into is not None:
        _draw_into(Path(outputs.into), overview(summary), directory.resolve().name)
    return exit_status(summary)


def summary_of(directory: Path) -> RunSummary:
    """What a run found out.

    Raises:
        ResultsError: the directory is no run, or is damaged.
    """
    records = list(read_records(directory))
    return summarise_run(records, _facts(directory, read_manifest(directory), records))


def _draw_into(document: Path, drawn: str, name: str) -> None:
    try:
        document.write_text(write_between(document.read_text(), drawn, name))
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot draw into {document}: {error}", status=3) from error


def _facts(directory: Path, manifest: Manifest, records: Sequence[AnyRecord]) -> RunFacts:
    provenance = {record.arm: record.provenance for record in records if isinstance(record, ArmStart)}
    measured = [record for record in records if isinstance(record, Verification | Timing)]
    done = {(record.kind, record.key) for record in measured}
    selection, of_operators = manifest.selection, {record.case.operator for record in measured}
    return RunFacts(
        device=manifest.device,
        arms=tuple(
            ArmFact(
                name=arm.name,
                claims=arm.claims,
                provenance=provenance.get(arm.name, ""),
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
        relations_left_out=relations_left_out(selection.relation, of_operators, manifest.device),
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
        Path(target).write_text(text + "\n")
    except OSError as error:
        raise ResultsError(f"cannot write {target}: {error.strerror}", status=3) from error


def reproduce_one(
    selection: Selection, universe: int, comparison: Comparison, console: Console
) -> Counterexample | None:
    """One comparison alone, in a worker of its own.

    Raises:
        UsageError: an unknown name or company.
        WorkerError: the arm cannot do it.
    """
    plan = make_plan(catalogue_of(selection), selection)
    for spec in (comparison.reference, comparison.company):
        try:
            make_company(spec, universe)
        except ValueError as error:
            raise UsageError(str(error)) from None
    case = plan.cases[0]
    request = Reproduce(
        case=case,
        seed=selection.seed,
        universe=universe,
        relation=plan.relations[0],
        reference=comparison.reference,
        company=comparison.company,
        launch=comparison.launch,
    )
    with (
        tempfile.TemporaryDirectory() as scratch,
        Crew(plan.arms, Path(scratch), selection.timeout_s) as crew,
    ):
        crew.start()
        reply = crew.ask(case.arm, request)
    if isinstance(reply, Failure):
        raise WorkerError(f"{case.key}: {reply.reason}")
    assert isinstance(reply, Reproduced)
    _show(case, comparison, reply.counterexample, console)
    return reply.counterexample


def _show(case: Case, comparison: Comparison, found: Counterexample | None, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    where = f"{case.key}: {comparison.company} ({comparison.launch}) against {comparison.reference}"
    if found is None:
        say(f"{where}: all bits agree")
        return
    say(f"{where}: {found.rows} of {found.rows_compared} rows differ, in {found.elements} elements")
    say(
        f"first: row {found.row}{at_token(found.token)} "
        f"(position {found.reference.position}, then {found.company.position}), "
        f"element {found.index}: {found.expected!r} ({found.expected_bits}) became {found.got!r} "
        f"({found.got_bits}), which differ by {apart(found)}; at most by {most_apart(found)} anywhere"
    )
