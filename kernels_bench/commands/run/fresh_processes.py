"""Fresh processes, asked for the bits that were verified: what a kernel keeps from call to call is not in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernels_bench.commands.counterexamples import reproductions
from kernels_bench.commands.run.known import Known
from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.records.cases import Case
from kernels_bench.records.results import Verification
from kernels_bench.relations.special_values import SPECIALS
from kernels_bench.workers.messages import Failure, Reproduce, Reproduced, Revisit, Revisited
from kernels_bench.workers.pool import WorkerPool

OF_CALLS = ("repeat", "history", "concurrency")
"""Relations that blame calls: what they find need not come again in another process."""

FEWEST_OPENING = 3
"""Ranges of M from the one on that ends with this power of two."""

MOST_REVISITED = 40
"""Cases up to which a run that is no short one asks fresh processes too: starting them takes longer than asking."""


class FreshProcesses:
    """Asks fresh processes of a run's arms.

    Args:
        workload: of the run.
        pool: the arms' workers, started.
        known: every case's verification; is told where fresh processes give other bits.
        display: told of every step.
        parallel: workers that may be asked at once.
        bytes_of: about what a case takes of the device's memory.
    """

    def __init__(
        self,
        workload: Workload,
        pool: WorkerPool,
        known: Known,
        display: Display,
        parallel: int,
        bytes_of: Callable[[Case], int],
    ) -> None:
        self._workload, self._pool, self._known, self._display = workload, pool, known, display
        self._parallel, self._bytes_of = parallel, bytes_of

    def revisit(self, cases: Sequence[Case]) -> bool:
        """Where cases are few, ask whether processes that begin with another M give the same bits.

        What a kernel keeps from the first call of a process, a tile for the M it met, say, is seen by nothing else.

        Args:
            cases: those that were verified since fresh processes were asked last, in that order.

        Returns:
            Whether any was asked.

        Raises:
            ResultsError: a record cannot be written.
        """
        too_many = self._workload.quick or len(self._workload.cases) > MOST_REVISITED
        todo = [case for case in cases if self._to_be_revisited(case)]
        if too_many or not todo or "history" not in self._workload.relations:
            return False
        self._pool.renew()
        self._reproduce_each(todo)
        self._display.phase("again in fresh processes", len(todo))
        # The last case first: a process may also keep what it met first for cases of other shapes or dtypes.
        requests = (self._revisit_request(case, _beside(case, todo)) for case in todo[::-1])
        for request, reply in self._pool.work_through(requests, self._parallel):
            if isinstance(reply, Revisited):
                self._take_note(request, reply)
            elif isinstance(reply, Failure):
                self._display.note(f"{request.case.key}: a fresh process could not be asked: {reply.reason}")
            self._display.step(f"{request.case.key}")
        return True

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
                self._known.keep(self._known.verified[request.case.key].changed_by_calls(reason, (request.company,)))

    def _of_batches_alone(self, case: Case) -> Reproduce | None:
        """A case's first counterexample that was blamed on nothing but two batches."""
        found = (request for request, _ in reproductions(self._known.verified[case.key], self._workload.seed))
        alone = (one for one in found if one.before is None and one.relation not in OF_CALLS and one.launch == "eager")
        return next(alone, None)

    def _to_be_revisited(self, case: Case) -> bool:
        known = self._known.verified.get(case.key)
        return known is not None and known.verdict in ("sampled", "defined", "variant") and bool(known.digests)

    def _revisit_request(self, case: Case, another: Case | None) -> Revisit:
        sweep = self._workload.sweeps[case.operator]
        # From the smallest M on: the process that verified the case began with the largest.
        known = self._known.verified[case.key]
        sizes = tuple(sorted(known.digests))
        takes_views = any(one.relation == "layout" and one.status == "held" and one.binding for one in known.relations)
        return Revisit(
            case=case,
            seed=self._workload.seed,
            universe=known.universe,
            sizes=sizes,
            lengths=sweep.lengths,
            special=bool(known.special_digest),
            views=sizes[1::2] if takes_views else (),
            opening=_opening(sizes) if _same_at_every_size(known) else (),
            another=another,
            memory=self._bytes_of(case) + (self._bytes_of(another) if another is not None else 0),
        )

    def _take_note(self, request: Revisit, reply: Revisited) -> None:
        """Keep the case's verification anew where some M has other bits now."""
        known = self._known.verified[request.case.key]
        differ = [m for m in request.sizes if reply.digests.get(m) != known.digests[m]] or [*reply.opened_otherwise]
        in_turn = reply.otherwise_after_another if not differ else ()
        differ = differ or [*in_turn]
        special = bool(reply.special_digest) and reply.special_digest != known.special_digest
        unsteady = any(one.relation == "repeat" and one.status == "broken" for one in known.relations)
        if unsteady or not (differ or special):
            return
        where = f"at M={differ[0]}" if differ else "of special values"
        after = ", after rows that were a view" if differ and differ[0] in request.views else ""
        if in_turn and request.another is not None:
            after = f", in turn with {request.another.precision} at {request.another.shape.label}"
        reason = f"another process, which began with M={request.sizes[0]}, gave other bits {where}{after}"
        broken = (*(f"first:{m}" for m in differ), *((SPECIALS,) if special else ()))
        self._known.keep(known.changed_by_calls(reason, broken))


def _beside(case: Case, others: Sequence[Case]) -> Case | None:
    """Of an arm's other cases of the same operator one of another shape, or else of another dtype."""
    alike = [one for one in others if one != case and (one.arm, one.operator) == (case.arm, case.operator)]
    return next((one for one in alike if one.shape != case.shape), next(iter(alike), None))


def _opening(sizes: Sequence[int]) -> tuple[int, ...]:
    """The M that are the last between two powers of two, or of the largest ones the first, in ascending order.

    A tile that a kernel chose for the first M of a range is kept for all others of it, and the process that verified
    the case met each range from its other end.
    """
    largest = sizes[-1]
    ends = [1 << bits for bits in range(FEWEST_OPENING, largest.bit_length()) if 1 << bits < largest]
    return tuple(sorted({*ends, ends[-1] + 1} - {*sizes})) if ends else ()


def _same_at_every_size(known: Verification) -> bool:
    """Whether each row's bits were the same at every M, so that the largest one's stand for them."""
    return any(one.relation == "batch_size" and one.status == "held" for one in known.relations)
