"""Which kernel at which M, as an engine looks it up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.console.errors import UsageError
from kernels_bench.planned.tables import Key, choices_of, conservative, replaced
from support.plans import CPU, H100, case, plan

FITTING = ("cublas-restricted", "samebits")
UNFIT = ("torch", "vllm-default")
ranges = st.lists(
    st.tuples(st.integers(2, 5000), st.sampled_from([*FITTING, *UNFIT])), max_size=6, unique_by=lambda one: one[0]
)


@given(first=st.sampled_from([*FITTING, *UNFIT]), later=ranges, m=st.integers(0, 10**6), mate=st.sampled_from(FITTING))
def test_at_every_m_it_is_the_plans_kernel_or_another_of_its_class(
    first: str, later: list[tuple[int, str]], m: int, mate: str
) -> None:
    planned = case((1, first), *sorted(later), also=(mate,))
    assert planned.chosen is not None
    (choice,) = choices_of(plan(planned)).values()
    name = choice.name_at(m)
    assert name in planned.chosen.arms
    assert name not in UNFIT
    expected = planned.arm_at(max(m, 1))
    assert name == expected or expected in UNFIT


def test_a_kernel_that_cannot_run_in_an_engine_is_replaced_in_its_class_and_that_is_said() -> None:
    made = plan(case((1, "torch"), (64, "samebits"), also=("cublas-restricted",)))
    (line,) = replaced(made)
    assert line.startswith("linear/4096x4096/bf16: cublas-restricted for torch, with the same bits: it needs cuBLAS's")


def test_without_another_of_its_class_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"linear/4096x4096/bf16: torch cannot run in an engine: .*no other"):
        choices_of(plan(case((1, "torch"))))
    with pytest.raises(UsageError, match=r"mine cannot run in an engine: this samebits has no such arm"):
        choices_of(plan(case((1, "mine"))))
    with pytest.raises(UsageError, match=r"samebits\[1x1\] cannot run .*: this samebits has no samebits of that label"):
        choices_of(plan(case((1, "samebits[1x1]"))))
    (choice,) = choices_of(plan(case((1, "torch")), device=CPU)).values()
    assert choice.names == ("torch",)  # on a CPU no setting of the engine's is another than the arm's


def test_ranges_of_one_kernel_are_one() -> None:
    (choice,) = choices_of(plan(case((1, "torch"), (9, "cublas-restricted"), (64, "samebits")))).values()
    assert choice.in_words == "cublas-restricted up to M=63, samebits from M=64 on"
    (choice,) = choices_of(plan(case((1, "samebits")))).values()
    assert choice.in_words == "samebits at every M"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (Key("linear", 4096, 4096, "bf16"), "cublas-restricted"),
        (Key("linear_bias", 4096, 4096, "fp16"), "cublas-restricted"),
        (Key("linear", 4096, 4096, "fp32"), "vllm"),
        (Key("linear", 4097, 4096, "bf16"), "vllm"),
        (Key("linear", 4096, 4092, "bf16"), "vllm"),
        (Key("rms_norm", 0, 4096, "bf16"), "samebits"),
    ],
)
def test_a_shape_outside_of_a_plan_has_one_kernel_that_kept_its_bits(key: Key, name: str) -> None:
    assert conservative(key, H100).in_words == f"{name} at every M"
    assert conservative(key, CPU).names == ("samebits",)
    older = H100.model_copy(update={"capability": (8, 0)})
    assert conservative(key, older).names != ("cublas-restricted",)


def test_other_operators_and_results_of_another_dtype_are_not_an_engines() -> None:
    made = plan(case((1, "samebits"), operator="mm"), case((1, "samebits"), dtype="bf16:fp32"), case(n=8))
    assert choices_of(made) == {}
