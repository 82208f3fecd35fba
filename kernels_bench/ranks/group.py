"""Some ranks as their host sees them: it gives each its input, has all compute together, and reads every result."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import NoReturn

from kernels_bench.device.lazy_torch import torch
from kernels_bench.ranks.messages import Begin, Go, Layout, Measure, Measured, Put, Sampling, Write
from profiles.instruments.torch_ranges import asked_for, recorder
from profiles.invocation import import_path, python

LIMIT_S = 60.0
"""So long a collective may take."""

MEETING_S = 120.0
"""So long ranks may take to be there and to meet."""

_GRACE_S = 2.0
"""When one rank complains, so long others may do so too, and so long it may take to hear of one that ended."""

ALONE: Mapping[str, str] = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A process with threads cannot part safely; and ranks are as many as there are cores, or more."""


_NUMBERS = count(1)
"""Of the groups of this process."""


class RankLost(Exception):  # noqa: N818 - a finding about a rank, not an error of ours
    """A rank that ended, hangs or fails; the message says which.  The whole group has ended with it."""


class Place:
    """Memory that the ranks share with their host, and that has no name: with the last of them it is gone.

    Args:
        number: by which the ranks know it.
        size: bytes.
    """

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.layout: Layout | None = None  # of what was put there last
        self.descriptor = os.memfd_create("samebits-ranks")
        weakref.finalize(self, os.close, self.descriptor)
        os.truncate(self.descriptor, size)
        self.memory = mmap.mmap(self.descriptor, size)


class RankParent:
    """A process that becomes ranks, of as many groups as there are; importing torch once is done for all of them.

    Attributes:
        process: it ends with this one, and all ranks end with it.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._control = Connection(ours.detach())
        self.process = subprocess.Popen(
            python("-m", "kernels_bench.ranks", str(os.getpid()), str(theirs.fileno())),
            env={**ALONE, "GLOO_SOCKET_IFNAME": "lo", **os.environ, **import_path(), **ALONE},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def begin(self, asked: Begin, descriptors: Sequence[int]) -> None:
        """Ask for a group, see `Begin`."""
        with contextlib.suppress(OSError):  # it is gone, which shows when its ranks are to answer
            self._control.send(asked)
            for descriptor in descriptors:
                send_handle(self._control, descriptor, self.process.pid)

    def close(self) -> None:
        """End it, and all ranks."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._control.close()


class RankGroup:
    """Processes that are the ranks of one process group of torch's.

    Args:
        ranks: how many.
        backend: ``gloo``, on CPUs, or ``nccl``, each rank on a GPU of its own.
        limit_s: see `LIMIT_S`.
        parent: of theirs and of others; by default they have one of their own, which ends with them.

    Attributes:
        process: the ranks' parent, with which they end.
        lock: held by whoever has the ranks compute: they do one thing at a time.

    Raises:
        RankLost: they do not come up.
    """

    def __init__(self, ranks: int, backend: str, limit_s: float = LIMIT_S, parent: RankParent | None = None) -> None:
        self._begin_counting(ranks, backend, limit_s)
        self._own = RankParent() if parent is None else None
        parent = parent or self._own
        assert parent is not None
        self.process = parent.process
        # A list of the descriptors that are handed on: theirs, which this process closes again.
        pairs = [socket.socketpair() for _ in range(ranks + 1)]
        self._told, *self._hosts = (Connection(ours.detach()) for ours, _ in pairs)
        self._begun = Place(0, 8 * ranks)
        told, *hosts = (theirs.fileno() for _, theirs in pairs)
        parent.begin(Begin(ranks, backend, f"{os.getpid()}.{next(_NUMBERS)}"), [told, self._begun.descriptor, *hosts])
        for _, theirs in pairs:
            theirs.close()
        self._answered("meet the others", MEETING_S)
        if (folder := asked_for()) is not None:
            # Not kept for it: a group that is let go of has been hung up on.
            known = weakref.WeakMethod(self.write_traces)
            recorder(folder).before_writing(lambda: (write := known()) and write())

    def _begin_counting(self, ranks: int, backend: str, limit_s: float) -> None:
        self.ranks, self.backend, self._limit_s = ranks, backend, limit_s
        self.lock = threading.RLock()
        self._calls = self._places = 0
        self._dropped: list[int] = []
        self._usual: Place | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._told.closed and self.process.poll() is None

    def put(
        self, parts: torch.Tensor, scattered: bool = False, own: bool = False, result_columns: int | None = None
    ) -> tuple[Place, Layout]:
        """Give each rank its input.

        Args:
            parts: (M, R, K), row by row each rank's part; of a weight likewise, (N, R, K).
            scattered: whether each rank is to have its share of the result's rows: their number is made a multiple of
                R by rows of zeros at the end, as engines do.
            own: whether the place is for this batch alone, for as long as it is held; else the next one takes it.
            result_columns: of a row of the result; by default K, and 0 where no result is asked for.

        Raises:
            RankLost: see there.
        """
        m, ranks, columns = parts.shape
        rows = -(-m // ranks) * ranks if scattered else m
        dtype = str(parts.dtype).removeprefix("torch.")
        layout = Layout(ranks, rows, columns, columns if result_columns is None else result_columns, dtype, scattered)
        place, new = self._place(layout.size, own)
        place.layout = layout
        self._fill(place, layout, parts, new)
        return place, layout

    def put_again(self, place: Place, parts: torch.Tensor) -> None:
        """Give each rank another input of the same size, where it has the last one: its graphs know that place.

        Args:
            place: of that one.
            parts: see `put`.

        Raises:
            RankLost: see there.
        """
        assert place.layout is not None, "nothing was put there yet"
        self._fill(place, place.layout, parts, new=False)

    def _fill(self, place: Place, layout: Layout, parts: torch.Tensor, new: bool) -> None:
        inputs, _ = layout.tensors(place.memory)
        inputs[:, : len(parts)].copy_(parts.transpose(0, 1))
        inputs[:, len(parts) :].zero_()
        dropped = tuple(self._dropped)
        del self._dropped[: len(dropped)]
        self._tell(Put(place.number, layout, place.size if new else 0, dropped))
        self._hand_on(place, layout, new)
        self._answered("take its input", self._limit_s)

    def _place(self, size: int, own: bool) -> tuple[Place, bool]:
        """Memory that is large enough, and whether the ranks do not know it yet."""
        if not own and self._usual is not None and self._usual.size >= size:
            return self._usual, False
        self._places += 1
        place = Place(self._places, size)
        weakref.finalize(place, self._dropped.append, place.number)
        if not own:
            self._usual = place
        return place, True

    def go(self, place: Place, collective: str, *others: Place, graph: bool = False) -> None:
        """Have all ranks compute what was put at a place, and at others, and wait for the last of them.

        Args:
            place: to whose inputs the result belongs.
            collective: see `Go`.
            others: where further inputs are.
            graph: see `Go`.

        Raises:
            RankLost: one ended, hangs or fails.
        """
        self._tell(self._call(place, collective, others, graph))
        self._answered(f"finish {_function(collective)}", self._limit_s)

    def _call(self, place: Place, collective: str, others: Sequence[Place], graph: bool = False) -> Go:
        self._calls += 1
        return Go((place.number, *(other.number for other in others)), collective, self._calls, graph)

    def measure(self, place: Place, collective: str, *others: Place, sampling: Sampling) -> list[Measured]:
        """Have all ranks time what `go` has them compute; what each of them found.

        Raises:
            RankLost: one ended, hangs or fails.
        """
        self._tell(Measure(self._call(place, collective, others), sampling))
        self._answered(f"be timed in {_function(collective)}", self._limit_s)
        return [self._measured(rank, host) for rank, host in enumerate(self._hosts)]

    def _measured(self, rank: int, host: Connection) -> Measured:
        try:
            found: Measured = host.recv()
        except (EOFError, OSError):
            self._lose(f"rank {rank}: hung up")
        return found

    def __del__(self) -> None:
        if asked_for() is not None and hasattr(self, "_begun") and self.alive:
            self.write_traces()

    def write_traces(self) -> None:
        """Have all ranks write what torch's profiler has recorded."""
        with self.lock, contextlib.suppress(RankLost):  # it may be lost by now
            self._tell(Write())
            self._answered("write its trace", self._limit_s)

    def _hand_on(self, place: Place, layout: Layout, new: bool) -> None:
        """Let the ranks have a place's memory, which those that know it share."""
        if new:
            for host in self._hosts:
                with contextlib.suppress(OSError):  # it is gone, which shows when its answer is read
                    send_handle(host, place.descriptor, self.process.pid)

    def _tell(self, what: Put | Go | Measure | Write) -> None:
        if self._told.closed:
            raise RankLost("these ranks have been lost before")
        for host in self._hosts:
            with contextlib.suppress(OSError):  # likewise
                host.send(what)

    def _answered(self, what: str, limit_s: float) -> None:
        """Wait until all ranks have answered.

        Raises:
            RankLost: one does not, or complains.
        """
        waiting = {host: rank for rank, host in enumerate(self._hosts)}
        until, complaints = time.monotonic() + limit_s, dict[int, str]()
        while waiting:
            ready = wait([*waiting, self._told], max(0.0, until - time.monotonic()))
            if not ready and complaints:
                break
            if not ready:
                self._lose(f"{self._hanging(sorted(waiting.values()), what)} within {limit_s:g} s")
            if self._told in ready:
                self._lose(self._ended())
            for host in ready:
                assert isinstance(host, Connection)
                if said := self._said(host):
                    complaints[waiting[host]] = said
                    until = min(until, time.monotonic() + _GRACE_S)
                del waiting[host]
        if complaints:
            # Those that are left complain of one that ended: that is the one to name.
            ended = self._told.poll(_GRACE_S)
            rank, said = min(complaints.items())
            self._lose(self._ended() if ended else f"rank {rank}: {said}")

    def _said(self, host: Connection) -> str:
        try:
            said: str = host.recv()
        except (EOFError, OSError):
            return "hung up"
        return said

    def _ended(self) -> str:
        """Which rank ended, in words."""
        try:
            rank, code = self._told.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            return f"the parent of the ranks {_in_words(code)}"
        return f"rank {rank} {_in_words(code)}"

    def _hanging(self, left: Sequence[int], what: str) -> str:
        """Who has not even begun, where there is one that the others wait for."""
        begun = torch.frombuffer(self._begun.memory, dtype=torch.int64).tolist()
        not_begun = [rank for rank in left if begun[rank] < self._calls]
        blamed = not_begun or left
        return f"{named(blamed)} did not {'begin' if not_begun else what}"

    def _lose(self, why: str) -> NoReturn:
        self.close()
        raise RankLost(why)

    def close(self) -> None:
        """End all ranks, as their parent does once they are hung up on."""
        if self._own is not None:
            self._own.close()
        for connection in (self._told, *self._hosts):
            connection.close()


def _function(collective: str) -> str:
    return collective.rpartition(":")[2]


def named(ranks: Sequence[int]) -> str:
    """Some ranks, in words."""
    numbers = ", ".join(map(str, ranks))
    return f"rank {numbers}" if len(ranks) == 1 else f"ranks {numbers}"


def _in_words(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
