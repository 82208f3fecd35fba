"""What a profiler recorded, whichever it was: ranges of the host, launches within them, and the GPU's work.

Everything is kept in arrays: a report may hold millions of kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.int64]
Kind = Literal["kernel", "copy", "fill", "operator"]
Style = Literal["PushPop", "StartEnd"]

_THREAD_BITS = 24


@dataclass(frozen=True)
class Kernel:
    """What was launched, and in which form; equal ones are the same object within a trace.

    Attributes:
        name: without template arguments and parameters, as ``reduce_kernel``.
        full_name: with them; the same as ``name`` where the profiler knows no more.
        kind: ``kernel``; ``copy`` and ``fill`` of memory, without the fields that follow; ``operator`` of torch, which
            stands for kernels where everything ran on a CPU.
        grid: blocks along x, y and z.
        block: threads of a block along x, y and z.
        registers: of a thread.
    """

    name: str
    full_name: str
    kind: Kind = "kernel"
    grid: tuple[int, int, int] = (0, 0, 0)
    block: tuple[int, int, int] = (0, 0, 0)
    registers: int = 0


@dataclass(frozen=True)
class Label:
    """What a range is called.

    Attributes:
        domain: empty for the default domain.
        message: the range's text.
        style: ``PushPop`` (of a thread, nested) or ``StartEnd``.
    """

    domain: str
    message: str
    style: Style = "PushPop"

    @property
    def text(self) -> str:
        """As nsys writes it: ``domain:message``."""
        return f"{self.domain}:{self.message}" if self.domain else self.message


@dataclass(frozen=True, eq=False)
class Work:
    """What the GPU did, in the order of the launches, and by start within a launch; all arrays are ``(n,)``.

    Attributes:
        start_ns: when it began, on the clock of the ranges.
        end_ns: when it ended.
        kernel: which of the trace's kernels.
        in_graph: whether it was a node of a CUDA graph.
    """

    start_ns: Array
    end_ns: Array
    kernel: Array
    in_graph: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, eq=False)
class Launches:
    """Calls of the host that made the GPU do something, by thread and start; a graph's replay is one of them.

    Attributes:
        start_ns: when the call began, ``(n,)``.
        end_ns: when it returned, ``(n,)``.
        thread: `thread_id` of the caller, ``(n,)``.
        first: place of its first work, ``(n + 1,)``: that of launch i is ``first[i]:first[i + 1]``.
    """

    start_ns: Array
    end_ns: Array
    thread: Array
    first: Array

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, eq=False)
class Spans:
    """Ranges of the host, by start; all arrays are ``(n,)``.

    Attributes:
        start_ns: when it was entered.
        end_ns: when it was left.
        thread: `thread_id` of the thread that entered it.
        label: which of the trace's labels.
    """

    start_ns: Array
    end_ns: Array
    thread: Array
    label: Array

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, eq=False)
class Trace:
    """One report.

    Attributes:
        source: tool and version that wrote it.
        kernels: every form in which something was launched.
        work: the GPU's.
        launches: the host's.
        ranges: the host's.
        labels: what the ranges are called.
        notes: what a reader must know of what is missing, a line each.
    """

    source: str
    kernels: tuple[Kernel, ...]
    work: Work
    launches: Launches
    ranges: Spans
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RawWork:
    """Work as reports hold it: it knows its launch by a number only; all arrays are ``(n,)``.

    Attributes:
        process: of the launch, as `process_id` has it.
        correlation: number of the launch within the process.
        work: the rest.
    """

    process: Array
    correlation: Array
    work: Work


@dataclass(frozen=True, eq=False)
class RawLaunches:
    """Calls of the host, those that launched nothing among them; all arrays are ``(n,)``.

    Attributes:
        start_ns: when the call began.
        end_ns: when it returned.
        thread: `thread_id` of the caller.
        correlation: its number within the process.
    """

    start_ns: Array
    end_ns: Array
    thread: Array
    correlation: Array


def thread_id(process: int, thread: int) -> int:
    """One number for a thread of a process, where a report does not have it already."""
    return process << _THREAD_BITS | thread


def process_id(thread: Array) -> Array:
    """What is the same for all threads of a process, ``(n,)``."""
    return thread >> _THREAD_BITS << _THREAD_BITS


def pid_and_tid(thread: int) -> tuple[int, int]:
    """The operating system's numbers of a process and a thread."""
    mask = (1 << _THREAD_BITS) - 1
    return thread >> _THREAD_BITS & mask, thread & mask


FAR_NS = 1 << 61
"""No time of a trace is as far from its clock's beginning, which is 73 years: differences of two fit 64 bits."""


def possible(trace: Trace) -> Trace:
    """The same trace, if its times can be ones.

    Raises:
        ValueError: one is too far from the others.
    """
    spans = (trace.work, trace.launches, trace.ranges)
    for times in (times for one in spans for times in (one.start_ns, one.end_ns)):
        if len(times) and not -FAR_NS < int(times.min()) <= int(times.max()) < FAR_NS:
            raise ValueError("a time is further from the others than 73 years")
    return trace


def joined(raw: RawWork, calls: RawLaunches) -> tuple[Work, Launches, int]:
    """Give work to the calls that launched it; also tell for how much work there is no call, which is left out."""
    caller = _caller(raw, calls)
    known = np.flatnonzero(caller >= 0)
    used, place = np.unique(caller[known], return_inverse=True)
    by_thread = np.lexsort((calls.start_ns[used], calls.thread[used]))
    rank = np.empty_like(by_thread)
    rank[by_thread] = np.arange(len(by_thread))
    launch = rank[place]
    order = np.lexsort((raw.work.start_ns[known], launch))
    chosen, used = known[order], used[by_thread]
    first = np.searchsorted(launch[order], np.arange(len(used) + 1))
    launches = Launches(calls.start_ns[used], calls.end_ns[used], calls.thread[used], first)
    return taken(raw.work, chosen), launches, len(raw.work) - len(known)


def _caller(raw: RawWork, calls: RawLaunches) -> Array:
    """For each work, which call launched it; -1 where there is none, ``(n,)``."""
    if not len(calls.start_ns):
        return np.full(len(raw.work), -1)
    process = process_id(calls.thread)
    processes = np.unique(np.concatenate([process, raw.process]))
    # Numbers of launches have 32 bits; with the process's place above them the two make one key.
    keys = np.searchsorted(processes, process) << 33 | calls.correlation
    wanted = np.searchsorted(processes, raw.process) << 33 | raw.correlation
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = order[place]
    return np.where(keys[found] == wanted, found, -1)


def taken(work: Work, chosen: npt.NDArray[np.generic] | slice) -> Work:
    """Some of the work."""
    return Work(work.start_ns[chosen], work.end_ns[chosen], work.kernel[chosen], work.in_graph[chosen])


def with_notes(trace: Trace, notes: Sequence[str]) -> Trace:
    """The same with more to say."""
    return replace(trace, notes=(*trace.notes, *notes))


def cut_short(trace: Trace) -> Iterator[str]:
    """A note for each process that entered ranges after the last work that is recorded of it."""
    threads, processes = trace.launches.thread, process_id(trace.ranges.thread)
    for process in np.unique(processes):
        of_it = np.flatnonzero(process_id(threads) == process)
        if not len(of_it):
            continue
        last_ns = int(trace.launches.end_ns[of_it].max())
        later = int(np.count_nonzero((processes == process) & (trace.ranges.start_ns > last_ns)))
        if later:
            pid, _ = pid_and_tid(int(process))
            yield (
                f"process {pid}: {later} ranges begin after its last recorded launch, at {last_ns / 1e9:.3f} s; "
                "if they launched something, the process ended before it was saved"
            )
