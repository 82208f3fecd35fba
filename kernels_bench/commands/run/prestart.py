"""A head start for the workers: they are started while a process of its own still finds out what could be run here.

That process imports torch and asks CUDA for the device, which takes seconds even from a warm disk. What it will say can
be foreseen from what the driver tells of the GPU; where it says otherwise, it is right.

On an H100 with 16 cores, such a process and then three that import torch and multiply once took 10.7 s; all four
started at once took 6.0 s (medians of six; importing torch is 4.5 s of a process, asking it for the device 0.2 s).

The parent could say in 0.2 s what runs on a device, but not which device torch finds: the driver also shows a card to
a torch that is built for CPUs or for a newer driver, shows a whole card where CUDA sees a part of it, and may count
unlike cards in another order. A choice of cases, a comparison on ``--resume`` and a refusal must not rest on that.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Self

from kernels_bench.commands.workload import make_workload
from kernels_bench.console.errors import UsageError
from kernels_bench.console.mistakes import PluginError
from kernels_bench.records.cases import Device
from kernels_bench.records.selection import Selection
from kernels_bench.workers.catalogue import catalogue
from kernels_bench.workers.orphan_guard import the_guard
from kernels_bench.workers.pool import WorkerPool


class HeadStart:
    """Workers of the arms that a run is expected to have; those that it was not handed over end with this context.

    Args:
        selection: what the user asked for.
        logs: directory for what the workers print; if it is made for that, it is removed in the end.
        earlier: directory of what workers of the same run have printed before; theirs goes on after it.
    """

    def __init__(self, selection: Selection, logs: Path, earlier: Path | None = None) -> None:
        self._selection, self._logs, self._earlier = selection, logs, earlier
        self._made = False
        self._pool: WorkerPool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, device: Device | None) -> None:
        """Start the workers of a run on a device; nothing is waited for, and what cannot be started is left out.

        Where there is no device, or arms come from plugins, which the workers alone import, nothing is started.
        """
        if device is None or self._selection.plugin:
            return
        try:
            workload = make_workload(catalogue(device), self._selection)
            if not self._logs.is_dir():
                the_guard().remove(self._logs)
                self._logs.mkdir()
                self._made = True
            for log in self._earlier.glob("*.log") if self._earlier is not None else ():
                shutil.copy(log, self._logs)
            self._pool = WorkerPool(
                workload.arms, self._logs, self._selection.timeout_s, extra_workers=workload.extra_workers
            )
            self._pool.start()
        except (UsageError, PluginError):  # it is told of what can really be run
            return
        except OSError:  # no room for logs, say, of which the run itself will tell
            self._end()

    def hand_over(self, pool: WorkerPool) -> None:
        """Give a pool the workers of its arms, and end all others."""
        if self._pool is not None:
            pool.adopt(self._pool)
        self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.kill()
            self._pool = None
        if self._made:
            shutil.rmtree(self._logs, ignore_errors=True)
            self._made = False


def hidden_beside(path: Path) -> Path:
    """A new name for a directory, on the file system on which ``path`` would be made."""
    parents = Path(os.path.abspath(path)).parents
    return next(parent for parent in parents if os.path.isdir(parent)) / f".samebits-{secrets.token_hex(4)}"
