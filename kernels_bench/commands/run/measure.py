"""Does all that a run is: search, verify every case, ask fresh processes, time turn by turn; writes as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from kernels_bench.commands.run.fresh_processes import FreshProcesses
from kernels_bench.commands.run.known import Known
from kernels_bench.commands.run.search import Limits, Search
from kernels_bench.commands.run.timing import TurnByTurn
from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.defined import definition_only
from kernels_bench.plan.classes import keeps
from kernels_bench.records.cases import ITEM_SIZE, Case
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.manifest import RunDirectory
from kernels_bench.records.results import Verification
from kernels_bench.workers.messages import LARGE_COPIES, Failure, Reply, Verify
from kernels_bench.workers.pool import WorkerPool

ORDER_S: Mapping[str, tuple[float, float, float]] = {"cuda": (0.5, 5.0, 150.0), "cpu": (0.5, 6.0, 30.0)}
"""Seconds for reading orders of addition: at least a case, at most a case, and for all cases together, about."""

PLANNED_ORDER_S: Mapping[str, tuple[float, float, float]] = {"cuda": (8.0, 20.0, 900.0), "cpu": ORDER_S["cpu"]}
"""The same for a plan, which rests on the orders of kernels that kept their bits; most take a part of it."""

QUICK_ORDER_S = 0.2
"""The same in a short run."""

MORE_S: Mapping[str, tuple[float, float, float]] = {"cuda": (0.08, 10.0, 24.0), "cpu": (0.05, 8.0, 8.0)}
"""Seconds for relations' further comparisons: at least a case, at most a case, and of all cases together.

A short run takes the least.
"""

MOST_REPLACED = 3
"""Rounds in which other candidates are tried for those that were verified and are wrong, or changed their bits."""


def as_verified(cases: Sequence[Case], bytes_of: Callable[[Case], int]) -> list[Case]:
    """Cases in the order in which they are verified.

    Operators with the largest cases come first, or one process would be at these at the end while all others wait.  Of
    an operator those of fp32 results do, which tell most of the order of addition: it is then tried where a result
    tells little.
    """
    largest: dict[str, int] = {}
    for case in cases:
        largest[case.operator] = max(bytes_of(case), largest.get(case.operator, 0))

    def place(case: Case) -> tuple[int, str, bool]:
        return -largest[case.operator], case.operator, case.precision.output != "fp32"

    return sorted(cases, key=place)


class Runner:
    """One run.

    Args:
        workload: what to do.
        pool: the arms' workers, started.
        run: where the records go; what is in it already is not done again.
        display: told of every step.
        parallel: workers that may verify at once.
    """

    def __init__(
        self, workload: Workload, pool: WorkerPool, run: RunDirectory, display: Display, parallel: int
    ) -> None:
        self._workload, self._pool, self._run, self._display = workload, pool, run, display
        self._parallel = parallel
        self._operators = {**operators(), **definition_only(workload.own)}
        self._device = run.manifest.device.scale
        self._known = Known(run)
        self._verified_now: set[str] = set()
        self._absent: tuple[ArmInfo, ...] = ()

    def run(self) -> None:
        """Everything that is not in the run directory yet.

        Raises:
            ResultsError: a record cannot be written.
        """
        search = self._search() if self._workload.searched else None
        if self._workload.verifies:
            self._verify_all()
            self._revisit_all()
            if search is not None:
                self._replace_failed(search)
        self._pool.release()
        TurnByTurn(self._workload, self._pool, self._known, self._display).time_all()

    def _search(self) -> Search:
        """Leave out the candidates that are not among the fastest; the run is then planned without them."""
        search = Search(
            self._workload,
            self._pool,
            self._known.rough,
            self._known.keep,
            self._display,
            Limits(self._device, self._run.manifest.selection.budget_s or 0.0, self._parallel),
        )
        self._absent = tuple(arm for arm in self._run.manifest.arms if arm.unavailable)
        self._restate(search.narrowed())
        return search

    def _replace_failed(self, search: Search) -> None:
        """Try the next ones in the places of candidates that were verified and have no bits that a plan can keep."""
        for _ in range(MOST_REPLACED):
            searched = [case.key for case in self._workload.cases if case.arm in self._workload.searched]
            found = [self._known.verified[key] for key in searched]
            workload = search.without([one.case.key for one in found if one.cause != "killed" and not keeps(one)])
            if len(workload.cases) == len(self._workload.cases):
                return
            self._restate(workload)
            self._verify_all()
            self._revisit_all()

    def _restate(self, workload: Workload) -> None:
        """Go on with other cases than were planned."""
        self._workload = workload
        planned = {"planned": workload.planned, "arms": (*workload.arms, *self._absent)}
        self._run.restate(self._run.manifest.model_copy(update=planned))

    @property
    def _in_order(self) -> list[Case]:
        return as_verified(self._workload.cases, self._verification_bytes)

    def _operator_of(self, case: Case) -> Operator:
        sweep = self._workload.sweeps[case.operator]
        return self._operators[case.operator].with_lengths(sweep.lengths).for_shape(case.shape)

    def _verification_bytes(self, case: Case) -> int:
        universe = self._workload.sweeps[case.operator].universe
        return self._operator_of(case).verification_bytes(case.shape, case.precision, universe)

    def _verify_all(self) -> None:
        todo = [case for case in self._in_order if case.key not in self._known.verified]
        if not todo:
            return
        self._display.phase("verify", len(todo))
        for request, reply in self._pool.work_through(map(self._verify_request, todo), self._parallel):
            self._known.keep(_verification(request, reply))
            self._verified_now.add(request.case.key)
            self._display.step(f"{request.case.key}")

    def _revisit_all(self) -> None:
        """Ask fresh processes for the bits of what was verified since they were asked last."""
        asked = FreshProcesses(
            self._workload, self._pool, self._known, self._display, self._parallel, self._verification_bytes
        )
        if asked.revisit([case for case in self._in_order if case.key in self._verified_now]):
            self._verified_now.clear()

    def _verify_request(self, case: Case) -> Verify:
        sweep = self._workload.sweeps[case.operator]
        operator, memory = self._operator_of(case), self._verification_bytes(case)
        beyond = case.key in self._beyond
        if beyond:
            memory += LARGE_COPIES * operator.huge_bytes(case.shape, case.precision)
            memory += operator.far_bytes(case.shape, case.precision, sweep.universe)
        return Verify(
            case=case,
            seed=self._workload.seed,
            universe=sweep.universe,
            relations=self._workload.relations,
            sizes=sweep.sizes,
            digest_sizes=sweep.digested,
            asked=sweep.asked,
            lengths=sweep.lengths,
            beyond=beyond,
            more_s=self._more_s,
            order_s=self._order_s,
            order_if_kept=self._planned,
            memory=memory,
            limit_s=self._run.manifest.selection.timeout_s,
        )

    @cached_property
    def _beyond(self) -> set[str]:
        """Cases tried with more than 2^31 elements on a GPU: one of each arm and operator, of 16 bits if any."""
        if self._device != "cuda" or self._workload.quick:
            return set()
        first: dict[tuple[str, str], Case] = {}
        for case in sorted(self._workload.cases, key=self._cost_beyond):
            first.setdefault((case.arm, case.operator), case)
        return {case.key for case in first.values()}

    def _cost_beyond(self, case: Case) -> tuple[int, int]:
        """What makes a case fit to be tried with more than 2^31 elements: narrow ones, and few rows of them."""
        return ITEM_SIZE[case.precision.input], self._operators[case.operator].huge_rows(case.shape)

    @property
    def _more_s(self) -> float:
        """Seconds a case for what relations try beyond what every run tries: much where few cases were asked for."""
        return MORE_S[self._device][0] if self._workload.quick else self._share_of(MORE_S)

    @property
    def _order_s(self) -> float:
        """Seconds for a case's order, which says nothing of relations other than ``batch_size``."""
        if "batch_size" not in self._workload.relations:
            return 0.0
        return QUICK_ORDER_S if self._workload.quick else self._share_of(PLANNED_ORDER_S if self._planned else ORDER_S)

    @property
    def _planned(self) -> bool:
        return self._run.manifest.selection.budget_s is not None

    def _share_of(self, seconds: Mapping[str, tuple[float, float, float]]) -> float:
        """A case's seconds: the more, the fewer cases there are."""
        least, most, together = seconds[self._device]
        return max(least, min(most, together / max(1, len(self._workload.cases))))


def _verification(request: Verify, reply: Reply) -> Verification:
    if isinstance(reply, Verification):
        return reply.model_copy(update={"lengths": request.lengths})
    assert isinstance(reply, Failure)
    return Verification(
        case=request.case, status=reply.status, reason=reply.reason, cause=reply.cause, lengths=request.lengths
    )
