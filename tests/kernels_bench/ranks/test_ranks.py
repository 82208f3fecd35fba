"""Ranks are real processes here: they compute together, are lost together, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels_bench.arms import Kernel, WrongResult
from kernels_bench.arms.ranks.kernels import agreed, library_kernels, rank_order_kernels
from kernels_bench.arms.ranks.timed_call import TimedCall
from kernels_bench.operators import operators
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.ranks.group import RankGroup, RankLost, RankParent
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import Verification
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.timing.meter import stopwatch_of
from kernels_bench.timing.stopwatches.host_clock import HostStopwatch
from kernels_bench.timing.timed_case import TimedCase
from kernels_bench.verification.bitwise import digest
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from profiles.analysis.analyse import analyse
from profiles.instruments import torch_ranges
from profiles.instruments.ranges import Ranges
from profiles.trace.torch_json import together
from support import ROOT
from support.processes import environment, wait_until
from support.slow_ranks import SLOW_S

CPU = torch.device("cpu")
SHAPE = Shape.of("test", {"ranks": 4, "hidden": 64})
GLOO, OURS = library_kernels(), rank_order_kernels("kernels_bench.arms.samebits.over_ranks:tree_linear")
pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without a name is Linux's")


def terms(m: int, ranks: int = 4, hidden: int = 64, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(m, ranks, hidden, generator=torch.Generator().manual_seed(m)).to(dtype)


def verified(kernel: Kernel, name: str, *names: str, dtype: str = "bf16") -> Verification:
    precision = Precision.parse(dtype)
    case = Case(arm="test", operator=name, shape=SHAPE, precision=precision)
    subject = KernelUnderTest(case, operators()[name], kernel, seed=1, universe=17, device=CPU)
    chosen = [relations()[one] for one in names]
    return Verifier(subject, 1).verify(chosen, Setting(17, (1, 2, 5, 16)), (1, 17))


@pytest.mark.parametrize("name", ["all_reduce", "reduce_scatter"])
def test_gloos_ring_depends_on_the_messages_size_and_a_sum_in_the_order_of_ranks_does_not(name: str) -> None:
    found = verified(GLOO[name], name, "repeat", "batch_size", "position")
    status = {one.relation: one.status for one in found.relations}
    assert not found.wrong
    assert status["repeat"] == "held"
    assert status["batch_size"] == status["position"] == "broken"
    ours = verified(OURS[name], name, "repeat", "batch_size", "position", "special_values", "concurrency")
    assert {one.status for one in ours.relations} == {"held"}, ours
    assert not ours.wrong
    assert ours.accuracy is not None


@pytest.mark.parametrize("name", ["all_reduce", "reduce_scatter"])
def test_the_order_over_ranks_is_read_for_each_element_and_message(name: str) -> None:
    operator = operators()[name].for_shape(SHAPE)
    case = Case(arm="test", operator=name, shape=SHAPE, precision=Precision.parse("fp32"))
    ours, _ = order_of(case, operator, OURS[name], Task(sizes=(1, 5)), CPU)
    assert (ours.status, ours.terms) == ("proven", 4)
    assert [one.words for one in ours.found] == ["4 terms one after the other"]
    gloo, _ = order_of(case, operator, GLOO[name], Task(sizes=(1, 8)), CPU)
    assert gloo.status == "variant"
    assert "adds in another order than row 0" in gloo.witness
    if name == "all_reduce":  # a ring: each quarter of the only row begins at another rank
        (alone,) = gloo.found
        assert alone.sizes == (1,)
        ways = [part.partition("other")[2] for part in alone.words.split("; ")]
        assert ways == [", last first", *(f", last first, around from term {term}" for term in (0, 1, 2))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rows_of_any_number_are_shared_among_ranks(dtype: torch.dtype) -> None:
    """Rows of zeros fill the last rank's share up."""
    for m in (1, 3, 4, 9):
        x = terms(m, dtype=dtype)
        (expected,) = operators()["reduce_scatter"].reference((x,), ())
        for kernel in (GLOO["reduce_scatter"], OURS["reduce_scatter"]):
            assert torch.allclose(kernel(x).double(), expected, atol=0.1), m
        assert torch.equal(OURS["reduce_scatter"](x), OURS["all_reduce"](x))


def test_what_is_timed_gives_what_is_verified_however_many_batches_are_held() -> None:
    held = [(x, GLOO["all_reduce"].prepare(x)) for x in (terms(1), terms(5), terms(3))]  # type: ignore[attr-defined]
    expected = [GLOO["all_reduce"](x) for x, _ in held]
    for _ in range(2):
        for right, (_, call) in zip(expected, held, strict=True):
            assert torch.equal(call(), right)


def test_the_slowest_rank_is_what_is_timed(group: RankGroup) -> None:
    place, layout = group.put(terms(2, 3), own=True)
    _, results = layout.tensors(place.memory)
    call = TimedCall(group, "support.slow_ranks:slow_on_the_last", (place,), results[0], CPU)
    own = stopwatch_of(call, HostStopwatch())
    assert own.estimate_us(call) > 1e6 * SLOW_S
    assert own.rough_us(call) > 1e6 * SLOW_S
    for meter in (own.warm(call, 1e6 * SLOW_S), own.cold(call, 1e6 * SLOW_S)):
        samples = [us for us, _ in meter.take(rest=False)]
        assert len(samples) >= 2
        assert (meter.calls, meter.method) == (1, "host")
        assert min(samples) > 1e6 * SLOW_S


def test_ranks_are_timed_in_step_and_leave_the_results_of_the_last_call(group: RankGroup) -> None:
    place, layout = group.put(torch.zeros(2, 3, 64), own=True)
    _, results = layout.tensors(place.memory)
    call = TimedCall(group, "support.slow_ranks:counted", (place,), results[0], CPU)
    own = stopwatch_of(call, HostStopwatch())
    for estimate_us in (own.sample_us / 5, 1e6, own.sample_us / 100):
        before = float(results[0, 0, 0])
        meter = own.warm(call, estimate_us)
        samples = meter.take(rest=False)
        assert meter.calls == max(1, round(own.sample_us / estimate_us))
        made = meter.calls * len(samples) + 1
        assert results.unique().tolist() == [before + 3 * made]  # so often on each of three ranks


def test_a_meter_is_made_within_the_context_that_a_collective_asks_for_and_taken_after_it(group: RankGroup) -> None:
    place, layout = group.put(torch.zeros(4, 3, 64), own=True)
    _, results = layout.tensors(place.memory)
    call = TimedCall(group, "support.slow_ranks:prepared_within", (place,), results[0], CPU)
    meter = stopwatch_of(call, HostStopwatch()).warm(call, 1e6)
    samples = meter.take(rest=False)
    before, within, after, *_ = results[0, :, 0].tolist()
    assert (before, within, after) == (0, 1, len(samples))  # a warm meter calls once before it is read


def test_a_case_over_ranks_is_timed_and_compared_with_what_was_verified() -> None:
    case = Case(arm="test", operator="all_reduce", shape=SHAPE, precision=Precision.parse("fp32"))
    made = KernelUnderTest(case, operators()["all_reduce"], GLOO["all_reduce"], seed=1, universe=8, device=CPU)
    usual = HostStopwatch()
    for verified, said in ((digest(made.run(make_batch("first:8", 8))), ""), ("other", "gave other bits than")):
        timed = TimedCase(made, 8, Ranges("tests"), None, verified=verified)
        while not timed.turn(usual):
            pass
        found = timed.result()
        assert said in found.other_bits
        assert bool(found.other_bits) == bool(said)
        assert found.warm is not None
        assert found.warm.median_us > 0
        assert found.bus_bytes == 2 * 3 / 4 * found.message_bytes


def test_a_rank_that_fails_while_it_is_timed_is_named(group: RankGroup) -> None:
    place, layout = group.put(terms(2, 3), own=True)
    call = TimedCall(group, "support.slow_ranks:no_such", (place,), layout.tensors(place.memory)[1][0], CPU)
    with pytest.raises(RankLost, match=r"^rank 0: AttributeError: .*no_such"):
        stopwatch_of(call, HostStopwatch()).estimate_us(call)


def test_a_rank_with_other_bits_is_named() -> None:
    results = terms(2).transpose(0, 1)[:1].repeat(4, 1, 1)
    assert torch.equal(agreed(results), results[0])
    results[3, 1, 7] += 1
    with pytest.raises(WrongResult, match=r"rank 3's result differs from rank 0's in 1 of 128 elements: row 1 .* 7"):
        agreed(results)
    results[3, 1, 7] = results[0, 1, 7] = torch.nan  # whose payload says nothing
    results[1:3, 1, 7] = torch.nan
    assert agreed(results)[1, 7].isnan()


@pytest.fixture(scope="module")
def parent() -> Iterator[RankParent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)  # where collectives of tests are
        made = RankParent()
    yield made
    made.close()


@pytest.fixture
def group(parent: RankParent) -> Iterator[RankGroup]:
    """Of a parent that lives on, whatever becomes of its ranks."""
    made = RankGroup(3, "gloo", parent=parent)
    yield made
    made.close()
    assert wait_until(lambda: not ranks_of(parent.process.pid))


def ranks_of(parent: int) -> list[int]:
    """Process ids, by rank: they were started in this order."""
    return sorted(int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split())


def gone(processes: list[int]) -> bool:
    return not any(
        Path(f"/proc/{one}/cmdline").exists() and Path(f"/proc/{one}/cmdline").read_bytes() for one in processes
    )


def summed(group: RankGroup) -> None:
    place, _ = group.put(terms(4, 3), scattered=False)
    group.go(place, "kernels_bench.arms.ranks.collectives:all_reduce")


def test_a_rank_that_is_killed_is_named_and_takes_the_others_along(group: RankGroup) -> None:
    summed(group)
    ranks = ranks_of(group.process.pid)
    assert len(ranks) == 3
    os.kill(ranks[2], signal.SIGKILL)
    with pytest.raises(RankLost, match=r"^rank 2 was killed by SIGKILL$"):
        summed(group)
    assert not group.alive
    with pytest.raises(RankLost, match="lost before"):
        summed(group)
    assert wait_until(lambda: gone(ranks))


def test_a_rank_that_is_lost_costs_what_was_asked_then_and_ranks_are_started_again_for_the_rest() -> None:
    collective: Any = OURS["all_reduce"]
    killed: list[int] = []

    def kernel(x: torch.Tensor) -> torch.Tensor:
        if len(x) == 5 and not killed:
            killed.append(ranks_of(collective._groups.of(4, CPU).process.pid)[3])
            os.kill(killed[0], signal.SIGKILL)
        found: torch.Tensor = collective(x)
        return found

    found = verified(kernel, "all_reduce", "batch_size", "special_values")
    told = {one.relation: (one.status, one.reason) for one in found.relations}
    assert told["batch_size"] == ("failed", "RankLost with 5 rows: rank 3 was killed by SIGKILL")
    assert told["special_values"][0] == "held"


def test_a_rank_that_hangs_is_named_and_not_those_that_wait_for_it(group: RankGroup) -> None:
    place, _ = group.put(terms(4, 3), scattered=False)
    ranks = ranks_of(group.process.pid)
    os.kill(ranks[1], signal.SIGSTOP)
    group._limit_s = 2.0
    with pytest.raises(RankLost, match=r"^rank 1 did not begin within 2 s$"):
        group.go(place, "kernels_bench.arms.ranks.collectives:all_reduce")
    assert wait_until(lambda: gone(ranks))


def test_a_rank_that_fails_says_how(group: RankGroup) -> None:
    place, _ = group.put(terms(4, 3), scattered=False)
    with pytest.raises(RankLost, match=r"^rank 0: AttributeError: .*no_such_collective"):
        group.go(place, "kernels_bench.arms.ranks.collectives:no_such_collective")


HOST = """
import sys, time, torch
from kernels_bench.ranks.group import RankGroup
group = RankGroup(2, "gloo")
group.put(torch.ones(4, 2, 8), scattered=False)
print(group.process.pid, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_the_ranks_of_a_process_that_is_killed() -> None:
    """Neither processes nor shared memory, which has no name."""
    before = {*os.listdir("/dev/shm")}
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True, env=environment())
    assert host.stdout is not None
    parent = int(host.stdout.readline())
    ranks = ranks_of(parent)
    assert len(ranks) == 2
    host.kill()
    host.communicate()
    assert wait_until(lambda: gone([parent, *ranks]))
    assert {*os.listdir("/dev/shm")} <= before


def test_ranks_record_what_they_do_and_the_trace_says_who_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(torch_ranges.VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch_ranges, "_recorders", {})
    made = RankGroup(2, "gloo")
    for _ in range(3):
        place, _ = made.put(terms(4, 2))
        made.go(place, "kernels_bench.arms.ranks.collectives:all_reduce")
    torch_ranges.recorder(tmp_path)._write()  # nothing of this process, which has no range
    assert not [*tmp_path.glob("*.json")]
    made.write_traces()
    made.close()
    together([*tmp_path.glob("*.json")], tmp_path / "both.json.gz")
    (waits,) = analyse(tmp_path / "both.json.gz").waits
    assert (waits.what, waits.calls) == ("all_reduce over 2 ranks", 3)
    assert sum(rank.last for rank in waits.ranks) == 3
    assert sum(rank.waited_ns for rank in waits.ranks) > 0
