"""What arms do to their processes, and what of it reaches the run: the case at hand, and no other."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from kernels_bench.records.catalogue import ArmInfo
from kernels_bench.records.results import ArmStart, Verification
from kernels_bench.workers import pool
from kernels_bench.workers.messages import AskCatalogue, Failure, LoadArm, Release, Released, Verify
from kernels_bench.workers.orphan_guard import ENDING_S
from kernels_bench.workers.pool import DEATHS_IN_A_ROW, WorkerPool, read_catalogue
from kernels_bench.workers.process import WorkerError, WorkerProcess
from profiles.invocation import import_path
from profiles.run_files.record import Record
from support import PLUGINS
from support.processes import (
    CONTROLS,
    Faulty,
    environment,
    finish,
    just_started,
    plugged,
    run_beside,
    start,
    verify,
    wait_until,
    workers_of,
)

DEADLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


@dataclass(frozen=True)
class SideBySide:
    """Runs that are under way while the crew is asked, for there are two cores."""

    failing: Future[Faulty]
    wrong: Future[Faulty]


@pytest.fixture(scope="module", autouse=True)
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SideBySide]:
    places = [tmp_path_factory.mktemp(name) for name in ("failing", "wrong")]
    fails = ("--batch", "1", "--relation", "repeat", "--timeout", "5")
    wrongs = ("--batch", "4", "--relation", "repeat,batch_size")
    with ThreadPoolExecutor(2) as pool:
        yield SideBySide(
            failing=pool.submit(run_beside, "samebits", places[0], "failing", range(64, 80), *fails),
            wrong=pool.submit(run_beside, "samebits", places[1], "wrong", range(64, 71), *wrongs),
        )


# --- a crew, asked directly --------------------------------------------------------------------------------


def living(pid: int) -> bool:
    """Whether a process or a thread of it runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


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
    assert wait_until(lambda: not any(living(start.pid) for start in up), 5)


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
    assert wait_until(lambda: not living(victim), 5)
    reply = aboard.crew.ask("failing", verify("failing", 64))
    assert isinstance(reply, Verification)
    assert reply.verdict in ("sampled", "proven")
    assert aboard.up[-1].pid != victim


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


def test_a_helper_shares_the_work_until_it_is_let_go(tmp_path: Path) -> None:
    others = set(workers_of(os.getpid()))
    up: list[ArmStart] = []
    hanging, *rest = [verify("failing", k) for k in (75, 64, 64, 64)]
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 6.0, up.append, extra_workers={"failing": 1}) as crew:
        crew.start()
        just_started(others, 2)
        answers = list(crew.work({"failing": [hanging, *rest]}, width=2))
        # While one of the two hangs, the other does the rest.
        assert [type(reply) for _, reply in answers] == [Verification] * 3 + [Failure]
        assert answers[-1][0] == hanging
        crew.release()
        assert isinstance(crew.ask("failing", verify("failing", 64)), Verification)
        assert {start.arm for start in up} == {"failing"}
        assert len(set(workers_of(os.getpid())) - others) == 1


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
    assert wait_until(lambda: not any(living(child.pid) for child in children), 5)
    assert not living(up[0].pid)


@pytest.mark.parametrize(("memory", "most"), [(None, 2), (12, 2), (11, 1), (1, 1)])
def test_no_more_is_verified_at_once_than_the_device_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, most: int
) -> None:
    at_work: set[str] = set()
    seen: list[int] = []
    post, receive = WorkerProcess.post, WorkerProcess.receive

    def posted(worker: WorkerProcess, request: Record, timeout_s: float) -> None:
        if isinstance(request, Verify):
            at_work.add(worker.name)
            seen.append(len(at_work))
        post(worker, request, timeout_s)

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
        large = {arm: [verify(arm, 64).model_copy(update={"memory": 6})] * 3 for arm in ("torch", "failing")}
        answers = list(crew.work(large, width=2))
    assert [type(reply) for _, reply in answers] == [Verification] * 6
    assert max(seen) == most


def test_what_finds_no_room_lets_others_of_its_arm_pass(tmp_path: Path) -> None:
    def sized(arm: str, k: int, memory: int) -> Verify:
        return verify(arm, k).model_copy(update={"memory": memory})

    default = ArmInfo(name="torch", claims=False, summary="", environment={}, unavailable="")
    large, small = sized("torch", 64, 6), sized("torch", 65, 2)
    hanging, *rest = [sized("failing", k, 6) for k in (75, 64, 64)]  # more than torch's, so that it comes first
    with WorkerPool([default, plugged("failing", "failing.py")], tmp_path, 6.0, memory=8) as crew:
        crew.start()
        for arm in ("torch", "failing"):
            assert isinstance(crew.ask(arm, verify(arm, 64)), Verification)
        answers = list(crew.work({"torch": [large, small], "failing": [hanging, *rest]}, width=2))
    assert [request for request, _ in answers[:2]] == [small, hanging]
    assert {request.case.key for request, _ in answers[2:]} == {large.case.key, rest[0].case.key}


def test_under_a_profiler_workers_end_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUPTI has buffered of a process that is killed is lost."""
    monkeypatch.setenv("NSYS_PROFILING_SESSION_ID", "1")
    monkeypatch.setenv("NVTX_DISABLE", "1")
    up: list[ArmStart] = []
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 60.0, up.append) as crew:
        crew.start()
        assert isinstance(crew.ask("failing", verify("failing", 64)), Verification)
        (worker,) = crew._workers.values()
    assert worker.process.returncode == 0


def test_elsewhere_they_are_killed(tmp_path: Path) -> None:
    with WorkerPool([plugged("failing", "failing.py")], tmp_path, 60.0, lambda _: None) as crew:
        crew.start()
        assert isinstance(crew.ask("failing", verify("failing", 64)), Verification)
        (worker,) = crew._workers.values()
    assert worker.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("plugins", [[str(PLUGINS / "no_arm.py")], ["/nowhere/plugin.py"]])
def test_a_plugin_that_cannot_be_used_is_the_users_to_mend(tmp_path: Path, plugins: list[str]) -> None:
    with pytest.raises(WorkerError) as caught:
        read_catalogue(plugins, tmp_path / "log")
    assert caught.value.status == 2
    assert plugins[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os; os._exit(3)", "does not import: the worker of catalogue ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "does not import: the worker of catalogue was killed by SIGKILL"),
        ("import sys; sys.exit(3)", "does not import: SystemExit: 3"),
        ("from kernels_bench.arms import *; ARM = Arm(7, dict)", "the arm's name 7 must be one word"),
        (
            "from kernels_bench.arms import *; ARM = Arm('x', dict, unavailable=lambda device: 1 / 0)",
            "unavailable raises ZeroDivisionError: division by zero",
        ),
        ("from kernels_bench.arms import *; ARM = Arm('x', dict, caveat=lambda device: 7)", "caveat gives 7 instead"),
    ],
)
def test_whatever_a_plugin_does_the_message_names_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(WorkerError, match=said) as caught:
        read_catalogue([str(tmp_path / "mine.py")], tmp_path / "log")
    assert caught.value.status == 2
    assert str(caught.value).startswith(f"plugin {tmp_path / 'mine.py'}")
    assert "\n" not in str(caught.value)


def test_a_plugin_that_hangs_is_not_waited_for_as_long_as_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import time; time.sleep(10**6)")
    monkeypatch.setattr(pool, "PLUGIN_TIMEOUT_S", 0.5)
    with pytest.raises(WorkerError) as caught:
        read_catalogue([str(tmp_path / "mine.py")], tmp_path / "log", timeout_s=1)
    said = "does not import: no answer within 1 s; raise --timeout if it needs longer"
    assert str(caught.value) == f"plugin {tmp_path / 'mine.py'} {said}"


@pytest.mark.parametrize("first", [AskCatalogue(), LoadArm(arm="any")])
def test_a_limit_that_is_not_the_commands_is_not_called_so(tmp_path: Path, first: Record) -> None:
    worker = WorkerProcess("any", {}, tmp_path / "log")
    for request, limit in ((first, ""), (verify("any", 64), " (--timeout)")):
        worker.post(request, 0.0)
        expired = worker.expire(2.5)
        assert (expired.reason, expired.cause) == (f"no answer within 2.5 s{limit}", "no_answer")


def test_memory_that_a_dead_process_lacked_is_known_by_its_last_words(tmp_path: Path) -> None:
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), import_path()["PYTHONPATH"]])}
    for words, cause in (("CUDA error: out of memory", "out_of_memory"), ("no answer from the peer", "other")):
        (tmp_path / "dying.py").write_text(f"print({words!r}); raise SystemExit(1)")
        worker = WorkerProcess("any", path, tmp_path / "log", program="dying")
        reply = worker.receive()
        assert (reply.cause, reply.lost) == (cause, True)
        assert reply.reason.endswith(f"its last words: {words}")


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


# --- one worker, ended from outside ------------------------------------------------------------------------


def test_last_words_are_this_processs_own(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("what another process said\n")
    worker = WorkerProcess("any", {}, tmp_path / "log")
    os.kill(worker.process.pid, signal.SIGKILL)
    reply = worker.receive()
    assert isinstance(reply, Failure)
    assert reply.reason == "the worker of any was killed by SIGKILL"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")
def test_what_a_kernel_started_ends_with_the_command_however_it_ends(tmp_path: Path) -> None:
    words = (*("--op", "rms_norm", "--arm", "failing", "--plugin", PLUGINS / "failing.py"), "--batch", "1")
    what = (*words, "--dtype", "fp32", "--relation", "repeat", "--shapes", "1x80,1x75")  # leaves a child, then hangs
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by what is started too
    commands = {number: start(*what, "--out", tmp_path / number.name) for number in DEADLY}
    signal.signal(signal.SIGHUP, hangup)

    def children(command: subprocess.Popen[str]) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):  # loading an arm has children too, which come and go
            every = [child for worker in workers_of(command.pid) for child in worker.children()]
            return [child for child in every if child.name() == "sleep"]
        return []

    def has_children(command: subprocess.Popen[str]) -> bool:
        return bool(children(command))

    def gone(processes: list[psutil.Process]) -> bool:
        return not any(living(process.pid) for process in processes)

    for number, command in commands.items():
        assert wait_until(partial(has_children, command), 60)
        started = children(command)
        command.send_signal(number)
        assert finish(command).status == -number
        assert wait_until(partial(gone, started), 10)


ONE_WORKER = """
import sys, time
from pathlib import Path
from kernels_bench.workers.orphan_guard import the_guard
from kernels_bench.workers.process import WorkerProcess
worker = WorkerProcess("any", {}, Path(sys.argv[1]))
worker.kill()
print(the_guard()._process.pid, flush=True)
began = time.monotonic()
import atexit
atexit._run_exitfuncs()
print(time.monotonic() - began)
"""


def printed_by(code: str, log: Path) -> list[str]:
    """What a process prints that starts a worker with this log."""
    command = [sys.executable, "-c", code, str(log)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_the_guard_ends_at_once_with_a_command_that_ends_by_itself(tmp_path: Path) -> None:
    guard, seconds = printed_by(ONE_WORKER, tmp_path / "log")
    assert not psutil.pid_exists(int(guard))
    assert float(seconds) < ENDING_S / 2


LONG_LOG = """
import re, sys
from pathlib import Path
from kernels_bench.workers.process import WorkerProcess
log = Path(sys.argv[1])
worker = WorkerProcess("any", {}, log)
with log.open("ab") as file:
    for _ in range(300):
        file.write(b"chatter " * (1 << 17))
    file.write(b"\\nthe end\\n")
worker.process.kill()
print(worker.receive().reason)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_a_long_log_costs_the_parent_no_memory(tmp_path: Path) -> None:
    reason, peak_mib = printed_by(LONG_LOG, tmp_path / "log")
    (tmp_path / "log").unlink()
    assert reason.endswith("its last words: the end")
    assert float(peak_mib) < 300


# --- kernels that fail -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing(side_by_side: SideBySide) -> Faulty:
    return side_by_side.failing.result()


RIGHT = (64, 79)
REASONS = {
    65: r"RuntimeError: no such tile .*\[/red\].*",
    66: r"ValueError.*",
    67: r"the worker of failing was killed by SIGKILL.*",
    68: r"returns shape \(\d+, 67\) instead of \(\d+, 68\) for \d+ rows",
    69: r"the worker of failing ended with status 7.*",
    70: r"returns torch.float64 instead of torch.float32",
    71: r"the worker of failing was killed by SIGSEGV.*",
    72: r"returns a tensor on meta instead of cpu",
    73: r"the worker of failing .*its last words: the kernel asked to end",
    74: r"returns 2 results instead of 1",
    75: r"no answer within 5 s \(--timeout\)",
    76: r"returns NoneType instead of a tensor",
    77: r"out of memory: .*can't allocate memory.*",
    78: r"out of memory: MemoryError",
}
CAUSES = {75: "no_answer", 77: "out_of_memory", 78: "out_of_memory"}


@pytest.mark.parametrize("k", REASONS)
def test_a_failing_kernel_costs_its_case_for_one_clear_reason(failing: Faulty, k: int) -> None:
    found = failing.verification("failing", k)
    assert (found.status, found.verdict) == ("failed", "failed")
    assert "\n" not in found.reason
    assert len(found.reason) < 300
    assert re.fullmatch(REASONS[k], found.reason)
    assert failing.timing("failing", k).status == "skipped"
    assert failing.timing("failing", k).reason == found.reason
    assert found.cause == failing.timing("failing", k).cause == CAUSES.get(k, "other")


def test_every_reason_is_shown(failing: Faulty) -> None:
    shown = " ".join(failing.ended.out.split())
    for said in ("killed by SIGKILL", "killed by SIGSEGV", "ended with status 7", "[/red]", "no answer within 5 s"):
        assert said in shown


@pytest.mark.parametrize("k", RIGHT)
def test_the_failing_arms_other_cases_are_measured(failing: Faulty, k: int) -> None:
    assert failing.verification("failing", k).verdict in ("sampled", "proven")
    assert failing.timing("failing", k).status == "measured"


def test_the_other_arms_results_are_all_there(failing: Faulty) -> None:
    for k in failing.lengths:
        assert failing.verification("samebits", k).verdict in ("sampled", "proven")
        assert failing.timing("samebits", k).status == "measured"


def test_what_failed_is_status_3(failing: Faulty) -> None:
    assert failing.ended.status == 3
    assert "Traceback" not in failing.ended.out + failing.ended.err


def test_what_kernels_print_reaches_neither_output_nor_the_parents_memory(failing: Faulty) -> None:
    assert "chatter" not in failing.ended.out + failing.ended.err
    assert "noise" not in failing.ended.out + failing.ended.err
    assert failing.peak_mib < 300


def test_no_worker_of_a_failing_arm_outlives_the_run(failing: Faulty) -> None:
    assert failing.left == []


def test_a_kernels_words_cannot_steer_the_terminal(failing: Faulty) -> None:
    assert not CONTROLS.findall(failing.ended.out)


@pytest.mark.parametrize("k", [67, 69, 71])
def test_a_silent_death_has_no_last_words(failing: Faulty, k: int) -> None:
    assert "last words" not in failing.verification("failing", k).reason


def test_a_worker_that_ends_by_itself_was_not_killed(failing: Faulty) -> None:
    assert failing.verification("failing", 73).reason.startswith("the worker of failing ended with status 1")


# --- kernels that are wrong --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong(side_by_side: SideBySide) -> Faulty:
    return side_by_side.wrong.result()


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (64, "writes into its rows"),
        (65, "writes into its weights"),
        (66, "nan where float64 gives"),
        (67, "where float64 gives"),
        pytest.param(
            68,
            "never written",
        ),
    ],
)
def test_a_wrong_kernel_is_called_wrong(wrong: Faulty, k: int, said: str) -> None:
    found = wrong.verification("wrong", k)
    assert found.verdict == "wrong"
    assert said in found.wrong
    assert "\n" not in found.wrong
    assert wrong.timing("wrong", k).status == "skipped"


def test_one_bit_in_one_batch_size_is_variance(wrong: Faulty) -> None:
    found = wrong.verification("wrong", 69)
    assert found.verdict == "variant"
    assert found.counterexample is not None
    assert (found.counterexample.row, found.counterexample.index, found.counterexample.elements) == (2, 5, 1)
    assert (found.counterexample.ulp, found.counterexample.company.size) == (1, 4)
    assert wrong.timing("wrong", 69).status == "measured"


def test_beside_wrong_kernels_the_right_one_is_right(wrong: Faulty) -> None:
    assert wrong.verification("wrong", 70).verdict in ("sampled", "proven")
    assert wrong.verification("wrong", 70).digests == wrong.verification("samebits", 70).digests
    for k in wrong.lengths:
        assert wrong.verification("samebits", k).verdict in ("sampled", "proven")
        assert wrong.timing("samebits", k).status == "measured"


def test_what_is_wrong_is_status_1(wrong: Faulty) -> None:
    assert wrong.ended.status == 1
    assert wrong.left == []
