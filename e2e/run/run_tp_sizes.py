"""The same needles asked of engines of one model at several tensor-parallel sizes, one engine after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from e2e.checkpoints.resolve import cache_directory
from e2e.records import AtTpSize, SoloAnswers, Started
from e2e.run.processes import START_TIMEOUT_S, engine_process
from e2e.workload.arms import environment
from e2e.workload.messages import RunAlone, RunTrial, StartEngine
from e2e.workload.trials import WARM_UP
from kernels_bench.records.cases import Device
from kernels_bench.workers.messages import Failure
from kernels_bench.workers.process import WorkerError


def ask_at_sizes(
    sizes: Sequence[int],
    start: StartEngine,
    device: Device,
    directory: Path,
    timeout_s: float,
    say: Callable[[str], None],
) -> Iterator[AtTpSize]:
    """What engines answer to the needles alone, asked twice; of one that cannot be asked the reason.

    Args:
        sizes: tensor-parallel sizes.
        start: the engine, whatever its size.
        device: what they run on.
        directory: for what the engines print.
        timeout_s: for their answers.
        say: is told what goes on.
    """
    for size in sizes:
        say(f"TP {size}: starting the engine")
        sized = start.model_copy(update={"options": start.options.model_copy(update={"tp_size": size})})
        try:
            yield _asked(sized, device, directory / f"tp{size}.log", timeout_s)
        except WorkerError as error:
            yield AtTpSize(tp_size=size, reason=str(error))


def _asked(start: StartEngine, device: Device, log: Path, timeout_s: float) -> AtTpSize:
    size = start.options.tp_size
    own = environment(start.arm, cache_directory(), device, tp_size=size)
    with engine_process(start.arm, own, log) as worker:
        asked = ((start, START_TIMEOUT_S), (RunTrial(trial=WARM_UP), timeout_s), (RunAlone(), timeout_s))
        replies: list[Any] = []
        for request, patience in asked:
            replies.append(worker.ask(request, patience))
            if isinstance(replies[-1], Failure):
                return AtTpSize(tp_size=size, reason=replies[-1].reason)
    started, _, alone = replies
    assert isinstance(started, Started)
    assert isinstance(alone, SoloAnswers)
    return AtTpSize(tp_size=size, provenance=started.provenance, answers=alone.answers)
