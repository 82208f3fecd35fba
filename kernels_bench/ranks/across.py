"""Ranks that torchrun started, on several nodes perhaps: what they are given, and give, goes over the network.

Whoever runs the command is their host.  It leaves a note of each group that it wants in torchrun's store, and every
process of torchrun's that is to be a rank of it starts one, which calls the host.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from kernels_bench.device.lazy_torch import torch
from kernels_bench.ranks.group import ALONE, LIMIT_S, MEETING_S, Place, RankGroup, RankLost, named
from kernels_bench.ranks.messages import Layout, Measured, Sampling

VARIABLE = "SAMEBITS_RANKS"
"""Set for the command that torchrun's first process runs: address and port of the store, and number of ranks."""
NOTES, NOTE = "samebits/groups", "samebits/group"
"""In the store: how many groups were asked for, and, with its number behind, each of them."""
_PASSED_ON = ("NCCL_", "TORCH_NCCL_", "GLOO_", "VLLM_")
"""Variables of an arm's process that its ranks have too begin so."""


def ranks_of_torchrun() -> int | None:
    """How many ranks torchrun started; None where it did not."""
    told = os.environ.get(VARIABLE)
    return None if told is None else int(told.rpartition(" ")[2])


def store_at(address: str, port: int, serving: bool = False) -> Any:
    """torchrun's store.

    Args:
        address: of the first node.
        port: of the store there.
        serving: whether this process is to be the one that serves it.
    """
    distributed: Any = torch.distributed
    return distributed.TCPStore(
        address, port, is_master=serving, wait_for_workers=False, timeout=timedelta(seconds=MEETING_S)
    )


class GroupAcross(RankGroup):
    """A `RankGroup` of torchrun's ranks.

    Args:
        ranks: how many.
        backend: see `RankGroup`.
        limit_s: likewise.

    Raises:
        RankLost: they do not come up.
    """

    def __init__(self, ranks: int, backend: str, limit_s: float = LIMIT_S) -> None:
        self._begin_counting(ranks, backend, limit_s)
        address, port, _ = os.environ[VARIABLE].split(" ")
        store, key = store_at(address, int(port)), secrets.token_hex()
        # Nobody tells of ranks that ended: that they hang up is all that is known.
        ours, self._nobody = socket.socketpair()
        self._told = Connection(ours.detach())
        self._hosts: list[Connection] = []
        with socket.create_server(("", 0)) as calls:
            note = {
                "ranks": ranks, "backend": backend, "host": [address, calls.getsockname()[1]], "key": key,
                "environment": _passed_on(os.environ),
            }  # fmt: skip
            store.set(f"{NOTE}/{store.add(NOTES, 1)}", json.dumps(note))
            calls.settimeout(MEETING_S)
            self._hosts = _called_by_all(calls, ranks, key.encode())
        self._answered("meet the others", MEETING_S)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._told.closed

    def go(self, place: Place, collective: str, *others: Place, graph: bool = False) -> None:
        """As of `RankGroup`; results are sent."""
        super().go(place, collective, *others, graph=graph)
        assert place.layout is not None
        _, results = place.layout.tensors(place.memory)
        for rank, host in enumerate(self._hosts):
            try:
                data = bytearray(host.recv_bytes())
            except (EOFError, OSError):
                self._lose(f"rank {rank}: hung up")
            results[rank].copy_(torch.frombuffer(data, dtype=results.dtype).view(results[rank].shape))

    def measure(self, place: Place, collective: str, *others: Place, sampling: Sampling) -> list[Measured]:
        """As of `RankGroup`; results are those of a further call."""
        found = super().measure(place, collective, *others, sampling=sampling)
        self.go(place, collective, *others)
        return found

    def _hand_on(self, place: Place, layout: Layout, new: bool) -> None:
        inputs, _ = layout.tensors(place.memory)
        for rank, host in enumerate(self._hosts):
            try:
                host.send_bytes(as_bytes(inputs[rank]))
            except OSError:  # it is gone, which shows when its answer is read
                continue

    def _hanging(self, left: Any, what: str) -> str:
        return f"{named(left)} did not {what}"

    def close(self) -> None:
        """Hang up on all ranks, which end then."""
        for connection in (self._told, *self._hosts):
            connection.close()
        self._nobody.close()


def as_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor's elements, one after the other."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _passed_on(variables: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: value for name, value in variables.items() if name.startswith(_PASSED_ON)}
    return {**chosen, **ALONE}


def _called_by_all(calls: socket.socket, ranks: int, key: bytes) -> list[Connection]:
    """A connection with each rank, in their order."""
    found: dict[int, Connection] = {}
    while len(found) < ranks:
        try:
            call, _ = calls.accept()
        except TimeoutError:
            missing = [rank for rank in range(ranks) if rank not in found]
            raise RankLost(f"{named(missing)} did not call within {MEETING_S:g} s") from None
        connection = Connection(call.detach())
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        found[connection.recv()] = connection
    return [found[rank] for rank in range(ranks)]
