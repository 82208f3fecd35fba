"""What tells whether two runs gave a kernel the same rows and weights."""

from __future__ import annotations

import pytest
import torch

from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest

CPU = torch.device("cpu")


def of(operator: str, seed: int = 0, universe: int = 100, dtype: str = "bf16") -> KernelUnderTest:
    known = operators()[operator]
    shape = next(shape for shape in known.shapes if shape.label.startswith("small/"))
    case = Case(arm="any", operator=operator, shape=shape, precision=Precision.parse(dtype))
    return KernelUnderTest(case, known, lambda *_: None, seed=seed, universe=universe, device=CPU, watched=False)


@pytest.mark.parametrize("operator", ["linear", "softmax", "attention_decode", "moe_experts", "rotary", "chunk_scan"])
def test_the_same_data_have_the_same_and_others_another(operator: str) -> None:
    universe = 9 if operator in ("attention_decode", "chunk_scan") else 100
    one, same, other = (of(operator, seed, universe).data_digest() for seed in (0, 0, 1))
    assert len(one) == 32
    assert one == same != other


def test_of_a_larger_universe_the_first_rows_are_the_same() -> None:
    assert of("linear").data_digest() == of("linear", universe=200).data_digest()


def test_a_row_or_a_weight_that_changes_everywhere_changes_it() -> None:
    subject = of("linear")
    before = subject.data_digest()
    subject.weights = tuple(-weight for weight in subject.weights)
    turned = subject.data_digest()
    subject.tables = tuple(table * 2 for table in subject.tables)
    assert len({before, turned, subject.data_digest()}) == 3
