"""How long a GPU computed: of spans that overlap and gaps between them; and nothing is claimed where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.engine.gpu_time import covered, gpu_seconds, spans_of
from e2e.workload.options import Options, OptionsError, check, read_options

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda span: (span[0], sum(span))), max_size=12)


@given(SPANS)
def test_a_nanosecond_counts_once_however_many_kernels_run_in_it(spans: list[tuple[int, int]]) -> None:
    assert covered(spans) == len({at for start, end in spans for at in range(start, end)})


def test_where_there_is_no_gpu_nothing_is_run_or_claimed() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu_seconds(lambda: pytest.fail("it was called")) is None


def test_what_a_cpu_does_is_no_work_of_a_gpu() -> None:
    """Of torch's real profiler, whose events have the names that are asked for."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        torch.ones(64, 64) @ torch.ones(64, 64)
    assert len(recorded.profiler.kineto_results.events()) > 0
    assert spans_of(recorded) == []


@pytest.mark.gpu
def test_a_gpu_computes_less_long_than_is_waited_for_it_and_a_pause_counts_not() -> None:
    import time

    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    began = time.perf_counter()
    while time.perf_counter() < began + 1:  # a card that was idle is slow at first
        torch.mm(a, a)
        torch.cuda.synchronize()

    def busy(pause: float) -> tuple[float, float]:
        def work() -> None:
            for _ in range(20):
                torch.mm(a, a)
                time.sleep(pause)

        began = time.perf_counter()
        found = gpu_seconds(work)
        assert found is not None
        return found, time.perf_counter() - began

    dense, _ = busy(0.0)
    sparse, waited = busy(0.02)
    assert sparse < waited / 4
    assert dense == pytest.approx(sparse, rel=0.3)


@pytest.mark.parametrize(
    "changes", [{"mode": "online"}, {"server": "http://h:1"}, {"tp_size": 2}, {"prefix_caching": True}]
)
def test_where_it_could_not_be_recorded_or_would_be_another_batchs_it_is_refused(changes: dict[str, object]) -> None:
    check(Options(gpu_time=True))
    with pytest.raises(OptionsError, match=r"^--gpu-time: "):
        read_options({"gpu_time": True, **changes}, {})
