"""Does what a plan says: verify every case, measure the ceilings, time turn by turn; write as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from kernels_bench.commands.counterexamples import reproductions
from kernels_bench.commands.run.search import Limits, Search
from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.defined import definition_only
from kernels_bench.plan.classes import keeps
from kernels_bench.records.cases import ITEM_SIZE, Case, Load, process_of
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.causes import cause_of
from kernels_bench.records.manifest import RunDirectory
from kernels_bench.records.results import AnyRecord, Ceiling, Rough, Timing, Verification
from kernels_bench.relations.special_values import SPECIALS
from kernels_bench.workers.messages import (
    LARGE_COPIES,
    Failure,
    FinishTiming,
    MeasureCeiling,
    PrepareTiming,
    Reply,
    Reproduce,
    Reproduced,
    Revisit,
    Revisited,
    TakeTurn,
    Turned,
    Verify,
)
from kernels_bench.workers.pool import WorkerPool

DEFAULT_ARM = "torch"

ORDER_S: Mapping[str, tuple[float, float, float]] = {"cuda": (0.6, 5.0, 150.0), "cpu": (0.5, 6.0, 30.0)}
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

OF_CALLS = ("repeat", "history", "concurrency")
"""Relations that blame calls: what they find need not come again in another process."""

MOST_REVISITED = 40
"""Cases up to which a run that is no short one asks fresh processes too: starting them takes longer than asking."""


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
        self._verified: dict[str, Verification] = {}
        self._verified_now: set[str] = set()
        self._timed: dict[str, Timing] = {}
        self._rough: dict[str, Rough] = {}
        self._ceiling_known = False
        self._absent: tuple[ArmInfo, ...] = ()
        for record in run.records():
            self._recall(record)
        self._forget_killed()

    def _recall(self, record: AnyRecord) -> None:
        if isinstance(record, Verification):
            self._verified[record.case.key] = record
        elif isinstance(record, Timing):
            self._timed[record.key] = record
        elif isinstance(record, Rough):
            self._rough[record.case.key] = record
        elif isinstance(record, Ceiling):
            self._ceiling_known = True

    def _forget_killed(self) -> None:
        """Of the cases whose worker was killed nothing is known: the run that is gone on with tries them again."""
        self._verified = {key: record for key, record in self._verified.items() if record.cause != "killed"}
        self._timed = {key: record for key, record in self._timed.items() if record.cause != "killed"}
        self._rough = {key: record for key, record in self._rough.items() if record.cause != "killed"}

    def _keep(self, record: Verification | Timing | Rough | Ceiling) -> None:
        self._run.append(record)
        self._recall(record)

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
        untimed = [(cases, load) for cases, load in self._workload.timing_groups() if not self._is_timed(cases, load)]
        # Together and first: while one arm is timed no other one's libraries are to be loaded.
        self._pool.bring_up({case.arm for cases, _ in untimed for case in cases if not self._no_timing(case)})
        self._measure_ceiling()
        self._time_all(untimed)

    def _search(self) -> Search:
        """Leave out the candidates that are not among the fastest; the run is then planned without them."""
        search = Search(
            self._workload,
            self._pool,
            self._rough,
            self._keep,
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
            failed = [key for key in searched if (one := self._verified[key]).cause != "killed" and not keeps(one)]
            workload = search.without(failed)
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
        todo = [case for case in self._in_order if case.key not in self._verified]
        if not todo:
            return
        self._display.phase("verify", len(todo))
        for request, reply in self._pool.work_through(map(self._verify_request, todo), self._parallel):
            self._keep(_verification(request, reply))
            self._verified_now.add(request.case.key)
            self._display.step(f"{request.case.key}")

    def _revisit_all(self) -> None:
        """Where cases are few, ask fresh processes, which begin with another M, whether they give the same bits.

        What a kernel keeps from the first call of a process, a tile for the M it met, say, is seen by nothing else.
        """
        too_many = self._workload.quick or len(self._workload.cases) > MOST_REVISITED
        todo = [case for case in self._in_order if self._to_be_revisited(case)]
        if too_many or not todo or "history" not in self._workload.relations:
            return
        self._pool.renew()
        self._reproduce_each(todo)
        self._display.phase("again in fresh processes", len(todo))
        # The last case first: a process may also keep what it met first for cases of other shapes or dtypes.
        for request, reply in self._pool.work_through(map(self._revisit_request, todo[::-1]), self._parallel):
            if isinstance(reply, Revisited):
                self._take_note(request, reply)
            elif isinstance(reply, Failure):
                self._display.note(f"{request.case.key}: a fresh process could not be asked: {reply.reason}")
            self._display.step(f"{request.case.key}")
        self._verified_now.clear()

    def _reproduce_each(self, cases: Sequence[Case]) -> None:
        """Ask fresh processes for one counterexample of each case: one that does not come there follows earlier calls.

        A kernel that is compiled for the first few M that it meets, say, gives other bits at these from then on, and
        two batches that are looked at later seem to be to blame.
        """
        first = [request for case in cases if (request := self._of_batches_alone(case)) is not None]
        for request, reply in self._pool.work_through(first, self._parallel):
            if isinstance(reply, Reproduced) and reply.counterexample is None:
                pair = f"{request.reference} and {request.company}"
                reason = f"in a fresh process {pair} give the same bits: what changes them are earlier calls"
                self._keep(self._verified[request.case.key].changed_by_calls(reason, (request.company,)))

    def _of_batches_alone(self, case: Case) -> Reproduce | None:
        """A case's first counterexample that was blamed on nothing but two batches."""
        found = (request for request, _ in reproductions(self._verified[case.key], self._workload.seed))
        alone = (one for one in found if one.before is None and one.relation not in OF_CALLS and one.launch == "eager")
        return next(alone, None)

    def _to_be_revisited(self, case: Case) -> bool:
        known = self._verified.get(case.key)
        seen_now = case.key in self._verified_now
        return (
            seen_now
            and known is not None
            and known.verdict in ("sampled", "defined", "variant")
            and bool(known.digests)
        )

    def _revisit_request(self, case: Case) -> Revisit:
        sweep = self._workload.sweeps[case.operator]
        # From the smallest M on: the process that verified the case began with the largest.
        known = self._verified[case.key]
        sizes = tuple(sorted(known.digests))
        takes_views = any(one.relation == "layout" and one.status == "held" and one.binding for one in known.relations)
        return Revisit(
            case=case,
            seed=self._workload.seed,
            universe=sweep.universe,
            sizes=sizes,
            lengths=sweep.lengths,
            special=bool(known.special_digest),
            views=sizes[1::2] if takes_views else (),
            memory=self._verification_bytes(case),
        )

    def _take_note(self, request: Revisit, reply: Revisited) -> None:
        """Keep the case's verification anew where some M has other bits now."""
        known = self._verified[request.case.key]
        differ = [m for m in request.sizes if reply.digests.get(m) != known.digests[m]]
        special = bool(reply.special_digest) and reply.special_digest != known.special_digest
        unsteady = any(one.relation == "repeat" and one.status == "broken" for one in known.relations)
        if unsteady or not (differ or special):
            return
        where = f"at M={differ[0]}" if differ else "of special values"
        after = ", after rows that were a view" if differ and differ[0] in request.views else ""
        reason = f"another process, which began with M={request.sizes[0]}, gave other bits {where}{after}"
        broken = (*(f"first:{m}" for m in differ), *((SPECIALS,) if special else ()))
        self._keep(known.changed_by_calls(reason, broken))

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

    def _measure_ceiling(self) -> None:
        timed = [case for cases, _ in self._workload.timing_groups() for case in cases]
        if self._ceiling_known or not timed:
            return
        arm = next((arm.name for arm in self._workload.arms if arm.name == DEFAULT_ARM), self._workload.arms[0].name)
        self._display.phase("ceiling", 1)
        reply = self._pool.ask(arm, MeasureCeiling(inputs=tuple({case.precision.input: None for case in timed})))
        if isinstance(reply, Ceiling):
            self._keep(reply)
        elif isinstance(reply, Failure):
            self._display.note(f"the ceilings could not be measured: {reply.reason}")
        self._display.step(arm)

    def _time_all(self, units: Sequence[tuple[Sequence[Case], Load]]) -> None:
        if not units:
            return
        self._display.phase("time", len(units))
        for cases, load in units:
            self._time(cases, load)
            tokens = "" if load.length is None else f" of {load.length} tokens"
            self._display.step(f"{cases[0].without_arm} M={load.m}{tokens}")

    def _is_timed(self, cases: Iterable[Case], load: Load) -> bool:
        return all(f"{case.key}/{load.token}" in self._timed for case in cases)

    def _time(self, cases: Sequence[Case], load: Load) -> None:
        """All arms of one case, turn by turn, so that a drifting clock hits all alike."""
        replies: dict[str, Reply] = {case.arm: failure for case in cases if (failure := self._no_timing(case))}
        willing = {
            case.arm: prepare_timing(self._workload, case, load, verified=self._digest(case, load))
            for case in cases
            if case.arm not in replies
        }
        while willing:
            found = self._in_turns(willing)
            replies |= {arm: reply for arm, reply in found.items() if reply is not None}
            willing = {arm: willing[arm] for arm, reply in found.items() if reply is None}
        for case in cases:
            self._keep(_timing(case, load, replies[case.arm]))

    def _in_turns(self, requests: Mapping[str, PrepareTiming]) -> dict[str, Reply | None]:
        """Answers by arm; None of those that were being timed in a process that another one's kernel ended."""
        replies: dict[str, Reply | None] = {**self._pool.ask_all(requests)}
        turning = [arm for arm, reply in replies.items() if isinstance(reply, Turned)]
        ended = {process_of(arm) for arm, reply in replies.items() if isinstance(reply, Failure) and reply.lost}
        while turning := [arm for arm in turning if process_of(arm) not in ended]:
            for arm in list(turning):
                if process_of(arm) in ended:
                    continue
                case = requests[arm].case
                reply = self._pool.ask(arm, TakeTurn(case=case))
                if isinstance(reply, Turned) and not reply.done:
                    continue
                turning.remove(arm)
                found = self._pool.ask(arm, FinishTiming(case=case)) if isinstance(reply, Turned) else reply
                replies[arm] = found
                if isinstance(found, Failure) and found.lost:
                    ended.add(process_of(arm))
        return {arm: None if isinstance(reply, Turned) else reply for arm, reply in replies.items()}

    def _digest(self, case: Case, load: Load) -> str:
        """Of the verified results of the rows that are timed; empty of sequences, which are others when timed."""
        known = self._verified.get(case.key)
        return "" if load.length is not None or known is None else known.digests.get(load.m, "")

    def _no_timing(self, case: Case) -> Failure | None:
        """Why a case has no speed: a kernel whose results were looked at and are wrong has none."""
        if not self._workload.verifies:
            return None
        verification = self._verified[case.key]
        if verification.status != "measured":
            return Failure(
                status="unsupported" if verification.status == "unsupported" else "skipped",
                reason=verification.reason,
                cause=cause_of(verification),
            )
        if verification.wrong:
            return Failure(status="skipped", reason="the result is wrong, so its speed means nothing")
        return None


def prepare_timing(
    workload: Workload, case: Case, load: Load, calls: int | None = None, verified: str = ""
) -> PrepareTiming:
    """What has a worker prepare to time a case under a load, with data that serve its larger loads too."""
    largest = max(known.m for known in workload.loads(case) if known.length == load.length)
    return PrepareTiming(case=case, seed=workload.seed, load=load, largest_m=largest, calls=calls, verified=verified)


def _verification(request: Verify, reply: Reply) -> Verification:
    if isinstance(reply, Verification):
        return reply.model_copy(update={"lengths": request.lengths})
    assert isinstance(reply, Failure)
    return Verification(
        case=request.case, status=reply.status, reason=reply.reason, cause=reply.cause, lengths=request.lengths
    )


def _timing(case: Case, load: Load, reply: Reply) -> Timing:
    if isinstance(reply, Timing):
        return reply
    assert isinstance(reply, Failure)
    return Timing(case=case, m=load.m, length=load.length, status=reply.status, reason=reply.reason, cause=reply.cause)
