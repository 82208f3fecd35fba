"""A crew of workers, asked directly: what arms do to their processes costs the case at hand, and no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kernels_bench.records.cases import Load
from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.results import ArmStart, Rough, Verification
from kernels_bench.workers import pool
from kernels_bench.workers.messages import (
    Failure,
    PrepareTiming,
    Release,
    Released,
    Revisit,
    Revisited,
    Screen,
    TakeTurn,
    Turned,
    Verify,
)
from kernels_bench.workers.pool import DEATHS_IN_A_ROW, WorkerPool
from kernels_bench.workers.process import WorkerProcess
from profiles.run_files.record import Record
from support import PLUGINS
from support.processes import just_started, plugged, verify, wait_until, workers_of
from support.worker_processes import living


@dataclass(frozen=True)
class Aboard:
    """A crew of a failing arm and of one that does not start."""

    crew: WorkerPool
    up: list[ArmStart]


@pytest.fixture(scope="module")
def aboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aboard]:
    up: list[ArmStart] = []
    arms = [plugged("failing", "failing.py"), plugged("stillborn", "does_not_start.py")]
    with WorkerPool(arms, tmp_path_factory.mktemp("logs"), 60.0, up.append) as crew:
        crew.start()
        yield Aboard(crew, up)
    assert wait_until(lambda: not any(living(start.pid) for start in up))


def test_an_arm_that_does_not_start_keeps_no_other_waiting(aboard: Aboard) -> None:
    queues = {name: [verify(name, 64), verify(name, 64)] for name in ("stillborn", "failing")}
    answers: dict[str, list[object]] = {"stillborn": [], "failing": []}
    for request, reply in aboard.crew.work(queues, width=1):
        answers[request.case.arm].append(reply)
    for refused in answers["stillborn"]:
        assert isinstance(refused, Failure)
        assert refused.reason == (
            f"stillborn did not start: plugin {PLUGINS / 'does_not_start.py'}: kernels() raises OSError: libfast.so.3 "
            'is missing, in line 11 (raise OSError("libfast.so.3 is missing"))'
        )
    assert [type(reply) for reply in answers["failing"]] == [Verification, Verification]
    assert [start.arm for start in aboard.up] == ["failing"]


def test_all_arms_are_asked_at_once_and_one_that_does_not_start_answers_too(aboard: Aboard) -> None:
    replies = aboard.crew.ask_all({name: verify(name, 64) for name in ("stillborn", "failing")})
    assert isinstance(replies["failing"], Verification)
    assert isinstance(replies["stillborn"], Failure)
    assert aboard.crew.ask_all({}) == {}


def test_a_worker_killed_while_idle_is_started_again(aboard: Aboard) -> None:
    aboard.crew.ask("failing", verify("failing", 64))
    victim = aboard.up[-1].pid
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: not living(victim))
    reply = aboard.crew.ask("failing", verify("failing", 64))
    assert isinstance(reply, Verification)
    assert reply.verdict == "sampled"
    assert aboard.up[-1].pid != victim


def test_a_worker_killed_between_two_turns_of_timing_is_said_to_have_been(aboard: Aboard) -> None:
    case, load = verify("failing", 64).case, Load(m=1)
    prepared = aboard.crew.ask("failing", PrepareTiming(case=case, seed=0, load=load, largest_m=1))
    assert isinstance(prepared, Turned)
    victim = aboard.up[-1].pid
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: not living(victim))
    lost = aboard.crew.ask("failing", TakeTurn(case=case))
    assert isinstance(lost, Failure)
    assert lost.reason == "the worker of failing ended between two turns of timing, which are lost with it"
    assert lost.cause == "killed"  # and so is tried again when the run is resumed


def test_deaths_in_a_row_give_the_arm_up_and_no_earlier(aboard: Aboard) -> None:
    assert isinstance(aboard.crew.ask("failing", Release()), Released)  # an answer ends the row
    started = len(aboard.up)
    requests = [verify("failing", 67)] * DEATHS_IN_A_ROW + [verify("failing", 64)]
    *deaths, skipped = [reply for _, reply in aboard.crew.work({"failing": requests}, width=1)]
    for death in deaths:
        assert isinstance(death, Failure)
        assert death.lost
        assert death.reason.startswith("the worker of failing was killed by SIGKILL")
    assert isinstance(skipped, Failure)
    assert skipped.reason.startswith(f"skipped after {DEATHS_IN_A_ROW} deaths in a row; the last: the worker of")
    assert len(aboard.up) == started + DEATHS_IN_A_ROW - 1
    assert not living(aboard.up[-1].pid)


def test_deaths_of_a_candidate_cost_its_arm_and_the_others_nothing(tmp_path: Path) -> None:
    arm, case = plugged("tiled", "several_tiles.py"), verify("tiled", 24).case

    def screen(name: str) -> Screen:
        asked = case.model_copy(update={"arm": name, "operator": "mean"})
        return Screen(case=asked, seed=0, sizes=(1,), largest_m=1, timed=False)

    crashing, good = screen("tiled[crashes]"), screen("tiled[rows16]")
    with WorkerPool([arm], tmp_path, 60.0) as crew:
        crew.start()
        *deaths, skipped = [crew.ask("tiled[crashes]", crashing) for _ in range(DEATHS_IN_A_ROW + 1)]
        assert all(isinstance(death, Failure) and death.lost for death in deaths)
        assert isinstance(skipped, Failure)
        assert skipped.reason.startswith(f"skipped after {DEATHS_IN_A_ROW} deaths in a row")
        replies = [reply for _, reply in crew.work({"tiled": [crashing, good]}, width=1)]
        assert [type(reply) for reply in replies] == [Failure, Rough]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the kernel of `gated` waits for at K = 66."""
    monkeypatch.setenv("SAMEBITS_TEST_GATE", str(tmp_path / "gate"))
    return tmp_path / "gate"


def test_a_helper_shares_the_work_until_it_is_let_go(tmp_path: Path, gate: Path) -> None:
    others = set(workers_of(os.getpid()))
    up: list[ArmStart] = []
    waiting, *rest = [verify("gated", k) for k in (66, 64, 64, 64)]
    answers: list[tuple[Verify, object]] = []
    with WorkerPool([plugged("gated", "gated.py")], tmp_path, 60.0, up.append, extra_workers={"gated": 1}) as crew:
        crew.start()
        just_started(others, 2)
        for answer in crew.work({"gated": [waiting, *rest]}, width=2):
            answers.append(answer)
            if len(answers) == len(rest):  # while one of the two waits, the other does the rest
                gate.touch()
        assert [type(reply) for _, reply in answers] == [Verification] * 4
        assert answers[-1][0] == waiting
        crew.release()
        assert isinstance(crew.ask("gated", verify("gated", 64)), Verification)
        assert {start.arm for start in up} == {"gated"}
        assert len(set(workers_of(os.getpid())) - others) == 1


def test_a_helper_goes_on_where_its_arms_own_process_has_ended(tmp_path: Path, gate: Path) -> None:
    others = set(workers_of(os.getpid()))
    waiting, *rest = [verify("gated", k) for k in (66, 64, 64, 64)]
    up: list[ArmStart] = []
    with WorkerPool([plugged("gated", "gated.py")], tmp_path, 60.0, up.append, extra_workers={"gated": 1}) as crew:
        crew.start()
        both = {process.pid for process in just_started(others, 2)}
        for done, _ in enumerate(crew.work({"gated": [waiting, *rest]}, width=2), start=1):
            if done == len(rest):  # each of the two had something to do, and so has loaded
                gate.touch()
        own = up[0].pid
        os.kill(own, signal.SIGKILL)
        assert wait_until(lambda: not living(own))
        crew.release()
        assert isinstance(crew.ask("gated", verify("gated", 64)), Verification)
        assert {process.pid for process in set(workers_of(os.getpid())) - others} == both - {own}
        assert [start.pid for start in up] == [own]  # nothing was loaded again


def test_arms_whose_processes_have_ended_are_loaded_anew_before_they_are_asked(tmp_path: Path) -> None:
    up: list[ArmStart] = []
    arms = [plugged("failing", "failing.py"), plugged("gated", "gated.py"), plugged("lost", "does_not_start.py")]
    with WorkerPool(arms, tmp_path, 60.0, up.append) as crew:
        crew.start()
        crew.bring_up(["failing", "gated", "lost"])
        first = {start.arm: start.pid for start in up}
        assert set(first) == {"failing", "gated"}
        os.kill(first["failing"], signal.SIGKILL)
        assert wait_until(lambda: not living(first["failing"]))
        crew.bring_up(["failing[some-tile]", "gated", "lost"])
        assert [start.arm for start in up].count("failing") == 2
        assert [start.arm for start in up].count("gated") == 1
        assert isinstance(crew.ask("lost", verify("lost", 64)), Failure)


def test_an_arm_that_all_others_would_wait_for_gets_a_further_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without its seconds of grace, which stand for how long a process takes to start.
    monkeypatch.setattr(pool, "WORTH_HELP_S", 0.0)
    others = set(workers_of(os.getpid()))
    seen: set[int] = set()
    second = tmp_path / "second.py"
    second.write_text((PLUGINS / "failing.py").read_text().replace('name="failing"', 'name="second"'))
    arms = [plugged("failing", "failing.py"), plugged("second", str(second))]
    with WorkerPool(arms, tmp_path, 60.0) as crew:
        crew.start()
        # One answer of each, so that both are loaded and it is known how long they take.
        list(crew.work({arm: [verify(arm, 64)] for arm in ("failing", "second")}, width=2))
        for _, reply in crew.work({"failing": [verify("failing", 64)] * 40}, width=2):
            assert isinstance(reply, Verification)
            seen |= {process.pid for process in set(workers_of(os.getpid())) - others}
        assert len(seen) == 3  # with two places, more than two processes of one arm would gain nothing
        crew.release()
        assert len(set(workers_of(os.getpid())) - others) == 2


def test_a_helper_that_does_not_start_costs_nothing(tmp_path: Path) -> None:
    others = set(workers_of(os.getpid()))
    with WorkerPool(
        [plugged("failing", "failing.py")], tmp_path, 60.0, lambda _: None, extra_workers={"failing": 1}
    ) as crew:
        crew.start()
        max(just_started(others, 2), key=lambda process: process.pid).kill()
        replies = [reply for _, reply in crew.work({"failing": [verify("failing", 64)] * 3}, width=2)]
    assert [type(reply) for reply in replies] == [Verification] * 3


def test_what_a_kernel_started_ends_with_its_worker(tmp_path: Path) -> None:
    up: list[ArmStart] = []
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 60.0, up.append) as crew:
        crew.start()
        assert isinstance(crew.ask("failing", verify("failing", 80)), Verification)
        children = psutil.Process(up[0].pid).children()
        assert {child.name() for child in children} == {"sleep"}
    assert wait_until(lambda: not any(living(child.pid) for child in children))
    assert not living(up[0].pid)


def revisit(arm: str, k: int) -> Revisit:
    asked = verify(arm, k)
    return Revisit(case=asked.case, seed=asked.seed, universe=asked.universe, sizes=asked.sizes)


@pytest.mark.parametrize("asked", [verify, revisit])
@pytest.mark.parametrize(("memory", "most"), [(None, 2), (12, 2), (11, 1), (1, 1)])
def test_no_more_is_verified_at_once_than_the_device_has_room_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: int | None,
    most: int,
    asked: Callable[[str, int], Verify | Revisit],
) -> None:
    at_work: set[str] = set()
    seen: list[int] = []
    post, receive = WorkerProcess.post, WorkerProcess.receive

    def posted(worker: WorkerProcess, request: Record, *limits: float, **further: float) -> None:
        if isinstance(request, (Verify, Revisit)):
            at_work.add(worker.name)
            seen.append(len(at_work))
        post(worker, request, *limits, **further)

    def received(worker: WorkerProcess) -> object:
        at_work.discard(worker.name)
        return receive(worker)

    monkeypatch.setattr(WorkerProcess, "post", posted)
    monkeypatch.setattr(WorkerProcess, "receive", received)
    default = ArmInfo(name="torch", claims=False, summary="", environment={}, unavailable="")
    with WorkerPool([default, plugged("failing", "failing.py")], tmp_path, 60.0, memory=memory) as crew:
        crew.start()
        for arm in ("torch", "failing"):
            assert isinstance(crew.ask(arm, verify(arm, 64)), Verification)
        seen.clear()
        large = {arm: [asked(arm, 64).model_copy(update={"memory": 6})] * 3 for arm in ("torch", "failing")}
        answers = list(crew.work(large, width=2))
    assert [type(reply) for _, reply in answers] == [Verification if asked is verify else Revisited] * 6
    assert max(seen) == most


def test_what_finds_no_room_lets_others_of_its_arm_pass(tmp_path: Path, gate: Path) -> None:
    def sized(arm: str, k: int, memory: int) -> Verify:
        return verify(arm, k).model_copy(update={"memory": memory})

    default = ArmInfo(name="torch", claims=False, summary="", environment={}, unavailable="")
    large, small = sized("torch", 64, 6), sized("torch", 65, 2)
    waiting, *rest = [sized("gated", k, 6) for k in (66, 64, 64)]  # more than torch's, so that it comes first
    answered: list[Verify] = []
    with WorkerPool([default, plugged("gated", "gated.py")], tmp_path, 60.0, memory=8) as crew:
        crew.start()
        for arm in ("torch", "gated"):
            assert isinstance(crew.ask(arm, verify(arm, 64)), Verification)
        for request, _ in crew.work({"torch": [large, small], "gated": [waiting, *rest]}, width=2):
            answered.append(request)
            gate.touch()
    assert answered[:2] == [small, waiting]
    assert {request.case.key for request in answered[2:]} == {large.case.key, rest[0].case.key}


def test_under_a_profiler_workers_end_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUPTI has buffered of a process that is killed is lost."""
    monkeypatch.setenv("NSYS_PROFILING_SESSION_ID", "1")
    monkeypatch.setenv("NVTX_DISABLE", "1")
    up: list[ArmStart] = []
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 60.0, up.append) as crew:
        crew.start()
        assert isinstance(crew.ask("failing", verify("failing", 64)), Verification)
        (worker,) = crew._workers.values()
    assert worker.process.poll() == 0


def test_elsewhere_they_are_killed(tmp_path: Path) -> None:
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 60.0, lambda _: None) as crew:
        crew.start()
        assert isinstance(crew.ask("failing", verify("failing", 64)), Verification)
        (worker,) = crew._workers.values()
    assert worker.process.poll() == -signal.SIGKILL


def test_an_arm_without_memory_to_start_is_not_asked_as_if_it_had(tmp_path: Path) -> None:
    """Others that ran out of memory are asked again, alone; a process that never came up has nothing to be asked."""
    plugin = tmp_path / "greedy.py"
    plugin.write_text((PLUGINS / "does_not_start.py").read_text().replace("OSError", "MemoryError"))
    arm = plugged("stillborn", str(plugin))
    with WorkerPool([arm], tmp_path, 60.0) as crew:
        crew.start()
        replies = [reply for _, reply in crew.work_through([verify("stillborn", 64)] * 2, width=2)]
    for reply in replies:
        assert isinstance(reply, Failure)
        assert reply.reason.startswith("stillborn did not start: out of memory")
        assert reply.cause == "out_of_memory"
    assert len(replies) == 2
