"""Commands as processes of their own which do not import anew what each of them needs.

A command spends two seconds of a processor on imports, one that measures nothing half of one.  A process that has
imported all of it, and done nothing else, forks what a test would start; and beside each command the process that forks
its workers, which has imported torch already.  What is seen of a process's own beginning and end (its streams, signals,
memory, imports) is tested with programs that are started, see `support.processes.start`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 1 << 17
"""Bytes of a message."""
COMMANDS = ("kernels_bench.cli", "e2e.cli", "profiles.cli")
READ_LATER = (
    *("SAMEBITS_", "VLLM_", "PYTEST_", "COLUMNS", "PATH", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "NVTX_DISABLE"),
    *("NSYS_DOES", "NSYS_VERSION"),  # which a program reads that stands for nsys
)
"""Beginnings of variables that nothing reads while it is imported."""


class Server:
    """This process's own: it forks commands until this process ends."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment}
        self._place = tempfile.mkdtemp(prefix="sb-")
        address = f"{self._place}/s"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(address)
        listening.listen(64)
        self._address = address
        with listening:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listening.fileno())],
                env=self._environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{Path(__file__).parents[1]}"},
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,  # with whose other end it ends: a thread that starts it may end before
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    def can(self, environment: Mapping[str, str]) -> bool:
        """Whether a program with this environment would have imported the same."""
        changed = {name for name, _ in environment.items() ^ self._environment.items()}
        return not [name for name in changed if not name.startswith(READ_LATER)]

    def run(
        self, package: str, words: list[str], environment: Mapping[str, str], directory: Path, limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` would give of ``python -m package …``."""
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control,
        ):
            control.settimeout(limit_s)
            control.connect(self._address)
            asked = {"package": package, "words": words, "environment": {**environment}, "directory": str(directory)}
            socket.send_fds(control, [json.dumps(asked).encode()], [out.fileno(), err.fileno()])
            status = int(control.recv(LONGEST))
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, status, out.read().decode(), err.read().decode())

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(OSError):
            Path(self._address).unlink()
            Path(self._place).rmdir()


_ONE, _STARTING = list[Server](), threading.Lock()


def server() -> Server:
    """One serves all tests of a process."""
    from support.processes import environment

    with _STARTING:
        if not _ONE:
            _ONE.append(Server(environment()))
    return _ONE[0]


# --- the process that forks ---------------------------------------------------------------------------------


def main() -> None:
    """Fork as often as it is asked to; in each child, be the command."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    from kernels_bench.workers.lifetime import made_to_stay, wait_passively
    from profiles.run_files.record import make_all_checks

    wait_passively()
    with made_to_stay():
        # torch imports its compiler where an operator is first asked for its shapes, which takes as long as torch does.
        for name in (*COMMANDS, "kernels_bench.workers.arm.worker", "torch._dynamo"):
            importlib.import_module(name)
        make_all_checks()
    _take_less_time()
    asked = _forked(listening)
    _look_where(asked["environment"])
    helper = _helped()
    if helper is not None:
        _lend(helper)
        _be(asked)


def _take_less_time() -> None:
    """What is tried as long as there is time for it, and how large what is measured is, on a CPU."""
    # A second for what relations try in all cases of a command, and not eight.
    measure: Any = importlib.import_module("kernels_bench.commands.run.measure")
    measure.MORE_S = {**measure.MORE_S, "cpu": (0.05, 0.5, 1.0)}
    # No test looks at how fast this machine is.
    ceiling: Any = importlib.import_module("kernels_bench.timing.ceiling")
    ceiling._BUFFER_BYTES = {**ceiling._BUFFER_BYTES, "cpu": 1 << 22}
    ceiling._EDGE = {**ceiling._EDGE, "cpu": 128}
    host_clock: Any = importlib.import_module("kernels_bench.timing.stopwatches.host_clock")
    host_clock.HostStopwatch._CACHE_BYTES = 1 << 20


def _forked(listening: socket.socket) -> dict[str, Any]:
    """In each child, what it is to be; this process never returns."""
    heard, noted = socket.socketpair()
    heard.setblocking(False)
    noted.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noted.fileno())
    running: dict[int, socket.socket] = {}
    watched: list[Any] = [0, listening, heard]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:  # the tests have ended
            os._exit(0)
        if heard in ready:
            heard.recv(LONGEST)
            _tell_who_ended(running)
        if listening not in ready:
            continue
        control, _ = listening.accept()
        data, descriptors, _, _ = socket.recv_fds(control, LONGEST, 2)
        child = os.fork()
        if child:
            running[child] = control
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (listening, heard, noted, control, *running.values()):
            one.close()
        descriptors.insert(0, os.open(os.devnull, os.O_RDONLY))
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        found: dict[str, Any] = json.loads(data)
        return found


def _tell_who_ended(running: dict[int, socket.socket]) -> None:
    from kernels_bench.workers.lifetime import ended_children

    for child, code in ended_children():
        with running.pop(child) as control, suppress(OSError):
            control.send(str(code).encode())


def _look_where(environment: Mapping[str, str]) -> None:
    """Find what is imported from now on where a program with this environment would, and not where this one did."""
    own = {*os.environ["PYTHONPATH"].split(os.pathsep)}
    theirs = environment["PYTHONPATH"].split(os.pathsep)
    sys.path[1:] = [*theirs, *(place for place in sys.path[1:] if place not in own)]


def _be(asked: dict[str, Any]) -> None:
    """Run a command as ``python -m`` would."""
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # it stands in the environment
    sys.argv[1:] = asked["words"]
    sys.path[0] = asked["directory"]
    try:
        runpy.run_module(asked["package"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            _end(ended.code or 0)
        raise


def _end(status: int) -> None:
    """End as a program does, but for Python's taking apart what was imported, which takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]  # which waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


# --- the process that forks a command's workers ---------------------------------------------------------------


@dataclass(frozen=True)
class Helper:
    """What will be a command's fork server: as much of `subprocess.Popen` as its client uses.

    Attributes:
        pid: its process id.
        connection: what it hears on that it is asked for.
    """

    pid: int
    connection: socket.socket

    def kill(self) -> None:
        """At once."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float = 60.0) -> int:
        """Its return code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            child, status = os.waitpid(self.pid, os.WNOHANG)
            if child:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        raise subprocess.TimeoutExpired("the fork server", timeout)


def _helped() -> Helper | None:
    """In a command its helper; in the helper nothing, once it has been the fork server.

    It is forked before the command has threads, and ends with it where it is not asked for.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child:
        theirs.close()
        return Helper(child, ours)
    ours.close()
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    data, descriptors, _, _ = socket.recv_fds(theirs, LONGEST, 1)
    theirs.close()
    if not data:
        os._exit(0)
    asked = json.loads(data)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv[1:] = [str(descriptors[0]), asked["parent"]]
    from kernels_bench.workers.fork_server.__main__ import main as serve

    serve()
    os._exit(0)


def _lend(helper: Helper) -> None:
    """Have a command's fork server be its helper, in place of a program that it starts; a second one is a program."""
    client: Any = importlib.import_module("kernels_bench.workers.fork_server.client")
    lent = iter([helper])

    class Lent:
        """As much of `subprocess` as the fork server's client uses."""

        DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

        @staticmethod
        def Popen(  # noqa: N802
            words: list[str], *, env: Mapping[str, str], pass_fds: list[int], **more: Any
        ) -> Helper | subprocess.Popen[bytes]:
            if next(lent, None) is None:
                return subprocess.Popen(words, env=env, pass_fds=pass_fds, **more)
            told = json.dumps({"environment": {**env}, "parent": words[-1]}).encode()
            socket.send_fds(helper.connection, [told], pass_fds)
            return helper

    client.subprocess = Lent


if __name__ == "__main__":
    main()
