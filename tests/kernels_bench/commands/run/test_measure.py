"""In which order a run does what it is to do."""

from __future__ import annotations

from kernels_bench.commands.run.measure import as_verified
from kernels_bench.records.cases import Case, Precision, Shape


def case(operator: str, precision: str, k: int) -> Case:
    return Case(arm="torch", operator=operator, shape=Shape(label="any", k=k), precision=Precision.parse(precision))


def test_operators_with_the_largest_cases_come_first_and_of_each_those_of_fp32_results() -> None:
    mean, softmax = [case("mean", name, k) for name in ("bf16", "fp32") for k in (8, 2)], case("softmax", "bf16", 9)
    ordered = as_verified([*mean, softmax], lambda one: one.shape.k)
    assert ordered == [softmax, *mean[2:], *mean[:2]]


def test_operators_that_are_alike_stay_together() -> None:
    cases = [case(operator, name, 8) for name in ("fp32", "bf16") for operator in ("mean", "softmax")]
    assert [one.operator for one in as_verified(cases, lambda one: one.shape.k)] == ["mean"] * 2 + ["softmax"] * 2
