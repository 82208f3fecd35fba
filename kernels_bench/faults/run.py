"""All planted faults over many seeds, on all cores or on the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kernels_bench.console.errors import UsageError
from kernels_bench.console.progress import Display
from kernels_bench.console.text import suggestion
from kernels_bench.faults.base import faults
from kernels_bench.faults.score import Score, score
from kernels_bench.workers.messages import Failure
from kernels_bench.workers.process import WorkerProcess, end
from kernels_bench.workers.scratch import scratch
from profiles.errors import CommandError, ExitStatus
from profiles.instruments.environment import usable_cores
from profiles.run_files.record import Record

_UNHURRIED_S = 1e9

_GPU_BYTES = 24 << 30
"""Of a GPU's memory, for each process: faults of the largest batches take about so much."""


class Examine(Record):
    """Request to a process of its own: the score of one fault.

    Attributes:
        fault: its name.
        seed: of all data.
    """

    fault: str
    seed: int


def answer(request: Examine) -> Score:
    """The score that was asked for."""
    device = _device()
    return score(faults(device.type)[request.fault], request.seed, device)


def run_all(names: Sequence[str] | None, seeds: Sequence[int], display: Display) -> list[Score]:
    """The detector's score over some faults, or all, and seeds.

    Raises:
        UsageError: an unknown fault.
        CommandError: a process that scores them was lost.
    """
    known = faults(_device().type)
    for name in names or ():
        if name not in known:
            raise UsageError(f"--fault {name}: unknown{suggestion(name, list(known))}")
    chosen = [name for name in known if names is None or name in names]
    tasks = [Examine(fault=name, seed=seed) for seed in seeds for name in chosen]
    display.phase("faults", len(tasks))
    found: dict[tuple[str, int], Score] = {}
    with TemporaryDirectory(dir=scratch()) as logs:
        for one in _scored(tasks, Path(logs)):
            found[one.fault, one.seed] = one
            display.step(one.fault)
    return [found[task.fault, task.seed] for task in tasks]


def _scored(tasks: Sequence[Examine], logs: Path) -> Iterator[Score]:
    """Scores as they come, of one process a core: a GPU cannot be used after a fork."""
    waiting = deque(tasks)
    programs = [
        WorkerProcess("faults", {}, logs / f"{number}.log", "kernels_bench.faults")
        for number in range(min(_processes(), len(tasks)))
    ]
    try:
        busy = {program.connection: program for program in programs}
        for program in programs:
            program.post(waiting.popleft(), _UNHURRIED_S)
        while busy:
            for connection in [*busy.keys() & {*wait([*busy])}]:
                reply = busy[connection].receive()
                if isinstance(reply, Failure):
                    raise CommandError(f"{reply.reason}; there is no score without it", ExitStatus.ERROR)
                if not isinstance(reply, Score):
                    continue  # the rest of it is still to come
                if waiting:
                    busy[connection].post(waiting.popleft(), _UNHURRIED_S)
                else:
                    del busy[connection]
                yield reply
    finally:
        end(programs)


def _processes() -> int:
    """As many as there are cores, and on a GPU no more than its memory holds."""
    cores, device = usable_cores() or 1, _device()
    if device.type != "cuda":
        return cores
    return max(1, min(cores, torch.cuda.get_device_properties(device).total_memory // _GPU_BYTES))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
