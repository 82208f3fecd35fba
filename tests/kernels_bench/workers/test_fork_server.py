"""Workers that are forked: what they answer, whose environment they have, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernels_bench.records.results import Verification
from kernels_bench.workers import process
from kernels_bench.workers.fork_server import client
from kernels_bench.workers.fork_server.client import (
    Begun,
    Ended,
    Forked,
    ForkServerError,
    Refused,
    forks_here,
    the_fork_server,
)
from kernels_bench.workers.messages import Failure, LoadArm
from kernels_bench.workers.orphan_guard import name_of
from kernels_bench.workers.process import WorkerProcess
from support.processes import verify, wait_until

pytestmark = pytest.mark.skipif(not forks_here(), reason="workers are programs of their own here")


@pytest.fixture(scope="module", autouse=True)
def server_of_this_file() -> Iterator[None]:
    """One of this file's environment, which another file's need not be."""
    the_fork_server.cache_clear()
    yield
    end_the_server()


@pytest.fixture
def own_server() -> Iterator[None]:
    """One for a test that ends it, or needs another environment."""
    end_the_server()
    yield
    end_the_server()


def end_the_server() -> None:
    if the_fork_server.cache_info().currsize:
        the_fork_server(0)._end()
    the_fork_server.cache_clear()


def verified(log: Path) -> tuple[WorkerProcess, Verification]:
    worker = WorkerProcess("samebits", {}, log)
    worker.ask(LoadArm(arm="samebits"), 300)
    found = worker.ask(verify("samebits", 64), 300)
    assert isinstance(found, Verification)
    return worker, found


def test_a_forked_worker_finds_what_a_program_of_its_own_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forked, found = verified(tmp_path / "forked")
    monkeypatch.setattr(process, "forks_here", lambda: False)
    program, expected = verified(tmp_path / "program")
    assert isinstance(forked.process, Forked)
    assert isinstance(program.process, subprocess.Popen)
    assert (found.verdict, found.digests) == (expected.verdict, expected.digests)
    process.end([forked, program])
    assert [forked.process.poll(), program.process.poll()] == [-signal.SIGKILL, -signal.SIGKILL]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG", "TRITON_INTERPRET"])
def test_what_libraries_read_when_they_are_loaded_needs_a_program(tmp_path: Path, name: str) -> None:
    worker = WorkerProcess("any", {name: "1"}, tmp_path / "log")
    assert isinstance(worker.process, subprocess.Popen)
    worker.kill()


def test_a_forked_worker_is_its_own_session_with_its_own_directory_and_the_name_of_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    worker = WorkerProcess("any", {"VLLM_BATCH_INVARIANT": "1"}, tmp_path / "log")
    assert isinstance(worker.process, Forked)
    pid = worker.process.pid
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)
    assert psutil.Process(pid).cwd() == str(tmp_path)
    assert Path(f"/proc/{pid}/comm").read_text().strip() == name_of(worker._mark)
    worker.kill()
    assert not psutil.pid_exists(pid)


def test_a_process_id_that_is_given_again_is_the_new_worker_s(monkeypatch: pytest.MonkeyPatch) -> None:
    server = the_fork_server(0)
    ours, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(server, "_control", ours)
    with ours, told:
        for said in (Begun(begun=7), Ended(ended=7, code=-9), Begun(begun=7)):
            told.send(json.dumps(said).encode())
            assert server._hear(0.0)
        new, old = server._begun.pop(), server._begun.pop()
        assert (old.poll(), new.poll()) == (-9, None)
        told.send(json.dumps(Ended(ended=7, code=3)).encode())
        assert (old.wait(), new.wait(1.0)) == (-9, 3)


@pytest.mark.parametrize("said", [Refused(refused="no memory for another"), Ended(ended=7, code=-9)])
def test_a_worker_that_cannot_be_forked_costs_no_other_and_no_time(
    monkeypatch: pytest.MonkeyPatch, said: Refused | Ended
) -> None:
    server = the_fork_server(0)
    ours, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(server, "_control", ours)
    with ours, told:
        told.send(json.dumps(said).encode())
        with pytest.raises(ForkServerError, match=r"no memory for another|ended before it had begun"):
            server._new()
    assert server._process.poll() is None


@pytest.mark.usefixtures("own_server")
def test_the_process_that_forks_takes_its_children_along_and_is_not_needed(tmp_path: Path) -> None:
    forked = WorkerProcess("any", {}, tmp_path / "log")
    the_fork_server(0)._process.kill()
    reply = forked.receive()
    assert isinstance(reply, Failure)
    assert reply.reason == "the worker of any was killed by SIGKILL"
    assert wait_until(lambda: not psutil.pid_exists(forked.process.pid))
    with pytest.raises(ForkServerError):
        the_fork_server(0).fork(the_fork_server(0)._environment, "any", 0, 1)
    after = WorkerProcess("any", {}, tmp_path / "log")
    assert isinstance(after.process, subprocess.Popen)
    after.kill()


@pytest.mark.usefixtures("own_server")
def test_what_a_forked_worker_starts_waits_without_spinning_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    plugin = tmp_path / "telling.py"
    plugin.write_text(
        "import os\nfrom kernels_bench.arms import Arm\n"
        "ARM = Arm(name='telling', kernels=dict, provenance=lambda: os.environ['OMP_WAIT_POLICY'])\n"
    )
    worker = WorkerProcess("telling", {}, tmp_path / "log")
    assert isinstance(worker.process, Forked)
    start = worker.ask(LoadArm(arm="telling", plugin=str(plugin)), 300)
    assert start.provenance == "PASSIVE"
    worker.kill()


@pytest.mark.usefixtures("own_server")
def test_one_that_does_not_answer_in_time_is_ended_and_never_forks_beside_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_START_S", 0.0)
    worker = WorkerProcess("any", {}, tmp_path / "log")
    assert isinstance(worker.process, subprocess.Popen)
    assert the_fork_server(0)._process.wait(10) == -signal.SIGKILL
    worker.kill()
