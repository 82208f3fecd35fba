"""Whether the engines of all arms may be up together: what memory is free, and what they take of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from math import floor
from pathlib import Path
from typing import NamedTuple

from e2e.workload.arms import KV_CACHE_GIB, MOST_TOGETHER, unsupported
from e2e.workload.options import ArmName, Mode, Options
from kernels_bench.records.cases import Device
from profiles.instruments.open_device import open_device
from profiles.instruments.telemetry import TelemetryUnavailable

GIB = 1 << 30
MOST_OF_FREE = 0.8
"""Share of the free main memory that engines may be expected to take; what else runs may need more meanwhile."""

# An engine with SmolLM2 and 2 GiB of cache takes 3.3 GiB on a CPU, of which its weights are 0.26.
_BESIDE: Mapping[Mode, int] = {"offline": 2 * GIB, "online": 4 * GIB}
"""Main memory of an engine beside weights and cache: the libraries, activations, and a server's own processes."""
_BESIDE_ON_A_GPU = 4 * GIB
"""Main memory of an engine for a GPU on top of that: CUDA's libraries, and buffers that the GPU reads."""
_CONTEXT = GIB
"""GPU memory of an engine beside its share: a CUDA context, and graphs."""

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


class Free(NamedTuple):
    """Bytes that nobody uses; None where that is not known.

    Attributes:
        host: of main memory, as far as this process may have it.
        gpu: of the GPU's.
        gpu_total: that the GPU has.
    """

    host: int | None
    gpu: int | None = None
    gpu_total: int | None = None


def free_memory(device: Device) -> Free:
    """What is free now, on the machine and on the device."""
    if device.type == "cpu":
        return Free(host_memory())
    try:
        with open_device(device.uuid) as telemetry:
            return Free(host_memory(), *telemetry.memory())
    except TelemetryUnavailable:
        return Free(host_memory())


def host_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of main memory that this process may still have: the machine's, or what its control groups leave of it.

    Args:
        proc: where the kernel tells of processes and memory.
        groups: where it tells of control groups.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    return min([available, *_left_by_groups(proc, groups)])


_FIRST_VERSION = ("memory.limit_in_bytes", "memory.usage_in_bytes")
_SECOND_VERSION = ("memory.max", "memory.current")


def _left_by_groups(proc: Path, groups: Path) -> Iterator[int]:
    """What each control group leaves that this process is in, of those that have a limit."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # A hierarchy without controllers is the second version's, whose files have other names.
        top, names = (groups / "memory", _FIRST_VERSION) if controllers else (groups, _SECOND_VERSION)
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder == top or folder.is_relative_to(top):
                yield from _left_by(folder, *names)


def _left_by(folder: Path, limit: str, used: str) -> Iterator[int]:
    try:
        most = int((folder / limit).read_text(encoding="ascii"))  # "max" where there is none
        now = int((folder / used).read_text(encoding="ascii"))
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = int(stat.get("inactive_file", stat.get("total_inactive_file", "0")))
    except (OSError, ValueError):
        return
    yield max(0, most - now + cached)


def why_apart(options: Options, arms: Sequence[ArmName], device: Device, model: str, free: Free) -> str:
    """Why the arms' engines are not to be up together; nothing where it is known that there is memory for all.

    Args:
        options: what each engine is given.
        arms: those of the run.
        device: what they run on.
        model: path or name that vLLM takes.
        free: what memory is free before the first of them is up.
    """
    engines = sum(arm != "server" and unsupported(arm, device) is None for arm in arms)
    if device.type != "cpu" and (reason := _gpu_lacks(options, engines, free)):
        return reason
    each = _host_bytes(options, device, model)
    if each is None:
        return f"how much memory {engines} engines take is not known, since the size of {model}'s weights is not"
    if free.host is None:
        return "how much memory is free is not known"
    if engines * each > MOST_OF_FREE * free.host:
        return f"{engines} engines may take {_gib(engines * each)} of memory, and {_gib(free.host)} are free"
    return ""


def _gpu_lacks(options: Options, engines: int, free: Free) -> str:
    share = options.gpu_memory_utilization
    if engines * share > MOST_TOGETHER:
        most = floor(100 * MOST_TOGETHER / engines) / 100
        return f"{engines} engines at --gpu-memory-utilization {share:g} do not fit together; at {most:g} they do"
    if options.tp_size > 1:
        return "whether every one of several GPUs has room for all engines is not known"
    if free.gpu is None or free.gpu_total is None:
        return "how much of the GPU's memory is free is not known"
    needed = engines * (int(share * free.gpu_total) + _CONTEXT)
    if needed > free.gpu:
        return f"{engines} engines take {_gib(needed)} of the GPU's memory, and {_gib(free.gpu)} are free"
    return ""


def _host_bytes(options: Options, device: Device, model: str) -> int | None:
    """Main memory that an engine may take; None where that is not known."""
    beside = _BESIDE[options.mode]
    if device.type != "cpu":  # weights pass through main memory, in pages that the kernel takes back
        return beside + _BESIDE_ON_A_GPU
    weights, cache = _weights_bytes(model), _cache_bytes()
    # Weights are read, and packed as the processor's products want them: they may be there twice.
    return None if weights is None or cache is None else 2 * weights + cache + beside


def _weights_bytes(model: str) -> int | None:
    try:
        sizes = [file.stat().st_size for file in Path(model).iterdir() if file.suffix in _WEIGHTS]
    except (OSError, ValueError):  # a name that vLLM finds elsewhere
        return None
    return sum(sizes) or None


def _cache_bytes() -> int | None:
    """Of keys and values on a CPU; None where vLLM is to choose, or the user said what it does not take."""
    text = os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(KV_CACHE_GIB))
    return int(text) * GIB if text.isdecimal() and int(text) else None


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
