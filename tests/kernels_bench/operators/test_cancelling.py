"""Rows whose results cancel show another order of addition in 16 bits too."""

from __future__ import annotations

import pytest
import torch

from kernels_bench.operators import operators
from kernels_bench.relations import make_batch

CPU, ROWS = torch.device("cpu"), 9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["chunk_scan", "state_update", "gated_delta_rule", "gated_delta_step", "mla_prefill"])
def test_many_results_have_nothing_left_but_rounding_errors(name: str, dtype: torch.dtype) -> None:
    (shape,) = (one for one in operators()[name].shapes if one.label == "small/unaligned")
    operator = operators()[name].for_shape(shape)
    tables = operator.rows(shape, ROWS, dtype, 1, CPU)
    weights = operator.shared_inputs(shape, ROWS, dtype, 1, CPU)
    lines = torch.tensor(operator.lines(make_batch(f"first:{ROWS}", ROWS), ROWS, shape).ids)
    exact = operator.reference(operator.inputs_of(lines, tables), weights)[0].flatten(1)
    # In float64 a sum of numbers of 16 bits that cancel is exact, or nearly so.
    nothing = (exact.abs() < 1e-12).double().mean()
    assert 0.04 < nothing < 0.6
