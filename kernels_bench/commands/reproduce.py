"""``reproduce``: one comparison alone."""

from __future__ import annotations

import tempfile
from math import isfinite
from pathlib import Path

from rich.console import Console

from kernels_bench.commands.workload import make_workload
from kernels_bench.console.errors import UsageError
from kernels_bench.records.cases import Case, at_token
from kernels_bench.records.results import Counterexample
from kernels_bench.records.selection import Selection
from kernels_bench.relations.base import Comparison
from kernels_bench.relations.batch_kinds import make_batch
from kernels_bench.report.summary.findings_text import apart, most_apart
from kernels_bench.workers.ask_catalogue import catalogue_of
from kernels_bench.workers.messages import Failure, Reproduce, Reproduced
from kernels_bench.workers.pool import WorkerPool
from kernels_bench.workers.process import WorkerError
from kernels_bench.workers.scratch import scratch
from profiles.text import inert


def reproduce_one(
    selection: Selection, universe: int, comparison: Comparison, console: Console
) -> Counterexample | None:
    """One comparison alone, in a worker of its own.

    Raises:
        UsageError: an unknown name or company.
        WorkerError: the arm cannot do it.
    """
    workload = make_workload(catalogue_of(selection), selection)
    for spec in (comparison.reference, comparison.company, *(comparison.before or ())):
        try:
            make_batch(spec, universe)
        except ValueError as error:
            raise UsageError(str(error)) from None
    case = workload.cases[0]
    request = Reproduce(
        case=case,
        seed=selection.seed,
        universe=universe,
        lengths=workload.sweeps[case.operator].lengths,
        relation=workload.relations[0],
        reference=comparison.reference,
        company=comparison.company,
        launch=comparison.launch,
        before=comparison.before,
    )
    with (
        tempfile.TemporaryDirectory(dir=scratch()) as logs,
        WorkerPool(workload.arms, Path(logs), selection.timeout_s) as pool,
    ):
        pool.start()
        reply = pool.ask(case.arm, request)
    if isinstance(reply, Failure):
        raise WorkerError(f"{case.key}: {reply.reason}")
    assert isinstance(reply, Reproduced)
    _show(case, comparison, reply.counterexample, console)
    return reply.counterexample


def _at_most(found: Counterexample) -> str:
    whole = found.max_ulp is None and isfinite(found.expected) and isfinite(found.got)
    return "" if whole else f"; at most by {most_apart(found)} anywhere"


def _show(case: Case, comparison: Comparison, found: Counterexample | None, console: Console) -> None:
    def say(text: str) -> None:
        console.print(inert(text), markup=False, highlight=False, soft_wrap=True)

    where = f"{case.key}: {comparison.company} ({comparison.launch}) against {comparison.reference}"
    if found is None:
        say(f"{where}: all bits agree")
        return
    say(f"{where}: {found.rows} of {found.rows_compared} rows differ, in {found.elements} elements")
    say(
        f"first: row {found.row}{at_token(found.token)} "
        f"(position {found.reference.position}, then {found.company.position}), "
        f"element {found.index}: {found.expected!r} ({found.expected_bits}) became {found.got!r} "
        f"({found.got_bits}), which differ by {apart(found)}{_at_most(found)}"
    )
