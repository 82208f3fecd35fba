"""The search among arms' candidates: all are timed roughly, and the fastest alone go on to be verified and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.plan.search import finalists
from kernels_bench.records.cases import Case
from kernels_bench.records.results import Rough
from kernels_bench.report.summary.speed import geometric_mean
from kernels_bench.workers.messages import Failure, Reply, Screen
from kernels_bench.workers.pool import WorkerPool

ROUGH_SHARE = 0.5
"""Of the budget, what timing roughly may take; verifying and timing the fastest takes the rest."""

FINALIST_S: Mapping[str, float] = {"cuda": 2.0, "cpu": 2.0}
"""About what verifying and timing one more candidate takes, in seconds."""

LONGEST_SHARE = 0.25
"""Of what timing roughly may take, the most that one candidate may: then it hangs, and is left out."""

LEAST_S: Mapping[str, float] = {"cuda": 20.0, "cpu": 4.0}
"""Seconds that a candidate has in any case: on a GPU it may have to be compiled first, a CPU may be busy."""

FEWEST, MOST = 5, 8
"""Candidates of an arm that go on for each operator, shape and dtype: with fewer, none would serve some M."""


@dataclass(frozen=True)
class Limits:
    """What a search may take.

    Attributes:
        device: type of the device.
        budget_s: seconds, about.
        parallel: workers that may compile at once.
    """

    device: str
    budget_s: float
    parallel: int

    @property
    def rough_s(self) -> float:
        """Seconds for timing all candidates roughly."""
        return self.budget_s * ROUGH_SHARE

    @property
    def one_s(self) -> float:
        """Seconds for one candidate of these."""
        return max(LEAST_S[self.device], self.rough_s * LONGEST_SHARE)


class Search:
    """The search of one run.

    Args:
        workload: what to search.
        pool: the arms' workers.
        known: rough timings that there are already, by their case's key.
        keep: told of each new one.
        display: told of every step.
        limits: what it may take.
    """

    def __init__(
        self,
        workload: Workload,
        pool: WorkerPool,
        known: Mapping[str, Rough],
        keep: Callable[[Rough], None],
        display: Display,
        limits: Limits,
    ) -> None:
        self._workload, self._pool, self._keep, self._display = workload, pool, keep, display
        self._known = dict(known)
        self._limits = limits
        # Seconds: of candidates that answered, and of those that never did, which cost the others nothing for once.
        self._spent = self._lost = 0.0
        self._ended = {one.case.arm: one for one in known.values() if one.ended}
        self._groups = _groups(workload)
        self._failed: set[str] = set()
        self._went_on: set[str] = set()

    def narrowed(self) -> Workload:
        """The workload without the candidates that are left out."""
        todo = [case for group in self._groups for case in group if case.key not in self._known]
        if todo:
            self._compile()
            self._display.phase("search", len(todo))
            for place, group in enumerate(self._groups, start=1):
                # To each its share of what is left, so that not the last ones alone go without.
                allowed = self._limits.rough_s * place / len(self._groups)
                for case in group:
                    self._screen(case, allowed)
        return self._without(self._left_out())

    def without(self, failed: Iterable[str]) -> Workload:
        """The workload with others of their order in the places of candidates that were verified and are of no use.

        A kernel that is wrong is often fast: it would have kept slower ones, which are right, from being tried.

        Args:
            failed: keys of cases.  All that went on before stay in the workload: they were verified.
        """
        self._failed |= {*failed}
        return self._without(self._left_out())

    def _compile(self) -> None:
        """Have several processes compile what one alone would take long over; their times are nobody's."""
        first = {(g[0].process, g[0].operator, str(g[0].precision)): g for g in reversed(self._groups)}
        todo = [case for group in first.values() for case in group if case.key not in self._known]
        if self._limits.device != "cuda" or not todo:
            return
        self._display.phase("compile", len(todo))
        requests = [self._requests(case)[0] for case in todo]
        ends = [one.model_copy(update={"sizes": (max(one.sizes), min(one.sizes)), "timed": False}) for one in requests]
        for request, reply in self._pool.work_through(ends, self._limits.parallel):
            if isinstance(reply, Failure) and (found := _rough(request.case, reply)).ended:
                self._take_note(found)
            self._display.step(request.case.key)

    def _requests(self, case: Case) -> list[Screen]:
        """One for all M, or where rows are sequences for each length."""
        by_length: dict[int | None, list[int]] = {}
        for load in self._workload.loads(case):
            by_length.setdefault(load.length, []).append(load.m)
        # From the largest on, whose rows are those of all others too.
        ordered = {length: tuple(sorted(sizes, reverse=True)) for length, sizes in by_length.items()}
        return [
            Screen(case=case, seed=self._workload.seed, sizes=sizes, largest_m=sizes[0], length=length)
            for length, sizes in ordered.items()
        ]

    def _screen(self, case: Case, allowed: float) -> None:
        """Time one candidate, unless more seconds were spent than are allowed, or it ended its process before."""
        if case.key in self._known:
            return
        # What arms take to load, and to load again after a candidate ended them, is not the candidates' time.
        if (ended := self._ended.get(case.arm)) is not None:
            reason = f"not tried again after {ended.case.without_arm}: {ended.reason}"
            found = Rough(case=case, status="skipped", reason=reason, cause=ended.cause)
        elif self._spent + max(0.0, self._lost - self._limits.budget_s) > allowed:
            found = Rough(case=case, status="skipped", reason="the search had no time left for it; raise --budget")
        else:
            self._pool.is_ready(case.arm)
            found = self._timed(case)
        self._take_note(found)
        self._display.step(case.key)

    def _timed(self, case: Case) -> Rough:
        began = time.monotonic()
        found = _together([*self._asked(case)])
        seconds = time.monotonic() - began
        if found.ended:
            self._lost += seconds
        else:
            self._spent += seconds
        return found

    def _asked(self, case: Case) -> Iterator[Rough]:
        """What becomes of each request, up to one that fails."""
        for request in self._requests(case):
            found = _rough(case, self._pool.ask(case.arm, request, self._limits.one_s, by="--budget"))
            yield found
            if found.status != "measured":
                return

    def _take_note(self, found: Rough) -> None:
        self._known[found.case.key] = found
        if found.ended:
            self._ended[found.case.arm] = found
        self._keep(found)

    def _left_out(self) -> set[str]:
        """Keys of the cases that do not go on."""
        for_each = self._limits.budget_s * (1 - ROUGH_SHARE) / max(1, len(self._groups))
        most = int(for_each / FINALIST_S[self._limits.device])
        left_out: set[str] = set()
        for group in self._groups:
            roughs = {case.arm: self._known[case.key] for case in group}
            usable = [case.arm for case in group if case.key not in self._failed]
            times = {arm: roughs[arm].us for arm in usable if roughs[arm].status == "measured"}
            chosen = finalists(times, self._workload.orders, min(MOST, max(FEWEST, most)))
            self._went_on |= {case.key for case in group if case.arm in chosen}
            left_out |= {case.key for case in group}
        return left_out - self._went_on

    def _without(self, left_out: set[str]) -> Workload:
        cases = tuple(case for case in self._workload.cases if case.key not in left_out)
        with_cases = {case.arm for case in cases}
        arms = tuple(arm for arm in self._workload.arms if arm.name in with_cases)
        return self._workload.model_copy(update={"cases": cases, "arms": arms})


def _groups(workload: Workload) -> list[Sequence[Case]]:
    """Candidates of one arm for the same operator, shape and dtype."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in workload.cases:
        if case.arm in workload.searched and workload.loads(case):
            found.setdefault((case.process, case.without_arm), []).append(case)
    return [*found.values()]


def _rough(case: Case, reply: Reply) -> Rough:
    if isinstance(reply, Rough):
        return reply
    assert isinstance(reply, Failure)
    ended = reply.lost and reply.cause in ("no_answer", "other")  # by itself: memory and signals are others' doing
    return Rough(case=case, status=reply.status, reason=reply.reason, cause=reply.cause, ended=ended)


def _together(found: Sequence[Rough]) -> Rough:
    """Of sequences of several lengths one: at each M the geometric mean, since no candidate may be bad at any."""
    failed = next((one for one in found if one.status != "measured"), None)
    if failed is not None or len(found) == 1:
        return failed or found[0]
    sizes = set.intersection(*({*one.us} for one in found))
    us = {m: geometric_mean([one.us[m] for one in found]) for m in sorted(sizes)}
    return found[0].model_copy(update={"us": us, "seconds": sum(one.seconds for one in found)})
