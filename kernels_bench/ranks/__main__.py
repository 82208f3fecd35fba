"""The parent of some ranks: ``python -m kernels_bench.ranks HOST CONTROL``, started by `kernels_bench.ranks.group`.

It imports torch once, and becomes as many processes as the host asks for, one group after the other.  Otherwise it
does nothing but tell the host which of them ended, and how, and end those of a group that the host has done with.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from typing import NoReturn

from kernels_bench.parent import die_with_parent
from kernels_bench.ranks.messages import Begin


@dataclass
class _Group:
    """Some ranks.

    Attributes:
        told: where the host is told of those that ended; it hangs up when it has done with the group.
        ranks: process id and rank of each that lives, by a descriptor that tells when it ends.
    """

    told: Connection
    ranks: dict[int, tuple[int, int]] = field(default_factory=dict)


class _Parent:
    """Starts groups, and looks after them.

    Args:
        control: what the host asks.
    """

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._groups: list[_Group] = []

    def serve(self) -> None:
        """Until the host hangs up."""
        while True:
            by_told = {group.told: group for group in self._groups if not group.told.closed}
            by_rank = {ended: group for group in self._groups for ended in group.ranks}
            for ready in wait([self._control, *by_told, *by_rank]):
                if ready is self._control:
                    try:
                        self._begin(self._control.recv())
                    except (EOFError, OSError):
                        return
                elif isinstance(ready, int):
                    _reap(by_rank[ready], ready)
                elif isinstance(ready, Connection):
                    _end(by_told[ready])
            self._groups = [group for group in self._groups if group.ranks or not group.told.closed]

    def _begin(self, asked: Begin) -> None:
        """Fork the ranks of a group, which meet at a port of this host."""
        told, begun, *hosts = (recv_handle(self._control) for _ in range(2 + asked.ranks))
        group = _Group(Connection(told))
        self._groups.append(group)
        parent = os.getpid()
        with socket.create_server(("127.0.0.1", 0)) as meeting:
            for rank in range(asked.ranks):
                process = os.fork()
                if process == 0:
                    self._let_go()
                    _be(rank, hosts, begun, meeting, parent, asked)
                group.ranks[os.pidfd_open(process)] = process, rank
        for descriptor in (begun, *hosts):  # a rank's host must see that it is gone
            os.close(descriptor)

    def _let_go(self) -> None:
        """In a rank: of what is its parent's."""
        self._control.close()
        for group in self._groups:
            group.told.close()
            for descriptor in group.ranks:
                os.close(descriptor)


def _reap(group: _Group, ended: int) -> None:
    """Tell of a rank that ended."""
    process, rank = group.ranks.pop(ended)
    os.close(ended)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):  # the host has done with them
        group.told.send((rank, os.waitstatus_to_exitcode(status)))


def _end(group: _Group) -> None:
    group.told.close()
    for process, _ in group.ranks.values():
        os.kill(process, signal.SIGKILL)


def _be(rank: int, hosts: list[int], begun: int, meeting: socket.socket, parent: int, asked: Begin) -> NoReturn:
    """A rank's life."""
    die_with_parent(parent)
    import torch

    from kernels_bench.ranks.member import Member, join, meet

    host = Connection(hosts[rank])
    for number, other in enumerate(hosts):
        if number != rank:
            os.close(other)
    try:
        device = join(rank, asked.ranks, asked.backend, meet(rank, asked.ranks, meeting), rank)
        calls = torch.frombuffer(mmap.mmap(begun, 8 * len(hosts)), dtype=torch.int64)
    except Exception as error:
        host.send(f"{type(error).__name__}: {error}")
    else:
        host.send("")
        Member(rank, device, calls, asked.group).serve(host)
    os._exit(0)


def main() -> None:
    """Be the parent of ranks."""
    host, control = map(int, sys.argv[1:])
    die_with_parent(host)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to handle
    import kernels_bench.ranks.member  # noqa: F401 - and torch with it: for all ranks, before they part

    _Parent(Connection(control)).serve()


if __name__ == "__main__":
    main()
