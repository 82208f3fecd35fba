"""The gated delta rule: reference, honest kernels and wrong ones, and which of them keep their bits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from kernels_bench import check
from kernels_bench.arms import Unsupported
from kernels_bench.arms.pytorch.calls import gated_delta as torch_delta
from kernels_bench.arms.samebits.cpu import gated_delta as cpu_delta
from kernels_bench.operators import Operator, RowTensors, operators
from kernels_bench.records.cases import Precision
from kernels_bench.relations import make_batch

CPU = torch.device("cpu")
NAMES = ("gated_delta_step", "gated_delta_rule")
OURS = {name: getattr(cpu_delta, name) for name in NAMES}
ROWS = 8


def data(name: str, text: str, kind: str) -> tuple[Operator, RowTensors, RowTensors, RowTensors]:
    """A batch's rows, what is right of each line and how far a kernel may be from it."""
    (shape,) = (one for one in operators()[name].shapes if one.label == f"small/{kind}")
    operator, dtype = operators()[name].for_shape(shape), Precision.parse(text).torch_input
    tables, batch = operator.rows(shape, ROWS, dtype, 0, CPU), make_batch(f"first:{ROWS}", ROWS)
    lines = torch.tensor(operator.lines(batch, ROWS, shape).ids)
    expected = operator.reference_and_tolerance(operator.inputs_of(lines, tables), (), dtype)
    return operator, operator.gather(batch, ROWS, shape, tables, ()), *expected


def worst(name: str, kernel: Callable[..., Any], text: str, kind: str = "unaligned") -> float:
    """Of an honest kernel at most 1."""
    operator, rows, exact, allowed = data(name, text, kind)
    results = operator.split_result(kernel(*operator.arguments(tuple(row.clone() for row in rows), ())))
    assert results[0].dtype is Precision.parse(text).torch_output
    shares = [((g.double() - e).abs() / a) for g, e, a in zip(results, exact, allowed, strict=True)]
    return max(float(share.nan_to_num(nan=torch.inf).max()) for share in shares)


@pytest.mark.parametrize(("text", "kind"), [("bf16", "aligned"), ("fp32", "unaligned")])
@pytest.mark.parametrize("kernels", [torch_delta.KERNELS, OURS], ids=["torch", "samebits"])
@pytest.mark.parametrize("name", NAMES)
def test_honest_kernels_are_right(name: str, kernels: dict[str, Callable[..., Any]], text: str, kind: str) -> None:
    assert worst(name, kernels[name], text, kind) <= 1


def test_vllms_kernel_for_cpus_is_right_and_says_what_it_does_not_take() -> None:
    pytest.importorskip("vllm._custom_ops")
    if not hasattr(torch.ops._C, "chunk_gated_delta_rule_cpu"):
        pytest.skip("needs vLLM's build for CPUs")
    from kernels_bench.arms.vllm.cpu.gated_delta import gated_delta_rule

    assert worst("gated_delta_rule", gated_delta_rule, "bf16", "aligned") <= 1
    with pytest.raises(Unsupported, match="keys and values of 64"):
        worst("gated_delta_rule", gated_delta_rule, "bf16", "unaligned")


def test_the_reference_is_the_recurrence_in_numpy() -> None:
    operator, rows, exact, _ = data("gated_delta_rule", "fp32", "unaligned")
    q, k, v, g, beta, begins = (one.double().numpy() for one in rows)
    y = np.zeros_like(v)
    for begin, end in pairwise(begins.astype(int)):
        state = np.zeros((v.shape[1], k.shape[2], v.shape[2]))
        for token in range(begin, end):
            for head in range(v.shape[1]):
                group = head // (v.shape[1] // k.shape[1])
                key, query = (one[token, group] / np.sqrt((one[token, group] ** 2).sum() + 1e-6) for one in (k, q))
                state[head] *= np.exp(g[token, head])
                state[head] += beta[token, head] * np.outer(key, v[token, head] - key @ state[head])
                y[token, head] = query @ state[head] / np.sqrt(k.shape[2])
    np.testing.assert_allclose(exact[0].numpy(), y, rtol=1e-9, atol=1e-12)
    assert operator.definition.lengths == (1, 26)  # type: ignore[attr-defined]


def test_a_prefill_is_as_many_steps_bit_for_bit_in_ours_and_not_in_chunks() -> None:
    _, rows, _, _ = data("gated_delta_rule", "fp32", "unaligned")
    *tokens, begins = rows
    longest = int(begins.diff().argmax())
    begin, end = (int(begins[longest + place]) for place in (0, 1))
    for kernels, same in ((OURS, True), (torch_delta.KERNELS, False)):
        state = torch.zeros(1, *tokens[2].shape[1:], tokens[1].shape[2])
        results = []
        for token in range(begin, end):
            result, state = kernels["gated_delta_step"](state, *(one[token : token + 1] for one in tokens))
            results.append(result)
        whole = kernels["gated_delta_rule"](*tokens, begins, 4)[begin:end]
        assert torch.equal(torch.cat(results), whole) is same
        torch.testing.assert_close(torch.cat(results), whole, rtol=1e-3, atol=1e-5)


def nothing_taken_out(state: torch.Tensor, q: torch.Tensor, k: torch.Tensor, *rest: torch.Tensor) -> Any:
    v, g, beta = rest
    held = (state * g.exp()[..., None, None] * torch_delta._unit(k, v.shape[1])[:, :, None]).sum(-1)
    return torch_delta.gated_delta_step(state, q, k, (v + held).to(v.dtype), g, beta)


def one_sequence(*arguments: Any) -> Any:
    q, k, v, g, beta, begins, chunk = arguments
    return torch_delta.gated_delta_rule(q, k, v, g, beta, begins[[0, -1]], chunk)


def heads_of_another_group(q: torch.Tensor, k: torch.Tensor, *rest: Any) -> Any:
    return torch_delta.gated_delta_rule(q, k.flip(1), *rest)


def without_decay(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, *rest: Any) -> Any:
    return torch_delta.gated_delta_rule(q, k, v, 0 * g, *rest)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("gated_delta_step", nothing_taken_out),
        ("gated_delta_rule", one_sequence),
        ("gated_delta_rule", heads_of_another_group),
        ("gated_delta_rule", without_decay),
    ],
)
def test_wrong_kernels_are_wrong(name: str, kernel: Callable[..., Any]) -> None:
    assert worst(name, kernel, "bf16") > 1


@pytest.mark.parametrize("name", NAMES)
def test_our_kernels_keep_their_bits(name: str) -> None:
    looked_at = ("batch_size", "position", "neighbour_content", "special_values")
    how = {"shapes": "small/unaligned", "dtypes": "fp32", "relations": looked_at, "device": "cpu", "budget_s": 0.2}
    report = check(OURS[name], name, claims=True, **how)  # type: ignore[arg-type]
    assert report.held, report.summary()
