"""``ascend-default``: what vllm-ascend's layers call without its batch-invariant mode."""

from __future__ import annotations

from kernels_bench.arms.ascend import calls
from kernels_bench.arms.base import Arm

ARM = Arm(
    name="ascend-default",
    kernels=calls.kernels,
    claims=False,
    summary="torch_npu's kernels as vllm-ascend calls them by default (never run by us)",
    environment={"VLLM_BATCH_INVARIANT": "0"},
    unavailable=calls.unavailable,
    provenance=calls.provenance,
    offers=calls.OPERATORS,
    default_for=calls.OF_TORCH_NPU,
)
