"""The kernels that a plan names, as functions of this process, whose settings are an engine's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

from kernels_bench.arms.base import Arm, Kernel, arms
from kernels_bench.arms.pytorch import cublas_restricted
from kernels_bench.arms.pytorch.calls import gemm
from kernels_bench.arms.vllm.batch_invariant import module_kernels as vllm_kernels
from kernels_bench.console.errors import UsageError
from kernels_bench.records.cases import Case, Device, label_of, process_of
from kernels_bench.verification.subject.kernel_under_test import bind

DEFAULT_ARM = "torch"
NORMS = ("rms_norm", "fused_add_rms_norm")
RESTRICTED = cublas_restricted.ARM.name

ENGINE_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "cuda": {**cublas_restricted.ARM.environment, "VLLM_BATCH_INVARIANT": "1"},
    "cpu": {"VLLM_BATCH_INVARIANT": "0"},
}
"""What an engine's process has set that an arm's own process might have set otherwise; vLLM's batch-invariant mode does
it itself on SM90 and newer."""


def why_not(name: str, operator: str, device: Device) -> str:
    """Why a kernel that a plan names cannot run in an engine's process, as a sentence's end; empty where it can."""
    arm = _arm(name)
    if arm is None:
        return "this samebits has no such arm"
    label = label_of(name)
    if label and label not in arm.candidates(device):
        return f"this samebits has no {arm.name} of that label"
    return _unfit(arm, operator, device) or _other_setting(arm, device) or arm.unavailable(device) or ""


def _unfit(arm: Arm, operator: str, device: Device) -> str:
    if arm.name == DEFAULT_ARM and device.type == "cuda" and operator in NORMS:
        return "batch-invariant mode puts vLLM's kernels in the places of some that torch's norms are made of"
    if arm.name == DEFAULT_ARM and device.type == "cuda":
        return f"it needs cuBLAS's workspace, which batch-invariant mode takes away: it would be {RESTRICTED}"
    if arm.name == RESTRICTED and device.below_sm90:
        return "below SM90 vLLM puts Triton kernels in the place of cuBLASLt's"
    if arm.name.startswith("vllm") and operator == "fused_add_rms_norm":
        return "it writes over what it is given, which other operators may read"
    return ""


def _other_setting(arm: Arm, device: Device) -> str:
    settings = ENGINE_SETTINGS.get(device.type, {})
    for variable, value in arm.environment.items():
        if variable in settings and settings[variable] != value:
            return f"it needs a process with {variable}={value}, and the engine's has {variable}={settings[variable]}"
    return ""


def kernel_of(name: str, case: Case, device: Device) -> Kernel:
    """The kernel of the name ``ARM`` or ``ARM[LABEL]`` for a case.

    Raises:
        UsageError: there is none, or the process has not the settings that it needs.
        Unsupported: the arm has no kernel for the case.
    """
    arm = _arm(name)
    if arm is None:
        raise UsageError(f"{name}: this samebits has no such arm")
    _refuse_other_settings(arm)
    return bind(case, _kernels(arm.name, label_of(name), device))


@cache
def _kernels(arm: str, label: str, device: Device) -> Mapping[str, Kernel]:
    """An arm's kernels, or those of one of its candidates, by operator; loaded once."""
    if label:
        return arms()[arm].candidates(device)[label].kernels()
    # These two arms make settings for all of their process when they are loaded; here they are the engine's to make.
    if arm == RESTRICTED:
        return gemm.KERNELS
    return vllm_kernels() if arm == "vllm" else arms()[arm].kernels()


def _arm(name: str) -> Arm | None:
    return arms().get(process_of(name))


def _refuse_other_settings(arm: Arm) -> None:
    """An engine of another version might set something else than is known here: then its kernels are others."""
    if arm.name != RESTRICTED:
        return
    for variable, value in arm.environment.items():
        if os.environ.get(variable) != value:
            now = os.environ.get(variable, "nothing")
            raise UsageError(f"{arm.name} needs {variable}={value}, and the engine has set {now}")
