"""Ends what workers have started, and removes what they have left, once the command is over, however it ended."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from profiles.invocation import import_path, python

ENDING_S = 5.0
"""A process that hung up has this long to end by itself."""

MARK = "SAMEBITS_WORKER"
"""In the environment of a worker and of all that it starts, whatever sessions they begin; each worker's own value."""

SHARED = Path("/dev/shm")
"""Where files lie that processes share memory by: who is killed leaves them behind, hundreds of MB of each engine."""

_ROUNDS, _PAUSE_S = 20, 0.1


class Guard:
    """A process that ends what workers started, once this process is gone, however it ended.

    Workers themselves end with this process, but whom they started never asked for that.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python("-c", "from kernels_bench.workers.orphan_guard import guard; guard()"),
            env={**os.environ, **import_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # who reads this process's output must not wait for the guard
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends this process must not end it too
            cwd="/",  # where it keeps no directory from being removed
        )
        atexit.register(self._end)

    def watch(self, leader: int, mark: str, before: Collection[str]) -> None:
        """Kill a group of processes in the end, and all that have this `MARK`.

        Args:
            leader: of the group.
            mark: of its processes.
            before: names of the files in `SHARED` before they were started; the others that they have are removed.
        """
        self._tell(watch=leader, mark=mark, before=sorted(before))

    def forget(self, leader: int, mark: str, shared: Collection[str] = ()) -> None:
        """Leave a group alone, which is gone; what it started elsewhere is killed now, and then files are removed.

        Args:
            leader: of the group.
            mark: of its processes.
            shared: names of files in `SHARED` that its processes had; see `shared_by`.
        """
        self._tell(forget=leader, mark=mark, shared=sorted(shared))

    def remove(self, directory: Path) -> None:
        """Remove a directory in the end; to be told before it is made."""
        self._tell(remove=str(directory.absolute()))

    def _tell(self, **what: int | str | list[str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody killed it
            os.write(self._process.stdin.fileno(), f"{json.dumps(what)}\n".encode())

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=ENDING_S)


the_guard = cache(Guard)
"""One serves all workers."""


def guard() -> None:
    """Do what standard input says, and what is left of it once it ends: who named it is gone by then."""
    leaders, directories = dict[int, str](), list[str]()
    known = dict[str, frozenset[str]]()  # by mark, the shared files that were there before
    for line in sys.stdin:
        what = json.loads(line)
        if "watch" in what:
            leaders[what["watch"]] = what["mark"]
            known[what["mark"]] = frozenset(what["before"])
        elif "forget" in what:
            leaders.pop(what["forget"], None)
            _kill_marked({what["mark"]})
            _remove_shared(what["shared"])
        else:
            directories.append(what["remove"])
    shared = {name for mark in leaders.values() for name in shared_by(mark, known[mark])}
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    _kill_marked(set(leaders.values()))
    _remove_shared(shared)
    _remove(directories)


def name_of(mark: str) -> str:
    """What a process is called that is forked with a mark: its environment, as the system shows it, is its parent's."""
    return f"sb-{mark[:12]}"


def shared_files() -> frozenset[str]:
    """Names of the files in `SHARED`; none where there is no such place."""
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(SHARED))
    return frozenset()


def shared_by(mark: str, before: Collection[str]) -> frozenset[str]:
    """Those files in `SHARED` that marked processes have in their memory, and that were not there before.

    To be asked while the processes live: afterwards nothing tells whose a file was.
    """
    if shared_files() <= frozenset(before):
        return frozenset()
    return frozenset(name for process in _marked({mark}) for name in _mapped_by(process)) - frozenset(before)


def _mapped_by(process: int) -> Iterator[str]:
    """A file that has no name any more is told as deleted, and stands for none."""
    with contextlib.suppress(OSError):  # it is another user's, or has ended meanwhile
        for line in Path(f"/proc/{process}/maps").read_bytes().splitlines():
            _, found, name = line.partition(f" {SHARED}/".encode())
            if found and not name.endswith(b" (deleted)"):
                yield os.fsdecode(name)


def _remove_shared(names: Collection[str]) -> None:
    """Remove files that nobody has in memory any more: another process may have been told of one."""
    if not names:
        return
    processes = [int(place.name) for place in Path("/proc").glob("[0-9]*")]
    used = {name for process in processes for name in _mapped_by(process)}
    for name in {*names} - used:
        with contextlib.suppress(OSError):  # it is gone already, as it should be
            (SHARED / name).unlink()


def _kill_marked(marks: Collection[str]) -> None:
    """Kill all processes that have one of some marks; again, since one may have begun another meanwhile."""
    for _ in range(_ROUNDS):
        found = [*_marked(marks)]
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not found:
            return
        time.sleep(_PAUSE_S / _ROUNDS)


def _marked(marks: Collection[str]) -> Iterator[int]:
    """Where there is no ``/proc``, none is found."""
    variables = {f"{MARK}={mark}".encode() for mark in marks}
    names = {f"{name_of(mark)}\n".encode() for mark in marks}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is another user's, or has ended meanwhile
            forked = (place / "comm").read_bytes() in names
            if forked or variables & {*(place / "environ").read_bytes().split(b"\0")}:
                yield int(place.name)


def _remove(directories: Collection[str]) -> None:
    """What is killed may write for a moment yet."""
    for _ in range(_ROUNDS):
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
        if not any(map(os.path.exists, directories)):
            return
        time.sleep(_PAUSE_S)
