"""Our Triton kernels over eight bits and states: right, and a row has the same bits whatever the batch.

`test_under_the_interpreter` runs this file once more, see `support.interpreted`.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from kernels_bench.arms.samebits import DELTA, FP8, STATE
from kernels_bench.arms.samebits.cpu import fp8 as cpu_fp8
from kernels_bench.operators import Operator, operators
from kernels_bench.operators.inputs.rows import bell_shaped
from kernels_bench.records.cases import Case, Precision
from kernels_bench.relations import make_batch
from kernels_bench.verification.bitwise import same_bits
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind
from support.interpreted import INTERPRETED, under_the_interpreter

pytest.importorskip("triton")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
ROWS = 6
SLOW = {("chunk_scan", "aligned")} if INTERPRETED else set()
"""What the interpreter takes long for, and others show too."""
needs_triton = pytest.mark.skipif(not (INTERPRETED or GPU), reason="no GPU; run under the interpreter instead")


def kernel(name: str) -> Any:
    module = "state" if name in (*STATE, *DELTA) else "fp8"
    return getattr(importlib.import_module(f"kernels_bench.arms.samebits.triton.{module}"), FP8.get(name, name))


def subject(name: str, kind: str) -> KernelUnderTest:
    (shape,) = (one for one in operators()[name].shapes if one.label == f"small/{kind}")
    # The interpreter has no bf16.
    case = Case(arm="samebits", operator=name, shape=shape, precision=Precision.parse(_dtype(operators()[name])))
    rows = {"chunk_scan": 2, "gated_delta_rule": 2, "gated_delta_step": 3}.get(name, ROWS)
    return KernelUnderTest(
        case, operators()[name], bind(case, {name: kernel(name)}), seed=1, universe=rows, device=DEVICE
    )


def _dtype(operator: Operator) -> str:
    return "fp32" if "fp32" in operator.precisions else "fp16"


# The delta rule's aligned shape has keys of 64, over which the interpreter takes long, and over the scan's.
KINDS = [
    *((name, kind) for name in (*FP8, *STATE) for kind in ("aligned", "unaligned") if (name, kind) not in SLOW),
    *((name, "unaligned") for name in DELTA),
]


@needs_triton
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_results_are_right(name: str, kind: str) -> None:
    given = subject(name, kind)
    whole = make_batch(f"first:{given.universe}", given.universe)
    ids = torch.tensor(given.lines(whole).ids, device=DEVICE)
    out = given.case.precision.torch_output
    exact, allowed = given.operator.reference_and_tolerance(
        given.operator.inputs_of(ids, given.tables), given.weights, out
    )
    for got, right, bound in zip(given.run(whole), exact, allowed, strict=True):
        assert bool((((got.double() - right).abs() <= bound) | (got.double() == right)).all())


ROW_BY_ROW = [
    pytest.param(name, marks=[pytest.mark.long] if INTERPRETED and name == "chunk_scan" else [])
    for name in (*FP8, *STATE, "gated_delta_step")
    if name != "fp8_quant_tensor"
]


@needs_triton
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_has_the_same_bits_alone_at_the_end_and_beside_nan(name: str) -> None:
    given = subject(name, "unaligned")
    most = given.universe
    whole = make_batch(f"first:{most}", most)
    expected = given.run(whole)
    places = {int(line): place for place, line in enumerate(given.lines(whole).ids)}
    for spec in ("first:1", "last:2", f"reverse:{most}", f"nan:{most}:1", f"huge:{most}:{most - 1}"):
        batch = make_batch(spec, most)
        lines = given.lines(batch)
        for got, right in zip(given.run(batch), expected, strict=True):
            at = torch.tensor([places[int(lines.ids[line])] for line in lines.compared], device=DEVICE)
            mine = torch.tensor(lines.compared, device=DEVICE)
            assert bool(same_bits(got.index_select(0, mine), right.index_select(0, at))), spec


@needs_triton
def test_every_number_is_rounded_to_e4m3_as_torch_has_it() -> None:
    patterns = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    others = bell_shaped(0, "e4m3", 0, 1, 4096, torch.device("cpu"))[0] * torch.exp2(torch.arange(4096) % 24 - 14.0)
    x, one = torch.cat([patterns, others])[None], torch.ones(1)
    found = kernel("fp8_quant_static")(x.to(DEVICE), one.to(DEVICE)).cpu()
    assert bool(same_bits(found, cpu_fp8.fp8_quant_static(x, one)))


@needs_triton
def test_a_scan_is_as_many_steps_bit_for_bit() -> None:
    given = subject("chunk_scan", "unaligned")
    x, dt, b, c, begins = given.gather(make_batch("first:2", given.universe))
    state, results = torch.zeros(1, *x.shape[1:], b.shape[-1], device=DEVICE), []
    for token in range(int(begins[1])):
        one = slice(token, token + 1)
        result, state = kernel("state_update")(state, x[one], dt[one], b[one], c[one], *given.weights)
        results.append(result)
    scan = kernel("chunk_scan")(x, dt, b, c, begins, *given.weights, dict(given.case.shape.sizes)["chunk"])
    assert bool(same_bits(torch.cat(results), scan[: int(begins[1])]))


@needs_triton
def test_a_delta_rule_is_as_many_steps_bit_for_bit() -> None:
    given = subject("gated_delta_rule", "unaligned")
    *tokens, begins = given.gather(make_batch("first:2", given.universe))
    heads, dv, dk = tokens[2].shape[1], tokens[2].shape[2], tokens[1].shape[2]
    state, results = torch.zeros(1, heads, dv, dk, device=DEVICE), []
    some = min(5, int(begins[1]))
    for token in range(some):
        result, state = kernel("gated_delta_step")(state, *(one[token : token + 1] for one in tokens))
        results.append(result)
    whole = kernel("gated_delta_rule")(*tokens, begins, 4)
    assert bool(same_bits(torch.cat(results), whole[:some]))


@pytest.mark.skipif(INTERPRETED, reason="this is it")
@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_under_the_interpreter(which: str) -> None:
    done = under_the_interpreter(__file__, which)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
