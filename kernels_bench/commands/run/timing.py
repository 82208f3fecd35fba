"""How fast a run's cases are: the device's ceilings, then all arms of each case turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernels_bench.commands.run.known import Known
from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.records.cases import Case, Load, process_of
from kernels_bench.records.causes import cause_of
from kernels_bench.records.results import Ceiling, Timing
from kernels_bench.workers.messages import Failure, FinishTiming, MeasureCeiling, PrepareTiming, Reply, TakeTurn, Turned
from kernels_bench.workers.pool import WorkerPool

DEFAULT_ARM = "torch"
"""Measures the ceilings, where it is among the arms."""


class TurnByTurn:
    """Times the cases of a run of which no time is known.

    Args:
        workload: what is timed at which load.
        pool: the arms' workers, started.
        known: what is known already, and is told of every result.
        display: told of every step.
    """

    def __init__(self, workload: Workload, pool: WorkerPool, known: Known, display: Display) -> None:
        self._workload, self._pool, self._known, self._display = workload, pool, known, display

    def time_all(self) -> None:
        """Ceilings and times.

        Raises:
            ResultsError: a record cannot be written.
        """
        groups = self._workload.timing_groups()
        untimed = [(cases, load) for cases, load in groups if not self._is_timed(cases, load)]
        # Together and first: while one arm is timed no other one's libraries are to be loaded.
        self._pool.bring_up({case.arm for cases, load in untimed for case in cases if not self._no_timing(case, load)})
        self._measure_ceiling()
        if not untimed:
            return
        self._display.phase("time", len(untimed))
        for cases, load in untimed:
            self._time(cases, load)
            tokens = "" if load.length is None else f" of {load.length} tokens"
            self._display.step(f"{cases[0].without_arm} M={load.m}{tokens}")

    def _measure_ceiling(self) -> None:
        timed = [case for cases, _ in self._workload.timing_groups() for case in cases]
        if self._known.ceiling or not timed:
            return
        arm = next((arm.name for arm in self._workload.arms if arm.name == DEFAULT_ARM), self._workload.arms[0].name)
        self._display.phase("ceiling", 1)
        reply = self._pool.ask(arm, MeasureCeiling(inputs=tuple({case.precision.input: None for case in timed})))
        if isinstance(reply, Ceiling):
            self._known.keep(reply)
        elif isinstance(reply, Failure):
            self._display.note(f"the ceilings could not be measured: {reply.reason}")
        self._display.step(arm)

    def _is_timed(self, cases: Sequence[Case], load: Load) -> bool:
        return all(f"{case.key}/{load.token}" in self._known.timed for case in cases)

    def _time(self, cases: Sequence[Case], load: Load) -> None:
        """All arms of one case, turn by turn, so that a drifting clock hits all alike."""
        replies: dict[str, Reply] = {case.arm: failure for case in cases if (failure := self._no_timing(case, load))}
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
            self._known.keep(_timing(case, load, replies[case.arm]))

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
        """Of the verified results of the rows that are timed; empty where these are others.

        They are of sequences, and may be where the universe was a smaller one than all others have.
        """
        known = self._known.verified.get(case.key)
        return "" if load.length is not None or known is None or known.refused else known.digests.get(load.m, "")

    def _no_timing(self, case: Case, load: Load) -> Failure | None:
        """Why a case has no speed: a kernel has none whose results are wrong, or that takes fewer rows."""
        if not self._workload.verifies:
            return None
        verification = self._known.verified[case.key]
        if verification.status != "measured":
            return Failure(
                status="unsupported" if verification.status == "unsupported" else "skipped",
                reason=verification.reason,
                cause=cause_of(verification),
            )
        if verification.wrong:
            return Failure(status="skipped", reason="the result is wrong, so its speed means nothing")
        if verification.refused and load.m > verification.universe:
            return Failure(status="unsupported", reason=verification.refused)
        return None


def prepare_timing(
    workload: Workload, case: Case, load: Load, calls: int | None = None, verified: str = ""
) -> PrepareTiming:
    """What has a worker prepare to time a case under a load, with data that serve its larger loads too."""
    largest = max(known.m for known in workload.loads(case) if known.length == load.length)
    return PrepareTiming(case=case, seed=workload.seed, load=load, largest_m=largest, calls=calls, verified=verified)


def _timing(case: Case, load: Load, reply: Reply) -> Timing:
    if isinstance(reply, Timing):
        return reply
    assert isinstance(reply, Failure)
    return Timing(case=case, m=load.m, length=load.length, status=reply.status, reason=reply.reason, cause=reply.cause)
