"""One rank's process: does what the host says until it hangs up."""

from __future__ import annotations

import importlib
import mmap
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

import torch
import torch.distributed as dist

from kernels_bench.device.cuda_graph import capture_graph
from kernels_bench.ranks.messages import Go, Layout, Measure, Measured, Put, Write
from profiles.instruments.range_names import RANK, RANKS, RankRange
from profiles.instruments.ranges import Ranges

FOREVER = timedelta(days=1)
"""The host decides how long a rank may take, and who is to blame."""

Collective = Callable[..., None]
"""Takes the rank's inputs, the first of them (rows, K), and where its result belongs; all ranks call it together.

One whose graphs hold more than its launches, such as addresses that ranks tell each other, has an attribute
``capturing``: a function that gives the context within which a graph is to be captured.
"""


def capturing(collective: Collective) -> AbstractContextManager[None]:
    """The context within which a graph of a collective is captured, on all ranks at once."""
    found: Callable[[], AbstractContextManager[None]] = getattr(collective, "capturing", nullcontext)
    return found()


@dataclass(frozen=True, eq=False)
class _Batch:
    """What was put at a place: on the rank's device, and where the host reads the result.

    Attributes:
        graphs: what was captured over it, by what was asked for; they hold these very tensors.
    """

    layout: Layout
    given: torch.Tensor
    result: torch.Tensor
    told: torch.Tensor
    graphs: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def hand_back(self) -> None:
        """Let the host read the result; waits for the device."""
        if self.result is not self.told:
            self.told.copy_(self.result)


@dataclass
class Member:
    """A rank of a process group that is there already.

    Args:
        rank: its number.
        device: on which it computes.
        begun: by rank, the number of the call that each has begun.
        group: tells these ranks from others in a profiler's report.
    """

    rank: int
    device: torch.device
    begun: torch.Tensor
    group: str
    _ranges: Ranges = field(default_factory=lambda: Ranges(RANKS))
    _recording: AbstractContextManager[None] | None = None
    _memory: dict[int, mmap.mmap] = field(default_factory=dict)
    _batches: dict[int, _Batch] = field(default_factory=dict)
    _stopwatches: dict[str, Any] = field(default_factory=dict)

    def serve(self, host: Connection) -> None:
        """Answer each message with nothing, or with what went wrong."""
        while True:
            try:
                asked = host.recv()
            except (EOFError, OSError):
                return
            try:
                found = self._done(asked, host)
            except Exception as error:  # a library may raise anything, and the host tells of it
                host.send(f"{type(error).__name__}: {error}")
            else:
                host.send("")
                if found is not None:
                    host.send(found)
                if isinstance(asked, Go):
                    self._hand_back(asked, host)

    def _done(self, asked: Put | Go | Measure | Write, host: Connection) -> Measured | None:
        """Do what the host asks of this rank; what was measured, if that was asked."""
        if isinstance(asked, Put):
            self._put(asked, host)
        elif isinstance(asked, Write):
            self._write()
        elif isinstance(asked, Measure):
            return self._measured(asked)
        else:
            self._go(asked)
        return None

    def _hand_back(self, asked: Go, host: Connection) -> None:
        """Let the host have the result: it shares the memory."""

    def _put(self, asked: Put, host: Connection) -> None:
        """Have a batch's input on this rank's device, and room for its result; forget those that are dropped."""
        if self._recording is None and self._ranges.recorded:  # before the others wait for it
            self._recording = self._ranges.range(RANK)
            self._recording.__enter__()
        for place in asked.dropped:
            self._batches.pop(place, None)
            self._memory.pop(place, None)
        self._take(asked, host)
        inputs, results = asked.layout.tensors(self._memory[asked.place])
        known = self._batches.get(asked.place)
        if known is not None and known.layout == asked.layout:  # and its graphs stay what they are
            known.given.copy_(inputs[self.rank])
            return
        given, told = inputs[self.rank].to(self.device), results[self.rank]
        result = told if given.device == told.device else told.to(self.device)
        self._batches[asked.place] = _Batch(asked.layout, given, result, told)

    def _take(self, asked: Put, host: Connection) -> None:
        """The memory of a place, with what was put there."""
        if asked.size:
            self._batches.pop(asked.place, None)
            descriptor = recv_handle(host)
            self._memory[asked.place] = mmap.mmap(descriptor, asked.size)
            os.close(descriptor)

    def _go(self, asked: Go) -> None:
        batch, call = self._call_of(asked)
        run = self._graph_of(batch, asked, call).replay if asked.graph else call
        with self._announced(asked.collective):
            run()
            batch.hand_back()

    def _call_of(self, asked: Go) -> tuple[_Batch, Callable[[], None]]:
        """The batch that a result belongs to, and the call; it is noted as begun."""
        batch, *others = (self._batches[place] for place in asked.places)
        self.begun[self.rank] = asked.number
        collective, weights = _named(asked.collective), [other.given for other in others]
        return batch, lambda: collective(batch.given, *weights, batch.result)

    def _graph_of(self, batch: _Batch, asked: Go, call: Callable[[], None]) -> Any:
        """A graph of a call; all ranks capture theirs at the same time, since each calls it once before."""
        key = asked.collective, asked.places
        if key not in batch.graphs:
            with capturing(_named(asked.collective)):
                batch.graphs[key], _ = capture_graph(call)
        return batch.graphs[key]

    def _measured(self, asked: Measure) -> Measured:
        """Time a batch's call as the host says."""
        batch, call = self._call_of(asked.go)
        name = asked.sampling.stopwatch
        if name not in self._stopwatches:
            self._stopwatches[name] = _named(name)(self.device)

        def announced() -> None:
            """The call with a range around it."""
            with self._announced(asked.go.collective):
                call()

        timed, within = announced if self._ranges.recorded else call, partial(capturing, _named(asked.go.collective))
        found: Measured = self._stopwatches[name].measured(timed, asked.sampling, within)
        batch.hand_back()
        return found

    def _announced(self, collective: str) -> AbstractContextManager[None]:
        """A range around a call, within one around all of them: torch's profiler writes when the outermost ends."""
        if not self._ranges.recorded:
            return nullcontext()
        call = collective.rpartition(":")[2]
        return self._ranges.range(RankRange(call, self.group, self.rank, len(self.begun)).message)

    def _write(self) -> None:
        if self._recording is not None:
            self._recording.__exit__(None, None, None)
            self._recording = None


def _named(name: str) -> Callable[..., Any]:
    """A function or class by its ``module:name``."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def meet(rank: int, ranks: int, meeting: socket.socket) -> Any:
    """Where the ranks of a new process group find each other.

    Args:
        rank: its number.
        ranks: how many there are.
        meeting: a socket that listens, which rank 0 takes over: so nobody else can have its port.
    """
    address, port = meeting.getsockname()
    descriptor = meeting.detach() if rank == 0 else None
    return dist.TCPStore(  # type: ignore[attr-defined]  # which torch does not say that it has
        address, port, ranks, rank == 0, FOREVER, master_listen_fd=descriptor, use_libuv=False
    )


def join(rank: int, ranks: int, backend: str, store: Any, local: int) -> torch.device:
    """Become a rank of a new process group; where this one computes.

    Args:
        rank: its number.
        ranks: how many there are.
        backend: ``gloo`` or ``nccl``.
        store: where they find each other.
        local: its number among those of its node.
    """
    device = torch.device("cuda", local) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(1)  # ranks are as many as there are cores, or more
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=FOREVER)
    return device
