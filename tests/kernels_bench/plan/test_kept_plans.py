"""What the pages say of the plans that are kept is what these say."""

from __future__ import annotations

from collections.abc import Iterator

from kernels_bench.plan.file import read_plan
from kernels_bench.plan.record import CasePlan
from kernels_bench.report.summary.speed import geometric_mean
from support import ROOT

PLANS = ROOT / "profiles" / "plans"
ALGORITHMS = PLANS / "nvidia-h200-cublaslt-algorithms"
FIVE_MODELS = (
    ALGORITHMS / "plan-qwen3-8b-llama-3.1-8b-qwen2.5-7b.json",
    ALGORITHMS / "plan-deepseek-v3-qwen3-1.7b.json",
    PLANS / "nvidia-h200-qwen2.5-7b-cublaslt-in-vllm" / "plan.json",
    ALGORITHMS / "plan-qwen3-1.7b.json",
)
PROOFS = [PLANS / f"nvidia-h200-deepseek-v3-{name}" / "plan.json" for name in ("router", "proven")]


def linears() -> Iterator[CasePlan]:
    for file in FIVE_MODELS:
        yield from read_plan(file).cases


def test_five_models_linears_cost_what_the_pages_say() -> None:
    first: dict[str, CasePlan] = {}
    for one in linears():
        first.setdefault(one.shape.label, one)
    means = [one.mean for one in first.values() if one.mean is not None]
    of_few = [one for file in PROOFS for one in read_plan(file).cases]
    everything = [*linears(), *of_few]
    proven = {one.shape.label for one in everything if one.chosen is not None and one.chosen.basis == "proven"}
    assert (len(first), len(means)) == (28, 28)
    price = f"**{geometric_mean(means):.2f} times torch's time, at most {max(means):.2f}"
    plan = " ".join((ROOT / "docs" / "plan.md").read_text(encoding="utf-8").split())
    proof = f"with the same bits in 28 and one order of addition proven in {len(proven & first.keys())}**"
    assert f"{price}, {proof}" in plan
    two = sorted(f"{one.mean:.2f}" for one in of_few if one.shape.label != "deepseek-v3/router")
    assert f"[at {two[0]} and {two[1]} times torch's time]" in plan
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"28 linears take [{geometric_mean(means):.2f}× torch's time]" in readme


def test_attention_takes_what_the_page_says() -> None:
    decode, prefill = (
        read_plan(PLANS / "nvidia-h200-attention" / f"plan-{name}.json") for name in ("decode", "prefill")
    )
    of = {one.shape.label: one for one in decode.cases}
    qwen3, llama = of["qwen3-8b/attention"], of["llama-3.2-1b/attention"]
    page = " ".join((ROOT / "docs" / "plan.md").read_text(encoding="utf-8").split())
    long, short = (
        next(p.planned_us / p.default_us for p in qwen3.prices if (p.m, p.length, p.state) == (1, length, "cold"))
        for length in (32768, 2048)
    )
    assert long <= 1.03
    usual = f"take {qwen3.mean:.2f} times the time of FlashAttention 3's own choice at Qwen3-8B's heads"
    assert f"{usual} ({long:.2f} for one sequence of 32,768 tokens, {short:.2f} for one of 2,048)" in page
    assert f" and {llama.mean:.2f} times at Llama-3.2-1B's" in page
    assert {f"{one.mean:.2f}" for one in prefill.cases} == {"0.99"}
    assert "prefills at head dimension 64 by FlashAttention 3 with one tile 0.99 times" in page
    assert {stretch.arm for one in prefill.cases for stretch in one.stretches} == {"flash-attn3[1splits-1tile]"}


def test_unaligned_shapes_and_fp32_cost_what_the_page_says() -> None:
    page = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    unaligned, models = (
        read_plan(PLANS / f"nvidia-h200-{name}" / "plan.json").cases for name in ("unaligned", "qwen3-8b-fp32")
    )
    rows = {
        "three unaligned shapes in bf16": [one for one in unaligned if str(one.precision) == "bf16"],
        "the same in fp32": [one for one in unaligned if str(one.precision) == "fp32"],
        "Qwen3-8B's four projections in fp32": [one for one in models if one.shape.label.startswith("qwen3-8b/")],
    }
    for name, cases in rows.items():
        means = sorted(one.mean for one in cases if one.mean is not None)
        assert f"| {name} | {geometric_mean(means):.2f} ({means[0]:.2f} to {means[-1]:.2f}) |" in page
        assert [one.chosen is not None and one.chosen.basis for one in cases] == ["proven"] * len(cases)
