"""The operators that an engine calls: what they compute, and what a compiler sees of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels_bench.arms.base import arms
from kernels_bench.planned import operators
from kernels_bench.planned.tables import Choice, Key
from support.plans import CPU

N, K = 24, 32
SHAPE = Key("linear", N, K, "bf16")
samebits = arms()["samebits"].kernels()


def rows(m: int) -> Tensor:
    return torch.randn((m, K), generator=torch.Generator().manual_seed(m)).bfloat16()


WEIGHT, BIAS = rows(N), rows(1)[0, :N].contiguous()


@pytest.fixture
def choice() -> Choice:
    """One kernel up to 16 rows, and another from there on, which torch's own product gives away."""
    found = Choice(SHAPE, CPU, ("samebits", "torch"), (16,), planned=True)
    operators.install(operators.Planned({SHAPE: found}, CPU, lambda line: None))
    return found


def through_torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.samebits.planned_linear(x, weight, bias)
    return result


@pytest.mark.parametrize("m", [0, 1, 16, 17, 40])
@pytest.mark.parametrize("call", [operators.linear, through_torch])
def test_a_linear_is_the_kernel_of_its_rows(choice: Choice, m: int, call: Callable[..., Tensor]) -> None:
    x = rows(m)
    expected = samebits["linear"](x, WEIGHT) if m <= 16 else torch.nn.functional.linear(x, WEIGHT)
    assert torch.equal(call(x, WEIGHT, None), expected)
    assert torch.equal(call(x.view(1, m, K), WEIGHT, None), expected[None])
    assert choice.calls == 2


def test_every_kernel_of_a_shape_is_called_where_it_is_first_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a request waits until one is compiled whose M comes late."""
    found = Choice(SHAPE, CPU, ("samebits", "torch"), (20,), planned=True)
    seen: list[tuple[str, int]] = []

    def noting(name: str, kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def noted(x: Tensor, weight: Tensor) -> Tensor:
            seen.append((name, len(x)))
            return kernel(x, weight)

        return noted

    monkeypatch.setitem(
        vars(found), "kernels", tuple(noting(*one) for one in zip(found.names, found.kernels, strict=True))
    )
    planned = operators.Planned({SHAPE: found}, CPU, lambda line: None, warms_up=True)
    planned.linear(rows(3), WEIGHT)
    assert seen[-1] == ("samebits", 3)
    warmed = set(seen[:-1])
    assert warmed == {("samebits", 1 << power) for power in range(5)} | {
        ("torch", m) for m in (21, 32, 64, 128, 256, 512)
    }
    planned.linear(rows(30), WEIGHT)
    assert seen[-1] == ("torch", 30)
    assert len(seen) == len(warmed) + 2
    assert found.calls == 2


def test_what_is_outside_of_the_plan_has_one_kernel_and_is_told_once() -> None:
    told: list[str] = []
    planned = operators.Planned({}, CPU, told.append)
    for m in (1, 17, 40):
        assert torch.equal(planned.linear(rows(m), WEIGHT, BIAS), samebits["linear"](rows(m), WEIGHT, BIAS))
    assert told == ["linear_bias/24x32/bf16, outside of the plan: samebits at every M"]
    assert [one.calls for one in planned.choices] == [3]


def layer(x: Tensor) -> Tensor:
    added = operators.linear(x + 1, WEIGHT)
    normed, summed = operators.fused_add_rms_norm(added, added, BIAS, 1e-6)
    return operators.rms_norm(normed, BIAS, 1e-6) + summed


def test_a_compiler_sees_one_operator_and_the_choice_is_made_at_run_time(choice: Choice) -> None:
    graphs: list[Any] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, fullgraph=True, backend=keep)
    for m in (40, 17, 16, 3):
        x = rows(m)
        torch._dynamo.mark_dynamic(x, 0)
        assert torch.equal(compiled(x), layer(x))
    # Any guard on M would have made a graph of its own for it.
    (graph,) = graphs
    called = [str(node.target) for node in graph.graph.nodes if "samebits" in str(node.target)]
    assert called == [f"samebits.planned_{name}" for name in ("linear", "fused_add_rms_norm", "rms_norm")]
    assert choice.calls == 8


def test_the_operators_keep_torchs_rules(choice: Choice) -> None:
    """Schema, aliases, and what the compiler is told of the result."""
    normed = torch.ones(K).bfloat16()
    for m in (3, 17):
        for name, given in {
            "planned_linear": (rows(m), WEIGHT, None),
            "planned_rms_norm": (rows(m), normed, 1e-6),
            "planned_fused_add_rms_norm": (rows(m), rows(m), normed, 1e-6),
        }.items():
            operator = getattr(torch.ops.samebits, name).default
            torch.library.opcheck(operator, given, test_utils=("test_schema", "test_faketensor"))
