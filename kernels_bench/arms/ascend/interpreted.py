"""``ascend-triton``: vllm-ascend's Triton kernels, run by Triton's interpreter on a CPU.

Their sources run as they are.  Only the query of the number of cores, which nothing but an NPU can answer, is answered
here: by the 40 vector cores of an Atlas A2.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kernels_bench.arms.ascend import source
from kernels_bench.arms.base import Arm, Kernel, Unsupported
from kernels_bench.device.lazy_torch import torch
from kernels_bench.device.triton_interpreter import ROWS_ALIKE
from kernels_bench.records.cases import Device
from profiles.installing import pip_install

VECTOR_CORES = 40
OPERATORS = (*("mm", "addmm", "bmm", "bmm_heads", "linear", "linear_bias", "rms_norm", "qk_norm", "softmax", "mean"),)
_NO_POWER_OF_TWO = "must be a power of 2"


def kernels() -> Mapping[str, Kernel]:
    """vllm-ascend's own functions."""
    answer_for_cores()
    matmul, norm, softmax = map(source.kernel_file, ("matmul", "rmsnorm", "softmax"))
    return {
        "mm": matmul.mm_batch_invariant,
        "addmm": matmul.addmm_batch_invariant,
        "bmm": _bmm,
        "bmm_heads": _bmm,
        "linear": _linear,
        "linear_bias": _linear,
        "rms_norm": norm.rms_norm_batch_invariant,
        "qk_norm": norm.rms_norm_batch_invariant,
        "softmax": lambda x: softmax.softmax_batch_invariant(x, -1),
        "mean": _mean,
    }


def answer_for_cores() -> None:
    """Answer ``torch.npu.current_device`` and Triton's query of that device's cores, in a process without an NPU."""
    import torch  # itself: an attribute of what stands for it would not be seen there
    import triton

    def properties(device: int) -> dict[str, int]:
        return {"num_vectorcore": VECTOR_CORES, "num_aicore": VECTOR_CORES // 2}

    triton.runtime.driver.set_active(SimpleNamespace(utils=SimpleNamespace(get_device_properties=properties)))
    vars(torch).setdefault("npu", SimpleNamespace(current_device=lambda: 0))


def _bmm(a: torch.Tensor, b: torch.Tensor) -> Any:
    return source.kernel_file("matmul").bmm_batch_invariant(a, b)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
    """Its tile follows M and the number of cores, and is seldom a power of two, as plain Triton wants it.

    Raises:
        Unsupported: for what the interpreter, not the kernel, cannot do.
    """
    if x.dtype is torch.bfloat16:
        raise Unsupported("Triton's interpreter multiplies the raw bits of bf16, which this kernel hands to tl.dot")
    try:
        return source.kernel_file("matmul").linear_batch_invariant(x, weight, bias)
    except Exception as error:
        if _NO_POWER_OF_TWO not in str(error):
            raise
        raise Unsupported(
            f"its tile follows M (here {len(x)}), and this Triton takes powers of two only: see docs/ascend.md"
        ) from None


def _mean(x: torch.Tensor) -> Any:
    """Of the function below ``mean_batch_invariant``, which gives fp16 whatever its input is.

    Raises:
        Unsupported: for what the interpreter, not the kernel, gets wrong.
    """
    if x.dtype is torch.bfloat16 and not _is_of_ascend():
        raise Unsupported("plain Triton's interpreter adds bf16 as integers, which this kernel hands to tl.sum")
    return source.kernel_file("mean").mean_dim(x, -1, dtype=None)


def _is_of_ascend() -> bool:
    """Whether Triton here is triton-ascend, which is installed under Triton's own name."""
    try:
        return bool(importlib.metadata.version("triton-ascend"))
    except importlib.metadata.PackageNotFoundError:
        return False


def unavailable(device: Device) -> str | None:
    """On anything but a CPU, or without the source or Triton."""
    if device.type != "cpu":
        return "it is vllm-ascend's Triton kernels under Triton's interpreter, for machines without an accelerator"
    if importlib.util.find_spec("triton") is None:
        return f"Triton is not installed: {pip_install('triton')}"
    return source.missing()


def provenance() -> str:
    """Which vllm-ascend, and which Triton runs it."""
    name = "triton-ascend" if _is_of_ascend() else "triton"
    return f"vllm-ascend {source.version()}: {source.FOLDER}; interpreted by {name} {importlib.metadata.version(name)}"


ARM = Arm(
    name="ascend-triton",
    kernels=kernels,
    summary="vllm-ascend's batch-invariant Triton kernels, run by Triton's interpreter on a CPU",
    environment={"TRITON_INTERPRET": "1", **ROWS_ALIKE},
    unavailable=unavailable,
    caveat=lambda device: (
        "Triton's interpreter runs these kernels: between tiles they add in their own order, within one NumPy does"
        if device.type == "cpu"
        else ""
    ),
    provenance=provenance,
    offers=OPERATORS,
    brief=OPERATORS,
)
