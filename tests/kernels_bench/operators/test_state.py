"""Mamba2's state: references, honest kernels and wrong ones, and which of them keep their bits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from kernels_bench import check
from kernels_bench.arms.pytorch.calls import state as torch_state
from kernels_bench.arms.samebits.cpu import state as cpu_state
from kernels_bench.arms.vllm.calls.state import chunks_of
from kernels_bench.operators import Operator, RowTensors, Tensors, operators
from kernels_bench.operators.layers.state import _CHUNKS, scanned
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.relations import make_batch
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest

CPU = torch.device("cpu")
NAMES = ("state_update", "chunk_scan")
OURS = {name: getattr(cpu_state, name) for name in NAMES}
ROWS = 8


def small(name: str, kind: str = "unaligned") -> tuple[Operator, Shape]:
    (shape,) = (one for one in operators()[name].shapes if one.label == f"small/{kind}")
    return operators()[name].for_shape(shape), shape


def data(name: str, text: str, kind: str = "unaligned") -> tuple[Operator, RowTensors, Tensors, RowTensors, RowTensors]:
    """A batch's rows, the weights, what is right of each line and how far a kernel may be from it."""
    operator, shape = small(name, kind)
    precision = Precision.parse(text)
    tables = operator.rows(shape, ROWS, precision.torch_input, 0, CPU)
    weights = operator.weights(shape, precision.torch_input, 0, CPU)
    batch = make_batch(f"first:{ROWS}", ROWS)
    lines = torch.tensor(operator.lines(batch, ROWS, shape).ids)
    expected = operator.reference_and_tolerance(operator.inputs_of(lines, tables), weights, precision.torch_output)
    return operator, operator.gather(batch, ROWS, shape, tables, weights), weights, *expected


def worst(name: str, kernel: Callable[..., Any], text: str, kind: str = "unaligned") -> float:
    """Of an honest kernel at most 1."""
    operator, rows, weights, exact, allowed = data(name, text, kind)
    results = operator.split_result(kernel(*operator.arguments(tuple(row.clone() for row in rows), weights)))
    assert results[0].dtype is Precision.parse(text).torch_output
    shares = [((g.double() - e).abs() / a) for g, e, a in zip(results, exact, allowed, strict=True)]
    return max(float(share.nan_to_num(nan=torch.inf).max()) for share in shares)


@pytest.mark.parametrize("kind", ["aligned", "unaligned"])
@pytest.mark.parametrize("text", ["bf16", "fp32"])
@pytest.mark.parametrize("kernels", [torch_state.KERNELS, OURS], ids=["torch", "samebits"])
@pytest.mark.parametrize("name", NAMES)
def test_honest_kernels_are_right(name: str, kernels: dict[str, Callable[..., Any]], text: str, kind: str) -> None:
    assert worst(name, kernels[name], text, kind) <= 1


def test_the_reference_is_the_recurrence_in_numpy() -> None:
    operator, rows, weights, exact, _ = data("chunk_scan", "fp32")
    x, dt, b, c, begins = (one.double().numpy() for one in rows)
    a, d, bias = (one.double().numpy() for one in weights)
    heads, groups = x.shape[1], b.shape[1]
    y = np.zeros_like(x)
    for begin, end in pairwise(begins.astype(int)):
        state = np.zeros((*x.shape[1:], b.shape[2]))
        for token in range(begin, end):
            for head in range(heads):
                group = head // (heads // groups)
                step = np.logaddexp(0, dt[token, head] + bias[head])
                state[head] *= np.exp(a[head] * step)
                state[head] += step * np.outer(x[token, head], b[token, group])
                y[token, head] = state[head] @ c[token, group] + d[head] * x[token, head]
    np.testing.assert_allclose(exact[0].numpy(), y, rtol=1e-9, atol=1e-12)
    assert operator.definition.lengths == (1, _CHUNKS * 8 // 2)  # type: ignore[attr-defined]


def test_a_scan_is_as_many_steps_in_the_reference_and_bit_for_bit_in_ours() -> None:
    _, rows, weights, _, _ = data("chunk_scan", "fp32")
    x, dt, b, c, begins = rows
    count = int(begins[1])
    state, results = torch.zeros(1, *x.shape[1:], b.shape[-1]), []
    for token in range(count):
        one = slice(token, token + 1)
        result, state = OURS["state_update"](state, x[one], dt[one], b[one], c[one], *weights)
        results.append(result)
    scan = OURS["chunk_scan"](*rows, *weights, 8)
    assert torch.equal(torch.cat(results), scan[:count])
    a, d, bias = (one.double() for one in weights)
    exact = scanned(x.double(), dt.double(), b.double(), c.double(), begins, a, d, bias)
    torch.testing.assert_close(scan.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("together", [1, 3])
def test_no_bit_of_our_scan_depends_on_how_many_tokens_are_read_together(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, rows, weights, _, _ = data("chunk_scan", "bf16")
    x, _, b, _, begins = rows
    assert int(begins.diff().max()) > 2 * together
    whole = OURS["chunk_scan"](*rows, *weights, 8)
    monkeypatch.setattr(cpu_state, "TOGETHER", together * x[0].numel() * b.shape[-1])
    assert torch.equal(OURS["chunk_scan"](*rows, *weights, 8), whole)


def test_sequences_may_be_as_long_as_their_shape_says() -> None:
    """Longer than an operator's own lengths, which are those of short chunks."""
    operator = operators()["chunk_scan"]
    (shape,) = (one for one in operator.shapes if one.label == "unaligned/0")
    case = Case(arm="torch", operator="chunk_scan", shape=shape, precision=Precision.parse("fp32"))
    subject = KernelUnderTest(case, operator, OURS["chunk_scan"], seed=0, universe=12, device=CPU)
    *_, begins = subject.gather(make_batch("first:12", 12))
    assert int(begins.diff().max()) == _CHUNKS * 32 // 2 > operator.definition.lengths[1]  # type: ignore[attr-defined]


def no_bias(state: torch.Tensor, *rest: torch.Tensor) -> Any:
    return torch_state.KERNELS["state_update"](state, *rest[:-1], torch.zeros_like(rest[-1]))


def heads_of_another_group(x: torch.Tensor, dt: torch.Tensor, b: torch.Tensor, *rest: Any) -> Any:
    return torch_state.chunk_scan(x, dt, b.flip(1), *rest)


def one_sequence(*arguments: Any) -> Any:
    """The state is not set to zero where a sequence begins."""
    x, dt, b, c, begins, *rest = arguments
    return torch_state.chunk_scan(x, dt, b, c, begins[[0, -1]], *rest)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("state_update", no_bias),
        ("state_update", lambda state, *rest: (torch_state.state_update(state, *rest)[0], state * 1.001)),
        ("chunk_scan", heads_of_another_group),
        ("chunk_scan", one_sequence),
    ],
)
def test_wrong_kernels_are_wrong(name: str, kernel: Callable[..., Any]) -> None:
    assert worst(name, kernel, "bf16") > 1


@pytest.mark.parametrize("name", NAMES)
def test_our_kernels_keep_their_bits(name: str) -> None:
    report = check(OURS[name], name, shapes="small/unaligned", dtypes="fp32", device="cpu", budget_s=0.1, claims=True)
    assert report.held, report.summary()


def test_chunks_of_the_longest_sequence_of_a_batch_are_found() -> None:
    def by_longest(*arguments: Any) -> Any:
        *tensors, _ = arguments
        return torch_state.KERNELS["chunk_scan"](*tensors, 16 if int(tensors[4].diff().max()) > 20 else 4)

    how = {"shapes": "small/aligned", "dtypes": "fp32", "device": "cpu", "budget_s": 0.5}
    report = check(by_longest, "chunk_scan", relations="packed_lengths", **how)  # type: ignore[arg-type]
    assert not report.held
    assert report.counterexamples[0].token is not None


def test_the_order_of_a_states_sum_is_read() -> None:
    operator, shape = small("state_update")
    case = Case(arm="samebits", operator="state_update", shape=shape, precision=Precision.parse("fp32"))
    order, _ = order_of(case, operator, cpu_state.state_update, Task((1, 3), 0, 60.0, ()), CPU)
    assert (order.status, order.terms) == ("proven", 12), order


def test_every_sequence_begins_a_chunk() -> None:
    assert chunks_of([0, 5, 6, 14], 4) == ([0, 4, 5, 6, 10, 14], [0, 0, 1, 2, 2], [1, 2, 4])
