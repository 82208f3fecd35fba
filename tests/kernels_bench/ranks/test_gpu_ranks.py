"""Ranks on GPUs of their own: what NCCL and samebits add, captured and timed. Two GPUs are enough for most of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from kernels_bench.arms import Kernel, arms
from kernels_bench.operators import operators
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.ranks.group import RankLost
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.relations import Setting, make_batch, relations
from kernels_bench.timing.stopwatches.cuda_events import CudaStopwatch
from kernels_bench.timing.timed_case import TimedCase
from kernels_bench.verification.bitwise import digest
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier
from profiles.instruments.ranges import Ranges

COUNT = torch.cuda.device_count()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(COUNT < 2, reason="needs two GPUs")]
RANKS = 4 if COUNT >= 4 else 2
NAMES = ("all_reduce", "reduce_scatter", "row_parallel_linear")
SHAPES = {
    "all_reduce": {"ranks": RANKS, "hidden": 512},
    "reduce_scatter": {"ranks": RANKS, "hidden": 512},
    "row_parallel_linear": {"ranks": RANKS, "n": 512, "k": 1024},
}


@pytest.fixture(scope="module", params=["nccl", "samebits"])
def kernels(request: pytest.FixtureRequest) -> Mapping[str, Kernel]:
    return arms()[request.param].kernels()


def subject(name: str, kernels: Mapping[str, Kernel]) -> KernelUnderTest:
    case = Case(arm="test", operator=name, shape=Shape.of("test", SHAPES[name]), precision=Precision.parse("bf16"))
    device = torch.device("cuda", 0)
    return KernelUnderTest(case, operators()[name], kernels[name], seed=1, universe=65, device=device)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_right_repeatable_and_the_same_from_a_graph(name: str, kernels: Mapping[str, Kernel]) -> None:
    chosen = [relations()[one] for one in ("repeat", "graph")]
    found = Verifier(subject(name, kernels), 0).verify(chosen, Setting(65, (1, 2, 17, 64)), (1, 17))
    assert not found.wrong
    assert [(one.relation, one.status) for one in found.relations] == [("repeat", "held"), ("graph", "held")]
    assert all(one.companies > 0 for one in found.relations)


@pytest.mark.parametrize("name", NAMES)
def test_samebits_keeps_its_bits_in_one_order(name: str) -> None:
    ours = arms()["samebits"].kernels()
    names = ("batch_size", "position", "neighbour_content", "special_values", "layout")
    found = Verifier(subject(name, ours), 0).verify(
        [relations()[one] for one in names], Setting(65, (1, 2, 17, 64)), ()
    )
    assert {one.status for one in found.relations} == {"held"}, found
    shape = Shape.of("test", SHAPES[name])
    case = Case(arm="samebits", operator=name, shape=shape, precision=Precision.parse("fp32"))
    order, _ = order_of(case, operators()[name].for_shape(shape), ours[name], Task(sizes=(1, 5)), torch.device("cuda"))
    assert order.status == "proven", order


@pytest.mark.parametrize("name", NAMES)
def test_ranks_time_themselves_by_events_in_graphs(name: str, kernels: Mapping[str, Kernel]) -> None:
    made = subject(name, kernels)
    verified = digest(made.run(make_batch("first:64", 65)))
    timed, usual = TimedCase(made, 64, Ranges("tests"), None, verified=verified), CudaStopwatch()
    while not timed.turn(usual):
        pass
    found = timed.result()
    assert found.other_bits == ""
    assert found.warm is not None
    assert found.cold is not None
    for samples in (found.warm_samples, found.cold_samples):
        assert samples is not None
        assert samples.method == "graph"
    # No two GPUs exchange anything in a microsecond, and 64 rows take no second.
    assert 1 < found.warm.median_us <= found.cold.median_us * 1.2
    assert found.cold.median_us < 1e6


def test_a_rank_that_fails_on_a_gpu_says_how_and_the_next_call_has_ranks_again(kernels: Mapping[str, Kernel]) -> None:
    kernel, x = kernels["all_reduce"], torch.ones(3, RANKS, 512, device="cuda")
    call = kernel.prepare(x)  # type: ignore[attr-defined]
    with pytest.raises(RankLost, match=r"rank \d: .*no_such"):
        call.group.go(call.places[0], "kernels_bench.arms.ranks.collectives:no_such")
    assert torch.equal(kernel(x), torch.full((3, 512), float(RANKS), device="cuda"))
