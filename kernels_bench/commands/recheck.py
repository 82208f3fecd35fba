"""``recheck``: make every counterexample of a run again, in fresh workers, and see that no bit of it changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kernels_bench.commands.counterexamples import reproductions
from kernels_bench.commands.workload import make_workload
from kernels_bench.console.errors import UsageError
from kernels_bench.console.progress import Display
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import Case, Device
from kernels_bench.records.latest_records import latest_records
from kernels_bench.records.manifest import read_manifest, read_records
from kernels_bench.records.results import Counterexample, was_same_data
from kernels_bench.records.selection import Selection
from kernels_bench.workers.ask_catalogue import catalogue_of
from kernels_bench.workers.messages import Failure, Reply, Reproduce, Reproduced
from kernels_bench.workers.pool import PARALLEL, WorkerPool
from kernels_bench.workers.scratch import scratch
from profiles.errors import ExitStatus
from profiles.instruments.environment import read_environment
from profiles.run_files.record import Record

OTHER_DATA = "the samebits that found it made other rows, or may have: it cannot be made again with these"
REPEAT = "repeat"
"""The relation of a company with itself."""


class Rechecked(Record):
    """One counterexample, made again.

    Attributes:
        case: where.
        then: as the run has it.
        now: as it came out; None where the bits agree now.
        reason: why it could not be tried; empty if it could.
    """

    case: Case
    then: Counterexample
    now: Counterexample | None = None
    reason: str = ""

    @property
    def same(self) -> bool:
        """Whether the same element of the same row has the same two values, and as many others differ."""
        return self.now is not None and _essence(self.now) == _essence(self.then)

    @property
    def stands(self) -> bool:
        """Whether the finding holds: what is not repeatable need not differ in the same bits again."""
        return self.same or (self.now is not None and self.then.relation == REPEAT)


def _essence(found: Counterexample) -> tuple[object, ...]:
    place = (found.row, found.token, found.output, found.index)
    return (*place, found.expected_bits, found.got_bits, found.elements, found.rows)


def recheck(directory: Path, arms: Sequence[str] | None, timeout_s: float, display: Display) -> list[Rechecked]:
    """Every counterexample of a run, of some arms or of all, each arm's by one fresh worker.

    Raises:
        ResultsError: the directory is no run, or is damaged.
        UsageError: the run is of another device, or an arm that the run does not have or that cannot run here.
        WorkerError: nothing can be run.
    """
    manifest = read_manifest(directory)
    _refuse_unknown(arms or (), [arm.name for arm in manifest.arms])
    asked = [one for one in _asked(directory, manifest.selection.seed) if arms is None or one.case.arm in arms]
    names = tuple(dict.fromkeys(one.case.arm for one in asked)) if arms is None else tuple(arms)
    if not asked:
        return []
    operators = tuple(dict.fromkeys(one.case.operator for one in asked))
    selection = Selection(op=operators, arm=names, plugin=manifest.selection.plugin, timeout_s=timeout_s)
    catalogue = catalogue_of(selection)
    _refuse_other_device(directory, manifest.device, catalogue.device)
    workload = make_workload(catalogue, selection)
    display.phase("recheck", len(asked))
    requests = [one.request for one in asked if one.case.arm in {arm.name for arm in workload.arms}]
    with tempfile.TemporaryDirectory(dir=scratch()) as logs, WorkerPool(workload.arms, Path(logs), timeout_s) as pool:
        pool.start()
        answers: dict[Reproduce, Reply] = {}
        apart = [request for request in requests if request.before is not None]
        together = [request for request in requests if request.before is None]
        for request, reply in pool.work_through(together, PARALLEL[manifest.device.scale]):
            answers[request] = reply
            display.step(request.case.key)
        for request in apart:  # which depend on what their process was asked before
            pool.renew()
            answers[request] = pool.ask(request.case.arm, request)
            display.step(request.case.key)
    same_source = read_environment().source_digest == manifest.environment.source_digest
    return [_rechecked(one, answers.get(one.request), same_source) for one in asked]


def _refuse_unknown(arms: Sequence[str], known: Sequence[str]) -> None:
    for name in arms:
        if name not in known:
            raise UsageError(f"--arm {name}: the run has no such arm{suggestion(name, known)}")


def _refuse_other_device(directory: Path, then: Device, now: Device) -> None:
    """Other hardware has other kernels, whose bits say nothing of those that the run found."""
    if then.name != now.name:
        raise UsageError(
            f"{directory} was measured on {then.name}, and this is {now.name}; recheck it on the same device"
        )


class _Asked(NamedTuple):
    """A counterexample, and how it is made again.

    Attributes:
        request: what a worker is asked.
        then: as the run has it.
        data: digest of the rows and weights that it was found with; empty where that is not known.
    """

    request: Reproduce
    then: Counterexample
    data: str

    @property
    def case(self) -> Case:
        return self.request.case


def _asked(directory: Path, seed: int) -> Iterator[_Asked]:
    for record in latest_records(read_records(directory)).verifications.values():
        for request, then in reproductions(record, seed):
            yield _Asked(request, then, record.data if request.seed == seed else "")


def _rechecked(asked: _Asked, reply: Reply | None, same_source: bool) -> Rechecked:
    found = Rechecked(case=asked.case, then=asked.then)
    if reply is None:
        return found.model_copy(update={"reason": "its arm cannot run here"})
    if isinstance(reply, Failure):
        return found.model_copy(update={"reason": reply.reason})
    assert isinstance(reply, Reproduced)
    found = found.model_copy(update={"now": reply.counterexample})
    same_data = was_same_data(asked.data, reply.data, same_source)
    return found if found.stands or same_data else found.model_copy(update={"now": None, "reason": OTHER_DATA})


def exit_status(found: Sequence[Rechecked]) -> int:
    """1: some finding does not hold; 3: else, some could not be tried; 0: else."""
    tried = [one for one in found if not one.reason]
    if not all(one.stands for one in tried):
        return ExitStatus.VERDICT
    return ExitStatus.INCOMPLETE if len(tried) < len(found) else ExitStatus.GOOD


def in_words(found: Sequence[Rechecked]) -> Iterator[str]:
    """How many came out the same, and each that did not."""
    same = sum(one.same for one in found)
    yield f"{same} of {len(found)} counterexamples came out the same, to the last bit"
    for one in found:
        if one.same:
            continue
        where = f"{one.case.key}, {one.then.relation}, {one.then.company.spec}"
        told = "all bits agree now" if one.now is None else "other bits"
        if one.stands:
            told = "not repeatable now either: other bits differ each time"
        yield f"  {where}: {one.reason or told}"
