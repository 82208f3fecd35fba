"""What a profiler is to see of a run, once the run is over: everything timed, and every counterexample's companies.

Recording costs about a microsecond a kernel, which a median must not hold.  So the run goes first, unrecorded, and then
does a part of it once more within one range, `REPLAY`, for ``nsys profile --capture-range=nvtx`` to begin and end with.
Both parts have the same ranges around the same kernels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from kernels_bench.commands.counterexamples import reproductions
from kernels_bench.commands.run.timing import prepare_timing
from kernels_bench.commands.workload import Workload
from kernels_bench.console.progress import Display
from kernels_bench.records.results import AnyRecord, Timing, Verification
from kernels_bench.workers.messages import Failure, FinishTiming, Reproduce, TakeTurn
from kernels_bench.workers.pool import WorkerPool
from profiles.instruments.range_names import KERNELS, REPLAY
from profiles.instruments.ranges import Ranges

REPLAYED_TURNS = 2
"""Turns of every timed case, each with the data at other addresses."""

SETTLING_S = 1.0
"""nsys reaches other processes than the one that entered the range a little later: their first kernels were lost."""


def replay(workload: Workload, pool: WorkerPool, records: Iterable[AnyRecord], display: Display) -> None:
    """Do once more what a profiler is to see.

    Args:
        workload: of the run.
        pool: its workers.
        records: what the run holds, with raw samples; what failed, or was never reached, is not tried.
        display: told of every step.

    Raises:
        RangesNotRecorded: nsys runs this process but would receive none of its ranges.
    """
    ranges = Ranges(KERNELS)
    timed, again = dict[str, int](), list[Reproduce]()
    for record in records:
        if isinstance(record, Timing) and record.warm_samples is not None:
            timed[record.key] = record.warm_samples.calls
        elif isinstance(record, Verification):
            again += (request for request, _ in reproductions(record, workload.seed))
    display.phase("replay", len(again) + len(timed))
    with ranges.range(REPLAY, category="replay"):
        if ranges.recorded:
            time.sleep(SETTLING_S)
        for request, _ in pool.work_through(again, 1):
            display.step(request.case.key)
        pool.release()
        _replay_timed(workload, pool, timed, display)


def _replay_timed(workload: Workload, pool: WorkerPool, timed: Mapping[str, int], display: Display) -> None:
    for cases, load in workload.timing_groups():
        for case in cases:
            key = f"{case.key}/{load.token}"
            if key not in timed:
                continue
            reply = pool.ask(case.arm, prepare_timing(workload, case, load, timed[key]))
            for _ in range(REPLAYED_TURNS):
                if not isinstance(reply, Failure):
                    reply = pool.ask(case.arm, TakeTurn(case=case))
            if not isinstance(reply, Failure):
                pool.ask(case.arm, FinishTiming(case=case))
            display.step(key)
