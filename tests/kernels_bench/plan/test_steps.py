"""What a model's linears cost together in one decode step, and cases by model."""

import pytest

from kernels_bench.operators.model_shapes import DENSE, calls_of_a_step
from kernels_bench.plan.file import read_plan
from kernels_bench.plan.record import CasePlan, Plan
from kernels_bench.plan.weights import steps_of
from kernels_bench.plan.words import by_model, in_words, step_lines
from support import ROOT

LAYERS = 36


@pytest.fixture(scope="module")
def kept() -> Plan:
    """Of Qwen3-8B's five linears, and of DeepSeek-V3's router."""
    return read_plan(ROOT / "profiles" / "plans" / "nvidia-h200-qwen3-8b" / "plan.json")


def at(plan: Plan, name: str, m: int) -> tuple[float, float]:
    (case,) = (case for case in plan.cases if case.shape.label == f"qwen3-8b/{name}")
    (price,) = (price for price in case.prices if price.m == m and price.state == "cold")
    return price.planned_us, price.default_us


def test_a_step_calls_each_projection_once_a_layer_and_the_head_once(kept: Plan) -> None:
    names = {"qkv_proj": LAYERS, "o_proj": LAYERS, "gate_up_proj": LAYERS, "down_proj": LAYERS, "lm_head": 1}
    step, router = steps_of(kept.cases)
    for m in (1, 16, 64):
        planned, default = (sum(calls * at(kept, name, m)[i] for name, calls in names.items()) for i in (0, 1))
        assert step.ratios[m] == pytest.approx(planned / default)
    assert (step.model, step.linears, step.norms) == ("qwen3-8b", 4 * LAYERS + 1, 0)
    assert not router.ratios
    told, *_ = step_lines(kept)
    assert told == (
        "one decode step of qwen3-8b in bf16 at M = 1, 16, 64: 0.96, 0.97, 0.97 times torch's time over 145 linears, "
        "cold cache"
    )


def test_a_step_that_lacks_a_linear_is_not_said(kept: Plan) -> None:
    without = kept.model_copy(update={"cases": tuple(c for c in kept.cases if c.shape.label != "qwen3-8b/lm_head")})
    told = [line for line in in_words(without) if line.startswith("one decode step of qwen3-8b")]
    assert told == ["one decode step of qwen3-8b in bf16: not said, since the plan has no price of qwen3-8b/lm_head"]


def test_a_linear_that_no_decode_step_calls_tells_of_none(kept: Plan) -> None:
    first = kept.cases[0]
    absorbed = first.shape.model_copy(update={"label": "deepseek-v3/kv_b_proj", "n": 32768, "k": 512})
    assert not [*steps_of([first.model_copy(update={"shape": absorbed})])]


def test_norms_count_where_the_plan_has_both(kept: Plan) -> None:
    def norm(case: CasePlan, operator: str) -> CasePlan:
        shape = case.shape.model_copy(update={"label": "qwen3-8b/hidden", "n": None, "k": 4096})
        return case.model_copy(update={"operator": operator, "shape": shape})

    one, two = (norm(kept.cases[0], operator) for operator in ("rms_norm", "fused_add_rms_norm"))
    step, *_ = steps_of([*kept.cases, one, two])
    assert step.norms == 1 + 2 * LAYERS
    step, *_ = steps_of([*kept.cases, two])
    assert step.norms == 0


def test_a_shape_that_two_models_share_counts_for_both(kept: Plan) -> None:
    calls = {model: {call.shape.token: call.times for call in of} for model, of in calls_of_a_step().items()}
    shared = {*calls["qwen3-8b"]} & {*calls["llama-3.1-8b"]}
    assert "4096x4096" in shared
    # Under the other model's name, as a plan of both has it.
    cases = [
        case.model_copy(update={"shape": case.shape.model_copy(update={"label": "llama-3.1-8b/shared"})})
        if case.shape.token in shared
        else case
        for case in kept.cases
    ]
    assert next(step for step in steps_of(cases) if step.model == "qwen3-8b").ratios


def test_cases_of_one_model_follow_each_other(kept: Plan) -> None:
    first, *others = kept.cases
    mixed = [first, *reversed(others)]
    models = [case.shape.model for case in by_model([*mixed[::2], *mixed[1::2]])]
    assert models == sorted(models, key=models.index)
    assert {model.name for model in DENSE} <= {*calls_of_a_step()}
