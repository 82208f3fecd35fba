"""Whatever arrives from a process, or does not, is waited for as long as the command line says and no longer."""

from __future__ import annotations

import os
import pickle
import struct
from multiprocessing import Pipe
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.workers.inbox import MOST_BYTES, GarbledError, Inbox
from kernels_bench.workers.messages import Failure, Release, Turned
from kernels_bench.workers.pool import WorkerPool
from kernels_bench.workers.process import GARBLED
from profiles.run_files.record import Record
from support.processes import kernels_bench, plugged, verify

LIMIT_S = 6.0
"""Waited out once a test; whoever answers at all does so in a moment, and is not to be late on a busy machine."""
NAME = "writes_to_the_parent"


@pytest.mark.parametrize("at_once", [False, True], ids=["asked", "at work"])
def test_a_kernel_that_writes_to_its_processs_connection_costs_its_case_alone(tmp_path: Path, at_once: bool) -> None:
    lost = f"the worker of {NAME} {GARBLED}"
    late = f"no answer within {LIMIT_S:g} s (--timeout)"
    said = {64: "", 65: lost, 66: lost, 69: "", 68: lost, 67: late, 70: ""}  # never three in a row
    requests = [verify(NAME, k) for k in said]
    with WorkerPool([plugged(NAME, f"{NAME}.py")], tmp_path, LIMIT_S) as pool:
        pool.start()
        if at_once:
            answers = {request.case.shape.k: reply for request, reply in pool.work({NAME: requests}, 1)}
        else:
            answers = {request.case.shape.k: pool.ask(NAME, request) for request in requests}
    assert {k: reply.reason if isinstance(reply, Failure) else "" for k, reply in answers.items()} == said


def test_kernels_that_never_come_are_given_up_in_time(tmp_path: Path) -> None:
    name = "sleeps_in_kernels"
    with WorkerPool([plugged(name, f"{name}.py")], tmp_path, 2.0) as pool:
        pool.start()
        reply = pool.ask(name, verify(name, 64))
    assert isinstance(reply, Failure)
    assert reply.reason == f"{name} did not start: no answer within 2 s (--timeout)"


def test_a_plugins_import_that_sleeps_is_given_up_in_time(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time; time.sleep(10**6)")
    done = kernels_bench("--list", "--plugin", tmp_path / "mine.py", "--timeout", 2)
    (line,) = done.err.splitlines()
    assert (done.status, done.out) == (2, "")
    assert line.endswith("mine.py does not import: no answer within 2 s; raise --timeout if it needs longer")


# --- the inbox alone ---------------------------------------------------------------------------------------


def read_all(data: bytes) -> list[Record]:
    """What an inbox makes of bytes that come with the end of the connection behind them."""
    ours, theirs = Pipe()
    with ours, theirs:
        os.set_blocking(theirs.fileno(), True)
        os.write(theirs.fileno(), data)
        theirs.close()
        inbox, found = Inbox(ours), list[Record]()
        try:
            while True:
                if (one := inbox.read()) is not None:
                    found.append(one)
        except EOFError:
            return found


def sent(*messages: Record) -> bytes:
    pickled = [pickle.dumps(one) for one in messages]
    return b"".join(struct.pack("!i", len(one)) + one for one in pickled)


def test_what_a_connection_sends_is_read() -> None:
    ours, theirs = Pipe()
    messages = [Turned(done=True), Release(), Failure(status="failed", reason="x" * 100_000)]
    with ours, theirs:
        inbox = Inbox(ours)
        for message in messages:
            theirs.send(message)
            while (found := inbox.read()) is None:
                pass
            assert found == message


def test_several_messages_are_told_apart() -> None:
    messages = [Turned(done=True), Release(), Turned(done=False)]
    assert read_all(sent(*messages)) == messages
    long = pickle.dumps(messages[0])
    assert read_all(struct.pack("!iQ", -1, len(long)) + long) == messages[:1]


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_message_or_garbled(data: bytes) -> None:
    try:
        found = read_all(data)
    except GarbledError:
        return
    assert found == []  # the beginning of what may still become one


@pytest.mark.parametrize("size", [0, -2, MOST_BYTES + 1])
def test_no_message_has_such_a_size(size: int) -> None:
    with pytest.raises(GarbledError):
        read_all(struct.pack("!i", size))


def test_what_is_no_record_is_garbled() -> None:
    data = pickle.dumps({"kind": "verification"})
    with pytest.raises(GarbledError):
        read_all(struct.pack("!i", len(data)) + data)
