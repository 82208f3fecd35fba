"""``torchrun … -m kernels_bench.ranks.torchrun OPTIONS``: ``python -m kernels_bench OPTIONS`` over torchrun's ranks.

The first of torchrun's processes runs the command.  Each of them starts a rank for every group that it asks for.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from kernels_bench.parent import die_with_parent
from kernels_bench.ranks.across import NOTE, VARIABLE, as_bytes, store_at
from kernels_bench.ranks.member import Member, join
from kernels_bench.ranks.messages import Go, Put
from profiles.invocation import import_path, python

_OVER, _LEFT = "samebits/over", "samebits/left"
_LOOK_S, _LEAVING_S = 0.1, 30.0
_RANK = "--rank"


class FarMember(Member):
    """A `Member` that shares no memory with its host."""

    def _take(self, asked: Put, host: Connection) -> None:
        known = self._batches.get(asked.place)
        if known is None or known.layout != asked.layout:
            self._batches.pop(asked.place, None)
            self._memory[asked.place] = mmap.mmap(-1, asked.layout.size)
        inputs, _ = asked.layout.tensors(self._memory[asked.place])
        mine = inputs[self.rank]
        mine.copy_(torch.frombuffer(bytearray(host.recv_bytes()), dtype=mine.dtype).view(mine.shape))

    def _hand_back(self, asked: Go, host: Connection) -> None:
        host.send_bytes(as_bytes(self._batches[asked.places[0]].told))


def main() -> NoReturn:
    """One of torchrun's processes, or a rank that one started."""
    if sys.argv[1:2] == [_RANK]:
        _be_a_rank(json.loads(sys.argv[2]))
    if "RANK" not in os.environ:
        sys.exit("kernels_bench.ranks.torchrun: torchrun starts this: torchrun --nproc-per-node 4 -m ...")
    sys.exit(_serve(sys.argv[1:]))


def _serve(words: list[str]) -> int:
    """Run the command in the first process, and this one's rank of each of its groups; the command's exit status."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun's own process serves the store, but for a rendezvous that is static.
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = store_at(address, port, serving=own and rank == 0)
    told = {VARIABLE: f"{address} {port} {world}", **import_path()}
    command = subprocess.Popen(python("-m", "kernels_bench", *words), env={**os.environ, **told}) if rank == 0 else None
    started: list[subprocess.Popen[bytes]] = []
    number = 1
    while not store.check([_OVER]):
        if store.check([f"{NOTE}/{number}"]):
            note = json.loads(store.get(f"{NOTE}/{number}"))
            if rank < note["ranks"]:
                started.append(_started(note, number, rank, address, port))
            number += 1
        elif command is not None and command.poll() is not None:
            store.set(_OVER, "")
        else:
            time.sleep(_LOOK_S)
    for process in started:  # their host is gone, and one that hangs does not see it
        process.kill()
        process.wait()
    _leave_together(store, world)
    return 0 if command is None else command.returncode


def _leave_together(store: Any, world: int) -> None:
    """Whoever serves the store stays until all have seen that it is over."""
    until = time.monotonic() + _LEAVING_S
    with contextlib.suppress(dist.DistError):
        store.add(_LEFT, 1)
        while store.add(_LEFT, 0) < world and time.monotonic() < until:
            time.sleep(_LOOK_S)


def _started(note: dict[str, Any], number: int, rank: int, address: str, port: int) -> subprocess.Popen[bytes]:
    """A rank of a group that the host left a note of."""
    local = int(os.environ.get("LOCAL_RANK", rank))
    told = {**note, "number": number, "rank": rank, "local": local, "store": [address, port], "parent": os.getpid()}
    environment = {**os.environ, **note["environment"], **import_path()}
    return subprocess.Popen(python("-m", "kernels_bench.ranks.torchrun", _RANK, json.dumps(told)), env=environment)


def _be_a_rank(told: dict[str, Any]) -> NoReturn:
    """Join a group, and serve its host until that is gone."""
    die_with_parent(told["parent"])
    rank, ranks = told["rank"], told["ranks"]
    host = Connection(socket.create_connection(tuple(told["host"])).detach())
    key = told["key"].encode()
    answer_challenge(host, key)
    deliver_challenge(host, key)
    host.send(rank)
    distributed: Any = dist
    try:
        store = distributed.PrefixStore(f"samebits/met/{told['number']}", store_at(*told["store"]))
        store.set_timeout(timedelta(days=1))
        device = join(rank, ranks, told["backend"], store, told["local"])
    except Exception as error:
        host.send(f"{type(error).__name__}: {error}")
    else:
        host.send("")
        group = f"{told['host'][1]}.{told['number']}"
        FarMember(rank, device, torch.zeros(ranks, dtype=torch.int64), group).serve(host)
    os._exit(0)


if __name__ == "__main__":
    main()
