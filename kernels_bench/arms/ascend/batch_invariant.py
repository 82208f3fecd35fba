"""``ascend``: the calls of ``ascend-default`` once vllm-ascend has put its batch-invariant kernels in their places.

Where the AscendC package ``batch_invariant_ops`` is installed these are its ``npu_*_batch_invariant`` kernels, and
those in Triton for what it lacks; else those in Triton alone, and then norms and attention stay as they are.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

from kernels_bench.arms.ascend import calls, source
from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device, claimed
from kernels_bench.relations import relations

ENVIRONMENT = {"VLLM_BATCH_INVARIANT": "1", "HCCL_DETERMINISTIC": "strict", "LCCL_DETERMINISTIC": "1"}
"""What vllm-ascend's mode sets, and what turns it on."""
ASCENDC = "batch_invariant_ops"
REPLACED_BY_ASCENDC = ("fused_add_rms_norm", *calls.ATTENTION)
"""What the mode leaves at its default kernels where the AscendC package is absent."""


def kernels() -> Mapping[str, Kernel]:
    """The calls, after what vllm-ascend's workers do at start, but for what needs an engine's configuration."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    importlib.import_module("vllm_ascend.batch_invariant").enable_batch_invariant_mode()
    left = () if has_ascendc() else REPLACED_BY_ASCENDC
    return {name: kernel for name, kernel in calls.kernels().items() if name in OPERATORS and name not in left}


def has_ascendc() -> bool:
    """Whether the AscendC package is installed."""
    return importlib.util.find_spec(ASCENDC) is not None


def unavailable(device: Device) -> str | None:
    """Without an NPU, torch_npu or vllm-ascend."""
    if (reason := calls.unavailable(device)) is not None:
        return reason
    if importlib.util.find_spec("vllm_ascend") is None:
        return "vllm-ascend is not installed: see docs/ascend.md"
    return None


def provenance() -> str:
    """Which vllm-ascend, and which of its two kinds of kernels."""
    kinds = f"AscendC ({ASCENDC}) and Triton" if has_ascendc() else f"Triton alone, without {ASCENDC}"
    return f"vllm-ascend {source.version()}, {kinds}; {calls.provenance()}"


OPERATORS = tuple(name for name in calls.OPERATORS if name not in ("qk_norm", "silu_and_mul"))

ARM = Arm(
    name="ascend",
    kernels=kernels,
    claims=tuple(name for name in relations() if claimed(True, name) and name != "layout"),
    summary="the batch-invariant kernels of the installed vllm-ascend on an NPU (never run by us)",
    environment=ENVIRONMENT,
    unavailable=unavailable,
    provenance=provenance,
    compiles=True,
    offers=OPERATORS,
)
