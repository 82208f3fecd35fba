"""All planted faults over many seeds, on all cores or on the GPU."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from kernels_bench.console.errors import UsageError
from kernels_bench.console.progress import Display
from kernels_bench.console.text import suggestion
from kernels_bench.faults.base import faults
from kernels_bench.faults.score import Score, score


def run_all(names: Sequence[str] | None, seeds: Sequence[int], display: Display) -> list[Score]:
    """The detector's score over some faults, or all, and seeds.

    Raises:
        UsageError: an unknown fault.
    """
    known = faults(_device().type)
    for name in names or ():
        if name not in known:
            raise UsageError(f"--fault {name}: unknown{suggestion(name, list(known))}")
    chosen = [name for name in known if names is None or name in names]
    tasks = [(name, seed) for seed in seeds for name in chosen]
    display.phase("faults", len(tasks))
    found: dict[tuple[str, int], Score] = {}
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # they begin without the current directory's modules
    # Processes of their own, since a GPU cannot be used after a fork, and one thread each, since kernels are small.
    with ProcessPoolExecutor(_processes(), multiprocessing.get_context("spawn"), _alone) as pool:
        running = {pool.submit(_one, *task): task for task in tasks}
        for done in as_completed(running):
            found[running[done]] = done.result()
            display.step(running[done][0])
    return [found[task] for task in tasks]


def _processes() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _alone() -> None:
    torch.set_num_threads(1)


def _one(name: str, seed: int) -> Score:
    return score(faults(_device().type)[name], seed, _device())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
