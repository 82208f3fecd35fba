"""Kernels by family, and where batch invariance costs an engine its time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from profiles.analysis.kernels.families import FAMILIES, OTHER, arm_families, differences, family
from profiles.analysis.schema import ArmFamilies
from profiles.trace.model import Kernel
from profiles.trace.nsight_sqlite import read_sqlite
from support import ROOT
from support.profiler_reports import Launch, Span, profiles, write_report

# As nsys shows them: seen in the report of an H100 (tests/data), or named so in the sources of vLLM 0.26 and torch.
KNOWN = {
    "GEMM": (
        "nvjet_sm90_tst_128x16_64x11_4x1_v_bz_splitK_NNT",
        "void cublasLt::splitKreduce_kernel<(int)32, (int)16, int, float, __nv_bfloat16>(T1)",
        "void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_256x128_nn_align1>(T1::Params)",
        "std::enable_if<!T7, void>::type internal::gemvx::kernel<int, int, __nv_bfloat16>(T13)",
        "matmul_kernel_persistent",
        "_gemm_kernel",
        "bmm_kernel",
        "fused_moe_kernel",
        "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize256x128x8_stage3_warpsize4x2x1_ffma_aligna4_alignc4",
    ),
    "attention": (
        "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<T1>>>(T1::Params)",
        "kernel_unified_attention_2d",
        "kernel_unified_attention_3d",
        "reduce_segments",
        "void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>(T1)",
        "void vllm::rotary_embedding_kernel<c10::BFloat16, (bool)1>(T1)",
        "_fwd_grouped_kernel_stage1",
        "_fwd_kernel_stage2",
    ),
    "normalisation": (
        "void vllm::rms_norm_kernel<c10::BFloat16, (int)8, (int)2>(T1)",
        "void vllm::fused_add_rms_norm_kernel<c10::BFloat16, (int)8>(T1)",
        "_rms_norm_kernel",
        "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0",
        "void at::native::<unnamed>::vectorized_layer_norm_kernel<c10::BFloat16, float, (bool)1>(int)",
    ),
    "activation": (
        "void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel, (bool)1>(T1)",
        "triton_poi_fused_mul_silu_slice_1",
    ),
    "sampling": (
        "_log_softmax_kernel",
        "_topk_log_softmax_kernel",
        "void at::native::<unnamed>::cunn_SoftMaxForward<(int)4, float, float, float>(T4 *, const T2 *, int)",
        "void at::native::reduce_kernel<(int)512, (int)1, at::native::ArgMaxOps<float>>(T3)",
        "void at::native::sbtopk::gatherTopK<int, unsigned int, (int)1, (bool)0>(T1)",
        "_ranks_kernel",
    ),
    "communication": ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(T1)", "void vllm::cross_device_reduce_1stage<T1>(T2)"),
    "copies": (
        "void at::native::vectorized_elementwise_kernel<(int)4, at::native::FillFunctor<int>>(int, T2, T3)",
        "void at::native::<unnamed>::CatArrayBatchedCopy_contig<(unsigned int)1>(T1)",
        "void at::native::<unnamed>::indexSelectSmallIndex<c10::BFloat16, long, unsigned int, (int)2>(T1)",
        "void at::native::vectorized_gather_kernel<(int)16, long>(char *, char *, T2 *, int)",
    ),
    OTHER: (
        "void at::native::vectorized_elementwise_kernel<(int)4, at::native::CUDAFunctor_add<float>>(int)",
        "mystery",
    ),
}


@pytest.mark.parametrize(("wanted", "full_name"), [(name, one) for name, many in KNOWN.items() for one in many])
def test_a_kernels_family(wanted: str, full_name: str) -> None:
    assert family(Kernel(full_name, full_name)) == wanted
    assert wanted in FAMILIES


@pytest.mark.parametrize(
    ("module", "families"),
    [
        ("gemm", {"GEMM"}),
        ("tiles", {"GEMM", "copies"}),
        ("grouped", {"GEMM"}),
        ("attention", {"attention"}),
        ("rows", {"normalisation", "sampling"}),
    ],
)
def test_what_a_plan_puts_into_an_engine_is_not_among_the_others(module: str, families: set[str]) -> None:
    source = (ROOT / "kernels_bench" / "arms" / "samebits" / "triton" / f"{module}.py").read_text(encoding="utf-8")
    names = re.findall(r"^def (_\w+_kernel)\(", source, re.MULTILINE)
    assert names
    assert {family(Kernel(name, name)) for name in names} == families


def test_copies_and_fills_of_memory_are_copies() -> None:
    assert family(Kernel("copy", "copy", "copy")) == family(Kernel("fill", "fill", "fill")) == "copies"


def found(tmp_path: Path, spans: Sequence[Span], launches: Sequence[Launch]) -> tuple[ArmFamilies, ...]:
    return arm_families(read_sqlite(write_report(tmp_path / "a.sqlite", spans, launches, {1: "e2e"})))


TRIALS = [
    Span("trial/baseline/1", 0, 100),
    Span("trial/baseline/2", 200, 300),
    Span("trial/batch-invariant/1", 400, 500),
    Span("warm-up/baseline/-1", 600, 700),
    Span("alone/baseline", 800, 900),
]


def test_only_trials_count_and_arms_are_apart(tmp_path: Path) -> None:
    baseline, invariant = found(
        tmp_path,
        TRIALS,
        [
            Launch(1, 2, [("nvjet", 10, 30), ("flash_fwd", 40, 45)]),
            Launch(201, 202, [("nvjet", 210, 230)]),
            Launch(401, 402, [("matmul_kernel_persistent", 410, 490), ("mystery", 490, 500)]),
            Launch(601, 602, [("nvjet", 610, 699)]),
            Launch(801, 802, [("nvjet", 810, 899)]),
        ],
    )
    assert (baseline.arm, baseline.ranges, baseline.total_ns, baseline.joined) == ("baseline", 2, 45, "launch")
    assert [(one.family, one.time_ns, one.kernels) for one in baseline.families] == [
        ("GEMM", 40, 2),
        ("attention", 5, 1),
    ]
    assert sum(one.share for one in baseline.families) == pytest.approx(1)
    assert invariant.other == ("mystery",)
    apart = differences([baseline, invariant])
    # A trial of the baseline takes 20 ns of GEMM, the arm's 80.
    assert [(one.family, one.difference_ns) for one in apart] == [("GEMM", 60), (OTHER, 10), ("attention", -2)]
    assert {(one.arm, one.baseline) for one in apart} == {("batch-invariant", "baseline")}


def test_an_engine_with_processes_of_its_own_is_joined_by_time(tmp_path: Path) -> None:
    (baseline,) = found(
        tmp_path,
        [Span("trial/baseline/1", 0, 100)],
        [Launch(50, 51, [("nvjet", 60, 80), ("nvjet", 99, 120), ("late", 101, 130)], pid=9)],
    )
    assert (baseline.joined, baseline.total_ns) == ("time", 41)


def test_prefill_and_decode_are_apart_where_ranges_tell_them(tmp_path: Path) -> None:
    spans = [
        Span("trial/baseline/1", 0, 100), Span("prefill/baseline/1", 0, 50), Span("decode/baseline/1", 50, 100),
        Span("trial/x/1", 200, 300), Span("decode/x/1", 250, 300),
    ]  # fmt: skip
    launches = [Launch(at, at + 1, [("nvjet", at + 2, at + 2 + lasts)]) for at, lasts in ((1, 7), (51, 3), (251, 8))]
    arms = found(tmp_path, spans, launches)
    assert {(one.arm, one.phase): one.total_ns for one in arms} == {
        ("baseline", "trial"): 10, ("baseline", "prefill"): 7, ("baseline", "decode"): 3, ("x", "trial"): 8,
        ("x", "decode"): 8,
    }  # fmt: skip
    assert {(one.phase, one.difference_ns) for one in differences(arms)} == {("decode", 5), ("trial", -2)}


def test_a_report_without_an_engine_has_no_families(tmp_path: Path) -> None:
    assert found(tmp_path, [Span("r", 0, 10)], []) == ()
    assert found(tmp_path, [Span("start/baseline", 0, 10)], []) == ()
    assert differences(()) == ()


def test_families_in_words(tmp_path: Path) -> None:
    launches = [Launch(1, 2, [("nvjet", 10, 2_000_010)]), Launch(401, 402, [("mystery", 5_000_000, 6_000_000)])]
    write_report(tmp_path / "a.sqlite", TRIALS, launches, {1: "e2e"})
    said = profiles("analyze", tmp_path / "a.sqlite").stdout
    assert "baseline, trial: 2.000 ms on the GPU in 1 ranges" in said
    assert "2.000 ms 100.0%         1  GEMM" in said
    assert "    other: mystery" in said
    assert "-2.000 ms  GEMM: batch-invariant against baseline" in said
