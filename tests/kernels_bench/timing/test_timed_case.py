"""Timing: a call of known length is measured as long as it is, and every sample set ends with its median."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from kernels_bench.arms import Kernel
from kernels_bench.arms.pytorch.default import KERNELS
from kernels_bench.arms.samebits.cpu import rows
from kernels_bench.operators import operators
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import SampleSummary, Timing
from kernels_bench.timing.meter import Stopwatch
from kernels_bench.timing.sampler import TURNS, Sampler, SamplingBudget
from kernels_bench.timing.stopwatches.host_clock import HostMeter, HostStopwatch
from kernels_bench.timing.timed_case import TimedCase
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from kernels_bench.verification.subject.launched import KernelFault
from kernels_bench.workers.arm.arm_timing import stopwatch_for
from profiles.instruments.ranges import Ranges

Call = Callable[[], object]
CPU = torch.device("cpu")
RANGES = Ranges("tests")


def taken(stopwatch: Stopwatch, call: Call, kind: str, effort: SamplingBudget | None = None) -> Sampler:
    effort = effort or SamplingBudget()
    estimate = stopwatch.estimate_us(call)
    sampler = Sampler(effort, stopwatch.full_clock_mhz)
    for _ in range(1000):
        sampler.turn(lambda: stopwatch.warm(call, estimate) if kind == "warm" else stopwatch.cold(call, estimate))
        if sampler.done:
            return sampler
    pytest.fail("the sampler never ends")


def measured(stopwatch: Stopwatch, call: Call, kind: str = "warm") -> SampleSummary:
    return taken(stopwatch, call, kind).summary()


def within(share: float, attempt: Callable[[], tuple[float, float]], attempts: int = 10) -> None:
    """A pair of times agrees; tried again on a noisy machine, whose noise a wrong measurement outlasts."""
    found = []
    for _ in range(attempts):
        got, expected = attempt()
        found.append((got, expected))
        if abs(got - expected) <= share * expected:
            return
    pytest.fail(f"never within {share:.0%}: {found}")


def busy(us: float) -> Call:
    """Occupies the processor for so long by the clock."""

    def call() -> None:
        end = time.perf_counter_ns() + round(1e3 * us)
        while time.perf_counter_ns() < end:
            pass

    return call


def by_hand_us(call: Call, count: int = 25) -> float:
    found = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - start) / 1e3)
    return float(np.median(found))


@pytest.mark.parametrize(("us", "kind"), [(50.0, "warm"), (1000.0, "warm"), (1000.0, "cold")])
def test_a_call_of_known_length_is_measured_as_long_as_it_is(us: float, kind: str) -> None:
    stopwatch = HostStopwatch()
    within(0.1, lambda: (measured(stopwatch, busy(us), kind).median_us, us))


def test_a_sleep_is_measured_as_long_as_it_is() -> None:
    def sleep() -> None:
        time.sleep(1e-3)

    stopwatch = HostStopwatch()
    within(0.1, lambda: (measured(stopwatch, sleep).median_us, by_hand_us(sleep)))


def test_twice_the_work_takes_about_twice_the_time() -> None:
    x = torch.randn(1 << 15)  # one thread's work

    def times(count: int) -> Call:
        def call() -> None:
            for _ in range(count):
                torch.sin(x)

        return call

    stopwatch = HostStopwatch()

    def ratio() -> tuple[float, float]:
        once, twice = (measured(stopwatch, times(count)).median_us for count in (4, 8))
        return twice / once, 2

    within(0.3, ratio)


def test_a_cold_call_is_slower_than_a_warm_one_where_memory_is_the_limit() -> None:
    x = torch.ones(1 << 15, dtype=torch.float64)  # 256 KiB: in a core's cache when warm, and one thread's work
    stopwatch = HostStopwatch()
    found = []
    for _ in range(10):
        warm, cold = (measured(stopwatch, lambda: x.add_(1), kind).median_us for kind in ("warm", "cold"))
        # One call a sample, as the cold ones are, and nothing between them that would spoil the cache.
        alone = Sampler(SamplingBudget(), 0.0)
        while not alone.done:
            alone.turn(lambda: HostMeter(lambda: x.add_(1), 1, None))
        found.append((warm, alone.summary().median_us, cold))
        if cold > 1.3 * max(found[-1][:2]):
            return
    pytest.fail(f"warm, alone and cold in µs: {found}")


def test_short_calls_are_repeated_to_fill_a_sample_and_long_ones_are_not() -> None:
    stopwatch = HostStopwatch()
    calls = {us: stopwatch.warm(busy(us), us).calls for us in (10.0, 100.0, 2000.0)}
    assert 15 <= calls[10.0] <= 40
    assert 2 <= calls[100.0] <= 4
    assert calls[2000.0] == 1
    assert stopwatch.cold(busy(10), 10).calls == 1
    within(0.3, lambda: (stopwatch.estimate_us(busy(100)), 100))


def test_every_sample_makes_as_many_calls_as_it_says() -> None:
    made: list[object] = []
    meter = HostStopwatch().warm(lambda: made.append(busy(20)()), 15)
    before = len(made)
    found = meter.take(rest=False)
    assert len(made) - before == len(found) * meter.calls
    assert all(clock is None and us >= 20 for us, clock in found)


def test_sampling_stops_at_a_known_median_or_when_its_budget_is_spent() -> None:
    stopwatch = HostStopwatch()
    long = taken(stopwatch, busy(20_000), "warm", SamplingBudget(budget_s=0.02)).samples()
    assert len(long.us) == 2 * TURNS  # the budget went with the first samples; every turn has two
    most = taken(stopwatch, busy(10), "warm", SamplingBudget(fewest=10**6, most=16, budget_s=1e3)).samples()
    assert 16 <= len(most.us) < 20
    first = taken(stopwatch, busy(1000), "warm", SamplingBudget(fewest=12, most=10**6, budget_s=10)).samples()
    assert len(first.us) >= 12


def test_a_sampler_that_is_done_takes_no_more() -> None:
    sampler = taken(HostStopwatch(), busy(100), "warm")
    before = sampler.samples()
    sampler.turn(lambda: HostStopwatch().warm(busy(100), 1))
    assert sampler.samples() == before


SHAPES = {
    "rms_norm": Shape(label="test", k=1024),
    "softmax": Shape(label="test", k=1024),
    "mm": Shape(label="test", n=256, k=256),
}


def timed(operator: str, kernel: Kernel, m: int, device: torch.device = CPU) -> Timing:
    case = Case(arm="planted", operator=operator, shape=SHAPES[operator], precision=Precision.parse("fp32"))
    subject = KernelUnderTest(
        case,
        operators()[operator],
        bind(case, {operator: kernel}),
        seed=0,
        universe=m,
        device=device,
        watched=False,
    )
    return run(TimedCase(subject, m, RANGES, None), stopwatch_for(device))


def run(running: TimedCase, stopwatch: Stopwatch) -> Timing:
    turns = 0
    while not running.turn(stopwatch):
        turns += 1
        assert turns < 100
    return running.result()


@pytest.mark.parametrize("operator", SHAPES)
@pytest.mark.parametrize("m", [1, 64])
def test_a_timed_case_ends_with_both_medians(operator: str, m: int) -> None:
    found = timed(operator, KERNELS[operator], m)
    assert (found.status, found.m, found.key) == ("measured", m, f"{found.case.key}/{m}")
    for summary, samples in ((found.warm, found.warm_samples), (found.cold, found.cold_samples)):
        assert summary is not None
        assert samples is not None
        assert 0 < summary.p10_us <= summary.median_us <= summary.p90_us
        assert summary.samples == len(samples.us) >= 5
        assert summary.median_us == pytest.approx(float(np.median(samples.us)))
        assert (samples.method, samples.clock_mhz) == ("host", ())
    of = operators()[operator]
    assert found.bytes_moved == of.bytes_moved(found.case.shape, found.case.precision, m)
    assert found.operations == of.operations(found.case.shape, m)
    assert found.wall_ms > 0
    assert found.compile_ms > 0
    assert Timing.model_validate_json(found.model_dump_json()) == found


COMPILES_US = 2_000_000  # much, so that a busy machine's pauses are less


def test_the_first_calls_compilation_is_kept_apart_from_the_samples() -> None:
    made: list[object] = []

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        busy(100)() if made else busy(COMPILES_US)()
        made.append(None)
        return torch.empty(len(a), b.shape[1])

    found = timed("mm", kernel, 4)
    assert found.warm_samples is not None
    assert found.compile_ms >= COMPILES_US / 1e3
    assert max(found.warm_samples.us) < COMPILES_US / 2
    assert found.wall_ms < COMPILES_US / 1e3


def test_a_timed_case_gives_the_kernel_its_rows() -> None:
    seen = set()

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.add((tuple(a.shape), tuple(b.shape)))
        return torch.empty(len(a), b.shape[1])

    timed("mm", kernel, 7)
    assert seen == {((7, 256), (256, 256))}


# On a GPU.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CYCLES = 200_000


class Prepares:
    """Our own softmax, half of whose work is done beforehand; its prepared call gives the result, or another."""

    def __init__(self, error: float = 0.0) -> None:
        self._error = error
        self.prepared = self.called = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return rows.softmax(x)

    def prepare(self, x: torch.Tensor) -> Callable[[], torch.Tensor]:
        self.prepared += 1
        shifted = x - x.amax(-1, keepdim=True)

        def call() -> torch.Tensor:
            self.called += 1
            return rows.softmax(shifted) + self._error

        return call


def test_what_a_kernel_prepares_is_outside_the_samples() -> None:
    kernel = Prepares()
    found = timed("softmax", kernel, 4)
    assert found.status == "measured"
    assert 0 < kernel.prepared < kernel.called / 2


def test_a_prepared_call_must_give_what_the_kernel_gives() -> None:
    with pytest.raises(KernelFault, match=r"prepare.* gives other bits .*softmax"):
        timed("softmax", Prepares(2.0**-20), 4)


def test_a_prepared_call_that_deviates_once_is_no_fault_of_its_preparation() -> None:
    class Once(Prepares):
        def prepare(self, x: torch.Tensor) -> Callable[[], torch.Tensor]:
            call = super().prepare(x)
            return lambda: call() + (1 if self.called == 2 else 0)  # in the check, which calls it first

    kernel = Once()
    assert timed("softmax", kernel, 4).status == "measured"
    assert kernel.called > 2


@pytest.mark.parametrize("operator", ["attention_decode", "attention_prefill"])
def test_sequences_are_timed_at_one_length(operator: str) -> None:
    lengths = []

    def kernel(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: PagedBatch) -> torch.Tensor:
        lengths.append(batch.lengths.tolist())
        result: torch.Tensor = KERNELS[operator](q, keys, values, batch)
        return result

    shape = Shape(label="test", heads=4, kv_heads=2, k=16, page=16, tokens=33)
    case = Case(arm="torch", operator=operator, shape=shape, precision=Precision.parse("fp16"))
    subject = KernelUnderTest(
        case, operators()[operator].for_length(40), kernel, seed=0, universe=3, device=CPU, watched=False
    )
    found = run(TimedCase(subject, 3, RANGES, None), HostStopwatch())
    queries = 1 if operator == "attention_decode" else 40
    assert lengths
    assert all(each == [[queries, 40]] * 3 for each in lengths)
    assert (found.m, found.length) == (3, 40)
    assert found.key.endswith("/3x40")
    # Keys and values of 2 heads of 16, in 2 bytes; queries and results of 4.
    assert found.bytes_moved == 2 * 3 * (2 * 40 * 2 * 16 + 2 * queries * 4 * 16)
    seen = 40 if queries == 1 else sum(range(1, 41))
    assert found.operations == 4 * 3 * seen * 4 * 16


def spinning() -> None:
    torch.cuda._sleep(CYCLES)


def reads_back(x: torch.Tensor) -> Call:
    """A call that no graph can hold."""
    return lambda: x.sum().item()


@pytest.fixture(scope="module")
def gpu() -> Stopwatch:
    return stopwatch_for(torch.device("cuda"))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_a_spin_takes_its_cycles_at_the_clock_that_its_samples_name(gpu: Stopwatch, kind: str) -> None:
    sampler = taken(gpu, spinning, kind)
    samples = sampler.samples()
    clock = float(np.median(samples.clock_mhz))
    assert (samples.method, len(samples.clock_mhz)) == ("graph", len(samples.us))
    assert sampler.summary().median_us == pytest.approx(CYCLES / clock, rel=0.03)


@pytest.mark.gpu
@needs_gpu
def test_the_full_clock_is_the_cards(gpu: Stopwatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    highest = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
    assert 0.5 * highest < gpu.full_clock_mhz < 1.03 * highest


@pytest.mark.gpu
@needs_gpu
def test_twice_the_cycles_take_twice_the_time(gpu: Stopwatch) -> None:
    once, twice = (measured(gpu, partial(torch.cuda._sleep, c)).median_us for c in (CYCLES, 2 * CYCLES))
    assert twice / once == pytest.approx(2, rel=0.03)


@pytest.mark.gpu
@needs_gpu
def test_an_empty_kernel_takes_next_to_nothing(gpu: Stopwatch) -> None:
    for kind in ("warm", "cold"):
        assert -0.5 < measured(gpu, lambda: torch.cuda._sleep(0), kind).median_us < 4


@pytest.mark.gpu
@needs_gpu
def test_cold_is_slower_than_warm_where_memory_is_the_limit(gpu: Stopwatch) -> None:
    x = torch.ones(1 << 22, device="cuda")  # 16 MiB: in the L2 when warm
    out = torch.empty_like(x)
    warm, cold = (measured(gpu, lambda: torch.neg(x, out=out), kind).median_us for kind in ("warm", "cold"))
    assert cold > 1.2 * warm


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_what_cannot_be_captured_is_timed_in_the_stream_and_the_device_survives(gpu: Stopwatch, kind: str) -> None:
    found = taken(gpu, reads_back(torch.ones(1 << 20, device="cuda")), kind)
    assert found.samples().method == "stream"
    assert found.summary().median_us > 0
    assert float(torch.ones(8, device="cuda").sum()) == 8
    assert taken(gpu, spinning, kind).samples().method == "graph"


@pytest.mark.gpu
@needs_gpu
def test_a_timed_case_on_a_gpu_ends_with_both_medians() -> None:
    found = timed("mm", KERNELS["mm"], 64, torch.device("cuda"))
    assert found.warm is not None
    assert found.cold is not None
    assert found.warm_samples is not None
    assert found.warm_samples.method == "graph"
    assert 0 < found.warm.median_us < 1000
    assert found.cold.median_us > 0
