"""Commands and workers that are killed at any moment: no process and no file is left, and no record is lost."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kernels_bench.records.manifest import MANIFEST, RECORDS, read_records
from kernels_bench.records.results import Timing, Verification
from support import PLUGINS
from support.processes import Ended, finish, start, wait_until, workers_of

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")

NAME = "leaves_things"
RUN = (
    *("--op", "rms_norm", "--arm", f"torch,{NAME}", "--plugin", PLUGINS / f"{NAME}.py", "--dtype", "fp32"),
    *("--shapes", "1x64,1x65,1x66", "--batch", "1", "--relation", "repeat", "--partial", "--quick"),
)


@dataclass(frozen=True)
class Place:
    """A temporary directory of its own, in which all processes of a test can be told by a variable."""

    temporary: Path
    token: str

    def start(self, *words: object) -> subprocess.Popen[str]:
        return start(*words, TMPDIR=self.temporary, SAMEBITS_TEST_TOKEN=self.token)

    def processes(self) -> list[psutil.Process]:
        """All that began with a command of this test, whosever children they are now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get("SAMEBITS_TEST_TOKEN") == self.token:
                    found.append(process)
        return found

    def left(self) -> tuple[list[psutil.Process], list[Path]]:
        """What is still there after everything else has had the time to end."""
        wait_until(lambda: not self.processes())
        compiled = {
            path for path in self.temporary.iterdir() if path.name.startswith("torchinductor_")
        }  # kept on purpose
        return self.processes(), [path for path in self.temporary.iterdir() if path not in compiled]


@pytest.fixture
def place() -> Iterator[Place]:
    # A short name, as the temporary directory usually has.
    temporary = Path(tempfile.mkdtemp(prefix="left-"))
    found = Place(temporary, secrets.token_hex(8))
    yield found
    for process in found.processes():
        with suppress(psutil.Error):
            process.kill()
    shutil.rmtree(temporary, ignore_errors=True)


def sleepers(place: Place) -> list[psutil.Process]:
    """What the plugin started; some process may end while it is looked at."""
    found = []
    for process in place.processes():
        with suppress(psutil.Error):
            if process.name() == "sleep":
                found.append(process)
    return found


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(None, marks=pytest.mark.long),  # what a worker leaves is looked at below
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),  # which ends it as SIGINT does
        signal.SIGKILL,
    ],
    ids=str,
)
def test_nothing_is_left_however_a_command_ends(place: Place, tmp_path: Path, number: signal.Signals | None) -> None:
    command = place.start(*RUN, "--out", tmp_path / "run")
    if number is not None:
        assert wait_until(lambda: bool(sleepers(place)) or command.poll() is not None)
        assert command.poll() is None, finish(command)
        command.send_signal(number)
    ended = finish(command)
    assert ended.status == {None: 0, signal.SIGINT: 130}.get(number, -(number or 0))
    assert place.left() == ([], [])
    assert not [path for path in tmp_path.iterdir() if path.name != "run"]


def test_what_a_killed_worker_leaves_ends_with_it(place: Place, tmp_path: Path) -> None:
    command = place.start(*RUN, "--out", tmp_path / "run")
    assert wait_until(lambda: bool(sleepers(place)))
    orphans = sleepers(place)
    for worker in workers_of(command.pid):
        worker.kill()
    # Before the command has ended, and with it everything.
    assert wait_until(lambda: not any(one.is_running() for one in orphans) or command.poll() is not None)
    finish(command)
    assert place.left() == ([], [])


def test_processes_that_score_faults_end_with_the_command(place: Place) -> None:
    command = place.start("faults", "--seeds", 50)
    assert wait_until(lambda: len(place.processes()) >= 3)
    command.kill()
    finish(command)
    assert place.left() == ([], [])


def test_ctrl_c_ends_faults_at_once(place: Place) -> None:
    command = place.start("faults", "--seeds", 50)
    assert wait_until(lambda: len(workers(place)) >= 1)
    command.send_signal(signal.SIGINT)
    ended = finish(command)  # whoever went on would need hours
    assert (ended.status, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "kernels_bench: interrupted"
    assert place.left() == ([], [])


def test_a_fault_process_that_is_killed_is_no_missed_fault(place: Place) -> None:
    command = place.start("faults", "--seeds", 50)
    assert wait_until(lambda: len(workers(place)) >= 1)
    workers(place)[0].kill()
    ended = finish(command)
    assert (ended.status, ended.out) == (4, "")
    said = "kernels_bench: the worker of faults was killed by SIGKILL; there is no score without it"
    assert ended.err.splitlines()[-1] == said
    assert place.left() == ([], [])


def workers(place: Place) -> list[psutil.Process]:
    found = []
    for process in place.processes():
        with suppress(psutil.Error):
            if "kernels_bench.faults" in process.cmdline():
                found.append(process)
    return found


# --- at random moments -------------------------------------------------------------------------------------


# The last two are how Python itself ends in its first hundredths of a second.
AGAIN = (130, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT, 1)


def hit(command: subprocess.Popen[str], draw: random.Random) -> None:
    """Kill the command, or one of its workers, in one of the ways in which they are."""
    number = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    found = workers_of(command.pid)
    if found and draw.random() < 0.3:
        with suppress(psutil.Error):
            draw.choice(found).send_signal(signal.SIGKILL)
    else:
        command.send_signal(number)


def records(run: Path) -> bytes:
    """Whole lines; nothing before there is a file."""
    data = (run / RECORDS).read_bytes() if (run / RECORDS).exists() else b""
    return data[: data.rfind(b"\n") + 1]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.long)])
def test_runs_that_are_killed_at_random_moments_lose_nothing_and_leave_nothing(
    place: Place, tmp_path: Path, kills: int
) -> None:
    draw, done, number = random.Random(kills), 0, 0
    while done < kills:
        run = tmp_path / f"run-{number}"
        number += 1
        ended: Ended | None = None
        while ended is None or ended.status in AGAIN:
            before = records(run)
            begun = (run / MANIFEST).exists()
            command = place.start("--resume", run) if begun else place.start(*RUN, "--out", anew(run))
            if done < kills:
                with suppress(subprocess.TimeoutExpired):
                    command.wait(draw.uniform(0.0, 12.0))
                hit(command, draw)
                done += 1
            ended = finish(command)
            assert "Traceback" not in ended.err or ended.status == 1, ended
            assert records(run).startswith(before)
            assert place.left() == ([], [])
        assert ended.status in (0, 3), ended  # 3: a case died with its worker
        if ended.status == 0:
            cases = Counter(r.key for r in read_records(run) if isinstance(r, Verification | Timing))
            assert len(cases) == 2 * 3 * 1 + 2 * timed(run), cases
        anew(run)


def timed(run: Path) -> int:
    """How many shapes a short run times."""
    return len({record.case.shape.k for record in read_records(run) if isinstance(record, Timing)})


def anew(run: Path) -> Path:
    """A name for a run, with nothing there: what was killed before it had said what it is, or had measured anything."""
    shutil.rmtree(run, ignore_errors=True)
    return run
