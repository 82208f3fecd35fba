"""One hypothesis profile for every test, threads that sleep while they wait, and an nvtx of before 0.2.12.

A kernel's first call may be slow, so there is no deadline; of what is drawn there is half as much as usual, for the
time that it takes.  Tests run beside each other, and threads that spin, as OpenMP's do by default, would take the cores
that the others need: tests took ten times as long.  Those of OpenBLAS always spin, so that NumPy has one.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded, here and in every worker
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # likewise: its products are Triton's interpreter's, of small tiles

from hypothesis import settings

from support.processes import end_what_was_begun

settings.register_profile("samebits", deadline=None, max_examples=50)
settings.load_profile("samebits")


LEFT_OUT = {
    "engine_full": "starts an engine for what other tests show too: pytest -m engine_full",
    "long": "more of the same kind, some of it for hours: pytest -m long",
}
"""Marks of tests that run where they are asked for: before a release, and over another version of vLLM."""


TESTS = Path(__file__).parent
WAITING = tuple(
    TESTS / place
    for place in (
        *("contract", "e2e", "profiles"),
        *(f"kernels_bench/{name}" for name in ("commands", "planned", "testing", "workers")),
        *(f"kernels_bench/{name}.py" for name in ("test_cli", "test_nothing_is_left")),
    )
)
"""Tests here wait for processes most of the time; the others compute."""
LONG = tuple(
    TESTS / file
    for file in (
        *("kernels_bench/faults/test_score.py", "kernels_bench/verification/test_verifier.py"),
        *("profiles/output/test_html_page.py", "profiles/capture/test_recorder.py", "profiles/capture/test_nsys.py"),
    )
)
"""The longest, and those of the last folders that take more than half a minute: begun last, one would run alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for; have files that wait stand among files that compute, after the longest.

    Each worker takes the next file. If those that wait came one after the other, cores would idle, and be short later.
    """
    for mark, reason in LEFT_OUT.items():
        if mark not in config.getoption("markexpr"):
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=reason))
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [file for file in files if any(file.is_relative_to(place) for place in WAITING)]
    computing = [file for file in files if file not in waiting]
    place = {file: (at + 0.5) / len(some) for some in (waiting, computing) for at, file in enumerate(some)}
    place |= {file: -1 / (1 + at) for at, file in enumerate(LONG) if file in place}
    items.sort(key=lambda item: place[item.path])


def pytest_collection() -> None:
    """Look for no garbage among what is imported and collected: it is there for good."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Look for it among what tests make."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many were left out, at the end, where CI's reader looks."""
    skipped = terminalreporter.getreports("skipped")
    for mark, reason in LEFT_OUT.items():
        if left_out := sum(reason in str(report.longrepr) for report in skipped):
            terminalreporter.write_line(f"{mark} tests left out: {left_out} (pytest -m {mark})")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Kernels in tests' own processes are small, and what threads cost is more than they save; workers have all."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A command that a test left running, since it failed, would take the time of all files after it."""
    yield
    end_what_was_begun()


@pytest.fixture(scope="module", autouse=True)
def nothing_is_set() -> Iterator[None]:
    """What a library sets in the environment that a test imports is not what a user's command finds there.

    And a command in another environment cannot be forked, see `support.forked_commands`: vLLM sets five variables.
    """
    before = {**os.environ}
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def earlier_nvtx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last nvtx that older versions of nsys listen to."""
    folder = tmp_path_factory.mktemp("nvtx")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "nvtx==0.2.11"]
    done = subprocess.run([*pip, "--target", folder], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"nvtx 0.2.11 cannot be installed here: {done.stderr[-200:]}")
    return folder
