"""Workers that were started before it was known which are wanted: adopted or killed, and never left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pynvml
import pytest

from kernels_bench.commands.report import ReportTargets
from kernels_bench.commands.run import command as session
from kernels_bench.commands.run.command import reporting, resume_run, start_run
from kernels_bench.commands.run.prestart import HeadStart, hidden_beside
from kernels_bench.commands.workload import HELPERS, Workload, make_workload
from kernels_bench.console.errors import UsageError
from kernels_bench.device import detect
from kernels_bench.device.detect import expected_gpu
from kernels_bench.records.cases import Device
from kernels_bench.records.catalogue import ArmInfo, Catalogue
from kernels_bench.records.manifest import RECORDS, ResultsError, read_records
from kernels_bench.records.results import ArmStart, Verification
from kernels_bench.records.selection import Selection
from kernels_bench.workers import ask_catalogue
from kernels_bench.workers.catalogue import catalogue
from kernels_bench.workers.messages import Failure
from kernels_bench.workers.pool import WorkerPool
from support import PLUGINS
from support.fake_nvml import FakeCard
from support.processes import just_started, plugged, verify, wait_until, workers_of
from support.records import known

CPU = Device(type="cpu", name="here")
H100 = Device(type="cuda", name="NVIDIA H100 80GB HBM3", capability=(9, 0), uuid="ab")
SMALL = Selection(
    op=("rms_norm",),
    dtype=("fp32",),
    shapes=("64",),
    batch=(1, 16),
    relation=("repeat", "batch_size"),
    partial=True,
    quick=True,
)
BOTH = SMALL.model_copy(update={"arm": ("torch", "samebits")})


@pytest.fixture
def others() -> set[psutil.Process]:
    """Workers that this process has already."""
    return set(workers_of(os.getpid()))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, others: set[psutil.Process]) -> Iterator[None]:
    yield
    assert set(workers_of(os.getpid())) == others
    assert not list(tmp_path.rglob(".samebits-*"))


def mine(others: set[psutil.Process]) -> set[int]:
    return {process.pid for process in set(workers_of(os.getpid())) - others}


def started(others: set[psutil.Process], count: int) -> set[int]:
    return {process.pid for process in just_started(others, count)}


def infos(*names: str) -> list[ArmInfo]:
    known = {arm.name: arm for arm in catalogue(CPU).arms}
    return [known[name] for name in names]


def logs_of(place: Path) -> Path:
    logs = place / "run" / "logs"
    logs.mkdir(parents=True)
    return logs


# --- handing over ------------------------------------------------------------------------------------------


def test_workers_as_expected_are_adopted_with_their_logs(tmp_path: Path, others: set[psutil.Process]) -> None:
    logs, hidden, up = logs_of(tmp_path), hidden_beside(tmp_path / "run"), list[ArmStart]()
    with HeadStart(BOTH, hidden) as early, WorkerPool(infos("torch", "samebits"), logs, 60.0, up.append) as crew:
        early.start(CPU)
        before = started(others, 2)
        files = {log.name: log.stat().st_ino for log in hidden.iterdir()}
        early.hand_over(crew)
        assert not hidden.exists()
        crew.start()
        assert mine(others) == before
        for arm in ("torch", "samebits"):
            assert isinstance(crew.ask(arm, verify(arm, 64)), Verification)
        assert {start.pid for start in up} == before
    assert {log.name: log.stat().st_ino for log in logs.iterdir()} == files
    assert set(files) == {"torch.log", "samebits.log"}


def test_others_are_killed_and_the_missing_ones_started(tmp_path: Path, others: set[psutil.Process]) -> None:
    up: list[ArmStart] = []
    torch, samebits = infos("torch", "samebits")
    changed = samebits.model_copy(update={"environment": {"SAMEBITS_TEST": "1"}})
    arms = [torch, changed, plugged("failing", "failing.py")]
    with HeadStart(BOTH, tmp_path / ".samebits-early") as early, WorkerPool(arms, tmp_path, 60.0, up.append) as crew:
        early.start(CPU)
        before = started(others, 2)
        early.hand_over(crew)
        (adopted,) = mine(others)
        crew.start()
        for arm in arms:
            assert isinstance(crew.ask(arm.name, verify(arm.name, 64)), Verification)
        pids = {start.arm: start.pid for start in up}
        assert before & {*pids.values()} == {adopted} == {pids["torch"]}
        assert len(mine(others)) == 3


def test_helpers_are_adopted_too(tmp_path: Path, others: set[psutil.Process]) -> None:
    selection = BOTH.model_copy(update={"shapes": tuple(f"1x{k}" for k in range(64, 74))})
    workload = make_workload(catalogue(H100), selection)
    assert workload.extra_workers == {"samebits": HELPERS}
    up: list[ArmStart] = []
    with (
        HeadStart(selection, tmp_path / ".samebits-early") as early,
        WorkerPool(workload.arms, tmp_path, 60.0, up.append, workload.extra_workers) as crew,
    ):
        early.start(H100)
        before = started(others, 2 + HELPERS)
        early.hand_over(crew)
        crew.start()
        assert mine(others) == before
        answers = list(crew.work({"samebits": [verify("samebits", 64)] * 3}, width=2))
        assert [type(reply) for _, reply in answers] == [Verification] * 3
        crew.release()
        assert len(mine(others)) == 2


def ended(process: psutil.Process) -> bool:
    """Whether a process has let go of all that it held."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_one_that_died_meanwhile_is_told_of(tmp_path: Path, others: set[psutil.Process]) -> None:
    with HeadStart(BOTH, tmp_path / ".samebits-early") as early, WorkerPool(infos("torch"), tmp_path, 60.0) as crew:
        early.start(CPU)
        killed = [psutil.Process(pid) for pid in started(others, 2)]
        for process in killed:
            process.kill()
        assert wait_until(lambda: all(map(ended, killed)))
        early.hand_over(crew)
        crew.start()
        reply = crew.ask("torch", verify("torch", 64))
    assert isinstance(reply, Failure)
    # It did not start, unless it had said that it is up before it was killed.
    assert reply.reason.removeprefix("torch did not start: ").startswith("the worker of torch was killed by SIGKILL")


def test_one_whose_log_cannot_be_moved_is_started_anew(tmp_path: Path, others: set[psutil.Process]) -> None:
    with HeadStart(BOTH, tmp_path / ".samebits-early") as early, WorkerPool(infos("torch"), tmp_path, 60.0) as crew:
        early.start(CPU)
        before = started(others, 2)
        (tmp_path / ".samebits-early" / "torch.log").unlink()
        early.hand_over(crew)
        assert mine(others) == set()
        crew.start()
        assert isinstance(crew.ask("torch", verify("torch", 64)), Verification)
        assert not before & mine(others)


# --- no head start, or one in vain -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "device"),
    [
        (BOTH, None),
        (BOTH.model_copy(update={"plugin": (str(PLUGINS / "wrong.py"),)}), CPU),
        (BOTH.model_copy(update={"arm": ("nonsense",)}), CPU),
    ],
)
def test_where_little_is_known_nothing_is_started(
    tmp_path: Path, others: set[psutil.Process], selection: Selection, device: Device | None
) -> None:
    with HeadStart(selection, tmp_path / ".samebits-early") as early:
        early.start(device)
        assert mine(others) == set()
        assert list(tmp_path.iterdir()) == []
        early.hand_over(WorkerPool(infos("torch"), tmp_path, 60.0))


def test_where_logs_cannot_be_written_nothing_is_started(tmp_path: Path, others: set[psutil.Process]) -> None:
    with HeadStart(BOTH, tmp_path / "missing" / "logs") as early:
        early.start(CPU)
        assert mine(others) == set()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_happens_no_worker_is_left(
    tmp_path: Path, others: set[psutil.Process], error: type[BaseException]
) -> None:
    with pytest.raises(error), HeadStart(BOTH, hidden_beside(tmp_path / "run")) as early:  # noqa: PT012
        early.start(CPU)
        started(others, 2)
        raise error


def test_a_hidden_name_is_on_the_same_file_system_and_always_new(tmp_path: Path) -> None:
    found = {hidden_beside(tmp_path / "new" / "newer" / "run") for _ in range(10)}
    assert {path.parent for path in found} == {tmp_path}
    assert len(found) == 10
    (tmp_path / "file").touch()
    assert hidden_beside(tmp_path / "file" / "run").parent == tmp_path


# --- whole runs that expect a GPU --------------------------------------------------------------------------


class Watched:
    """Runs in this process that expect an H100 and find a CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, others: set[psutil.Process]) -> None:
        self.early: set[int] = set()
        self._others = others
        monkeypatch.setattr(session, "expected_gpu", lambda: H100)
        monkeypatch.setattr(session, "make_workload", self._workload)

    def _workload(self, found: Catalogue, selection: Selection) -> Workload:
        self.early = mine(self._others)
        return make_workload(found, selection)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, others: set[psutil.Process]) -> Watched:
    return Watched(monkeypatch, others)


def starts(run: Path) -> dict[str, int]:
    """Who came up, with its process id, the last time."""
    return {record.arm: record.pid for record in read_records(run) if isinstance(record, ArmStart)}


def found_out(run: Path) -> dict[str, object]:
    """What was found of each case."""
    return {record.key: known(record) for record in read_records(run) if isinstance(record, Verification)}


def test_a_run_with_a_head_start_finds_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: set[psutil.Process], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start_run(BOTH, tmp_path / "without", "", ReportTargets()) == 0
    watched = Watched(monkeypatch, others)
    assert start_run(BOTH, tmp_path / "new" / "with", "", ReportTargets()) == 0
    runs = [tmp_path / "without", tmp_path / "new" / "with"]
    first, second = (found_out(run) for run in runs)
    assert first == second
    assert len(first) == 2
    assert [sorted(log.name for log in (run / "logs").iterdir()) for run in runs] == [["samebits.log", "torch.log"]] * 2
    # On a GPU samebits would compile its kernels, so that only torch is as expected.
    pids = starts(runs[1])
    assert {*pids} == {"torch", "samebits"}
    assert watched.early & {*pids.values()} == {pids["torch"]}
    assert capsys.readouterr().err.count("loaded in") == 4


def test_a_run_goes_on_with_a_head_start(tmp_path: Path, watched: Watched) -> None:
    run = tmp_path / "run"
    start_run(SMALL.model_copy(update={"arm": ("torch",)}), run, "", ReportTargets())
    (run / RECORDS).write_text("")  # as if it had been ended before its first record
    (run / "logs" / "torch.log").write_text("said before\n")
    assert resume_run(run, Selection(), None, reporting(ReportTargets())) == 0
    assert starts(run)["torch"] in watched.early
    assert (run / "logs" / "torch.log").read_text().startswith("said before\n")


def test_what_only_a_gpu_could_run_leaves_nothing(tmp_path: Path, watched: Watched) -> None:
    selection = Selection(op=("mm",), arm=("cublas-restricted",), quick=True)
    with pytest.raises(UsageError, match="cublas-restricted cannot run here"):
        start_run(selection, tmp_path / "run", "", ReportTargets())
    assert len(watched.early) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_written_leaves_nothing(tmp_path: Path, watched: Watched) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(ResultsError, match="is not empty"):
        start_run(BOTH, tmp_path / "run", "", ReportTargets())
    assert len(watched.early) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "mine"]


def test_the_catalogue_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is a driver, so that torch has to be asked for the device."""
    monkeypatch.setattr(ask_catalogue, "no_driver_here", lambda: False)
    running: list[int] = []

    def look() -> None:
        running.append(len(just_started(before, 1)))

    before = set(workers_of(os.getpid()))
    monkeypatch.setattr(session, "expected_gpu", look)
    start_run(SMALL.model_copy(update={"arm": ("torch",)}), tmp_path / "run", "", ReportTargets())
    assert running == [1]


def test_a_default_name_is_chosen_when_the_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that was begun in the same second may be first."""

    def another() -> None:
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "run.json").touch()

    monkeypatch.setattr(session, "expected_gpu", another)
    monkeypatch.setattr(
        session, "default_directory", lambda: tmp_path / ("free" if (tmp_path / "taken").exists() else "taken")
    )
    assert start_run(SMALL.model_copy(update={"arm": ("torch",)}), None, "", ReportTargets()) == 0
    assert (tmp_path / "free" / "run.json").is_file()


# --- the GPU that is expected ------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(detect, "NVIDIA_DRIVERS", (os.devnull,))
    return FakeCard(monkeypatch)


def test_the_expected_gpu_is_the_drivers_first(card: FakeCard) -> None:
    assert expected_gpu() == H100
    assert card.asked_for == [0]
    assert card.opened == 0


@pytest.mark.parametrize(("visible", "asked"), [("3,1", 3), ("GPU-ab", "GPU-ab")])
def test_the_expected_gpu_is_a_visible_one(
    card: FakeCard, monkeypatch: pytest.MonkeyPatch, visible: str, asked: int | str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected_gpu() is not None
    assert card.asked_for == [asked]


@pytest.mark.parametrize("visible", ["", "-1", "none", "first"])
def test_no_gpu_is_expected_where_none_is_plainly_visible(
    card: FakeCard, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected_gpu() is None
    assert card.asked_for == []


@pytest.mark.parametrize("query", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCudaComputeCapability"])
def test_no_gpu_is_expected_of_a_driver_that_does_not_tell(card: FakeCard, query: str) -> None:
    card.refuse(query, pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert expected_gpu() is None


def test_no_gpu_is_expected_without_a_driver(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "NVIDIA_DRIVERS", ("/nowhere",))
    assert expected_gpu() is None
    assert card.asked_for == []
