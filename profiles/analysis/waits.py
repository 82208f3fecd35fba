"""Which rank waited for which: ranks that compute together are done when the last of them has come.

Every rank makes the same calls in the same order, so the n-th of each belong together.  A rank has come to a call when
its first kernel of communication begins there; all that come before the last wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from profiles.analysis.kernels.families import COMMUNICATION, family
from profiles.analysis.schema import RankWait, RankWaits
from profiles.instruments.range_names import RANKS, RankRange
from profiles.trace.attribution import launches_within
from profiles.trace.model import Array, Trace, pid_and_tid, process_id


class _Party(NamedTuple):
    """One rank's calls.

    Attributes:
        name: what a reader knows it by.
        came_ns: when it came to each, ``(n,)``.
        left_ns: when it was done with each, ``(n,)``.
    """

    name: str
    came_ns: Array
    left_ns: Array


def rank_waits(trace: Trace) -> tuple[RankWaits, ...]:
    """Of all ranks that announce their ranges; where none does, of processes whose communication belongs together.

    Where they were not all recorded as often nothing is told, since it is not known which calls belong together.
    """
    talking = np.array([family(kernel) == COMMUNICATION for kernel in trace.kernels], dtype=bool)
    announced = _announced(trace, talking)
    if announced:
        return tuple(
            _waits(f"{call} over {ranks} ranks", [parties[rank] for rank in sorted(parties)])
            for (call, _, ranks), parties in announced.items()
            if _belong_together(list(parties.values()))
        )
    processes = list(_processes(trace, talking))
    together = _belong_together(processes)
    return (_waits(f"communication of {len(processes)} processes", processes),) if together else ()


def _belong_together(parties: Sequence[_Party]) -> bool:
    return len(parties) > 1 and len({len(party.came_ns) for party in parties}) == 1


def _announced(trace: Trace, talking: np.ndarray) -> Mapping[tuple[str, str, int], dict[int, _Party]]:
    first, last = launches_within(trace)
    found: dict[tuple[str, str, int], dict[int, _Party]] = {}
    for number, label in enumerate(trace.labels):
        told = RankRange.read(label.message) if label.domain == RANKS else None
        if told is None:
            continue
        chosen = np.flatnonzero(trace.ranges.label == number)
        came = [_came_ns(trace, talking, int(one), int(first[one]), int(last[one])) for one in chosen]
        party = _Party(f"rank {told.rank}", np.array(came, dtype=np.int64), trace.ranges.end_ns[chosen])
        found.setdefault((told.call, told.group, told.ranks), {})[told.rank] = party
    return found


def _came_ns(trace: Trace, talking: np.ndarray, one: int, first: int, last: int) -> int:
    """When a rank came to the call of one range: where nothing in it communicates, as over one rank, at its start."""
    work = slice(*trace.launches.first[[first, last]])
    starts = trace.work.start_ns[work][talking[trace.work.kernel[work]]]
    return int(starts.min()) if len(starts) else int(trace.ranges.start_ns[one])


def _processes(trace: Trace, talking: np.ndarray) -> Iterator[_Party]:
    owner = process_id(np.repeat(trace.launches.thread, np.diff(trace.launches.first)))
    for process in np.unique(owner):
        places = np.flatnonzero((owner == process) & talking[trace.work.kernel])
        places = places[np.argsort(trace.work.start_ns[places], kind="stable")]
        if len(places):
            pid, _ = pid_and_tid(int(process))
            yield _Party(f"process {pid}", trace.work.start_ns[places], trace.work.end_ns[places])


def _waits(what: str, parties: Sequence[_Party]) -> RankWaits:
    calls = len(parties[0].came_ns)
    came = np.stack([party.came_ns for party in parties])
    waited = came.max(0) - came
    last = came.argmax(0)
    left = np.stack([party.left_ns for party in parties]).max(0)
    together = np.array([int(waited[:, last == other].sum()) for other in range(len(parties))])
    return RankWaits(
        what=what,
        calls=calls,
        call_ns=int(np.median(left - came.min(0))) if calls else 0,
        ranks=tuple(
            RankWait(
                name=party.name,
                last=int((last == number).sum()),
                waited_ns=int(waited[number].sum()),
                waited_for_ns=int(together[number]),
                waited_for=tuple(int(waited[number, last == other].sum()) for other in range(len(parties))),
            )
            for number, party in enumerate(parties)
        ),
    )
