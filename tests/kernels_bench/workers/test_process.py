"""One worker: its limit, its last words and its log."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kernels_bench.workers.fork_server.client import the_fork_server
from kernels_bench.workers.messages import AskCatalogue, Failure, LoadArm
from kernels_bench.workers.process import WorkerProcess
from profiles.invocation import import_path
from profiles.run_files.record import Record
from support.processes import verify
from support.worker_processes import printed_by


@pytest.mark.parametrize("first", [AskCatalogue(), LoadArm(arm="any")])
def test_a_limit_that_is_not_the_commands_is_not_called_so(tmp_path: Path, first: Record) -> None:
    worker = WorkerProcess("any", {}, tmp_path / "log")
    for request, limit in ((first, ""), (verify("any", 64), " (--timeout)")):
        worker.post(request, 2.5)
        expired = worker.expire()
        assert (expired.reason, expired.cause) == (f"no answer within 2.5 s{limit}", "no_answer")


def test_memory_that_a_dead_process_lacked_is_known_by_its_last_words(tmp_path: Path) -> None:
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), import_path()["PYTHONPATH"]])}
    for words, cause in (("CUDA error: out of memory", "out_of_memory"), ("no answer from the peer", "other")):
        (tmp_path / "dying.py").write_text(f"print({words!r}); raise SystemExit(1)")
        worker = WorkerProcess("any", path, tmp_path / "log", program="dying")
        reply = worker.receive()
        assert (reply.cause, reply.lost) == (cause, True)
        assert reply.reason.endswith(f"its last words: {words}")


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGKILL, "killed"),
        (signal.SIGTERM, "killed"),
        (signal.SIGHUP, "killed"),
        (signal.SIGSEGV, "other"),
        (signal.SIGABRT, "other"),
    ],
)
def test_a_process_that_others_ended_is_told_from_one_that_crashed(
    tmp_path: Path, number: signal.Signals, cause: str
) -> None:
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # below nohup it is ignored, by all that is started too
    the_fork_server.cache_clear()  # another test's may have begun while it was ignored
    try:
        worker = WorkerProcess("any", {}, tmp_path / "log")
    finally:
        signal.signal(signal.SIGHUP, hangup)
    os.kill(worker.process.pid, number)
    assert worker.receive().cause == cause


def test_last_words_are_this_processs_own(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("what another process said\n")
    worker = WorkerProcess("any", {}, tmp_path / "log")
    os.kill(worker.process.pid, signal.SIGKILL)
    reply = worker.receive()
    assert isinstance(reply, Failure)
    assert reply.reason == "the worker of any was killed by SIGKILL"


LONG_LOG = """
import os, re, sys
from pathlib import Path
from kernels_bench.workers.process import WorkerProcess
log = Path(sys.argv[1])
worker = WorkerProcess("any", {}, log)
with log.open("ab") as file:
    for _ in range(300):
        file.write(b"chatter " * (1 << 17))
    file.write(b"\\nthe end\\n")
os.kill(worker.process.pid, 9)
print(worker.receive().reason)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_a_long_log_costs_the_parent_no_memory(tmp_path: Path) -> None:
    reason, peak_mib = printed_by(LONG_LOG, tmp_path / "log")
    (tmp_path / "log").unlink()
    assert reason.endswith("its last words: the end")
    assert float(peak_mib) < 300
