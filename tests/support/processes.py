"""Commands as users run them, their worker processes, and what was seen of both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.manifest import read_records
from kernels_bench.records.results import AnyRecord, Timing, Verification
from kernels_bench.workers.messages import Verify
from support import PLUGINS, ROOT, forked_commands

LIMIT_S = 600.0
"""Ends what will never end. No test may rest on how fast a machine is: what is waited for is a state, for so long."""
CONTROLS = re.compile(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str
    seconds: float


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests started in the background ignore Ctrl-C, and so would every command that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


BEGUN: set[subprocess.Popen[str]] = set()
"""Commands that tests have started, and that may still run."""


def start(*arguments: object, **variables: object) -> subprocess.Popen[str]:
    return begin("kernels_bench", *arguments, **variables)


def begin(package: str, *arguments: object, **variables: object) -> subprocess.Popen[str]:
    """A command, which ends with the tests of its file at the latest: see tests/conftest.py."""
    process = subprocess.Popen(
        [sys.executable, "-m", package, *map(str, arguments)],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    BEGUN.add(process)
    return process


def end_what_was_begun() -> None:
    """Of tests that failed: all others have seen their commands end."""
    while BEGUN:
        process = BEGUN.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def environment(**variables: object) -> dict[str, str]:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    # Where tests run side by side, each has been told of a terminal of 80 columns that is not there.
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**inherited, "PYTHONPATH": path, **{name: str(value) for name, value in variables.items()}}


def finish(process: subprocess.Popen[str]) -> Ended:
    started = time.monotonic()
    out, err = process.communicate(timeout=LIMIT_S)
    return Ended(process.returncode, out, err, time.monotonic() - started)


def completed(
    package: str,
    *words: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    first: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """``python -m package …`` in a process of its own, forked where that makes no difference: see `forked_commands`.

    Args:
        package: with the command.
        words: its arguments.
        env: all of its environment.
        cwd: its directory.
        first: where modules are looked for first; it has none that every command imports.
    """
    known = environment() if env is None else env
    found = {**known, **({"PYTHONPATH": f"{first}{os.pathsep}{known['PYTHONPATH']}"} if first else {})}
    texts = [*map(str, words)]
    if sys.platform == "linux" and forked_commands.server().can(known):
        return forked_commands.server().run(package, texts, found, cwd or Path.cwd(), LIMIT_S)
    return subprocess.run(
        [sys.executable, "-m", package, *texts],
        env=found,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def kernels_bench(*arguments: object, **variables: object) -> Ended:
    started = time.monotonic()
    done = completed("kernels_bench", *arguments, env=environment(**variables))
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def together(commands: Mapping[str, Sequence[object]]) -> dict[str, Ended]:
    """Several commands, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(
            zip(commands, pool.map(lambda arguments: kernels_bench(*arguments), commands.values()), strict=True)
        )


def workers_of(parent: int) -> list[psutil.Process]:
    """Worker processes that a command started and that still run; it stands on their command lines.

    One that was forked has the words of the process that forked it, which is none itself.
    """
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            running = process.status() != psutil.STATUS_ZOMBIE
            forked = "kernels_bench.workers.fork_server" in words and process.ppid() != parent
        except psutil.Error:
            continue
        if running and ("kernels_bench.workers" in words or forked) and words[-1] == str(parent):
            found.append(process)
    return found


def wait_until(true: Callable[[], bool], seconds: float = LIMIT_S) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# Runs the command in its own process, and says afterwards what that process had become.
LOOKED_AT = """
import json, os, re, runpy, sys
from pathlib import Path
facts = Path(sys.argv.pop(1))
status = None
try:
    runpy.run_module("kernels_bench", run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code
    raise
finally:
    # Not ru_maxrss, which begins with what the process that forked this one used.
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
    heavy = sorted({"torch", "triton", "vllm", "pynvml"} & set(sys.modules))
    facts.write_text(json.dumps({"pid": os.getpid(), "peak_mib": peak, "heavy": heavy, "status": status}))
"""


@dataclass(frozen=True)
class Faulty:
    """A run beside a misbehaving arm."""

    ended: Ended
    peak_mib: float
    records: list[AnyRecord]
    left: list[psutil.Process]
    lengths: range

    def verification(self, arm: str, k: int) -> Verification:
        (found,) = [r for r in self.records if isinstance(r, Verification) and (r.case.arm, r.case.shape.k) == (arm, k)]
        return found

    def timing(self, arm: str, k: int) -> Timing:
        (found,) = [r for r in self.records if isinstance(r, Timing) and (r.case.arm, r.case.shape.k) == (arm, k)]
        return found


def run_beside(arm: str, place: Path, plugin: str, lengths: range, *more: object) -> Faulty:
    arguments = (
        *("--op", "rms_norm", "--arm", f"{arm},{plugin}", "--plugin", PLUGINS / f"{plugin}.py", "--dtype", "fp32"),
        *("--shapes", ",".join(f"1x{k}" for k in lengths), "--quick", *more, "--out", place / "run"),
    )
    ended = subprocess.run(
        [sys.executable, "-c", LOOKED_AT, place / "facts", *map(str, arguments)],
        env=environment(COLUMNS=400),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    facts = json.loads((place / "facts").read_text())
    records = list(read_records(place / "run"))
    left = workers_of(facts["pid"])
    return Faulty(Ended(ended.returncode, ended.stdout, ended.stderr, 0.0), facts["peak_mib"], records, left, lengths)


def verify(arm: str, k: int) -> Verify:
    shape = Shape(label=str(k), k=k)
    case = Case(arm=arm, operator="rms_norm", shape=shape, precision=Precision.parse("fp32"))
    return Verify(case=case, seed=0, universe=16, relations=("repeat",), sizes=(1, 16), digest_sizes=())


def plugged(name: str, file: str) -> ArmInfo:
    plugin = str(PLUGINS / file)
    return ArmInfo(name=name, claims=True, summary="", environment={}, unavailable="", plugin=plugin)


def just_started(others: set[psutil.Process], count: int) -> set[psutil.Process]:
    """This process's new workers; one that was started this moment may not have its command line yet."""
    assert wait_until(lambda: len(set(workers_of(os.getpid())) - others) == count)
    return set(workers_of(os.getpid())) - others
