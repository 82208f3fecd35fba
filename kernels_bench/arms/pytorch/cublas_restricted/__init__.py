"""``cublas-restricted``: cuBLASLt with the tiny workspace on which vLLM's batch-invariant mode relies.

On SM90 and newer vLLM leaves ``mm``, ``addmm``, ``matmul`` and ``linear`` to cuBLASLt and takes away the
workspace that split-K needs: "the only source of batch variance is split-k" (vLLM 0.26,
``vllm/model_executor/layers/batch_invariant.py``).  This arm is that claim, tested.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial

from kernels_bench.arms.base import Arm, Candidate, Kernel
from kernels_bench.arms.pytorch.calls.gemm import KERNELS
from kernels_bench.arms.pytorch.cublas_restricted.algorithms import ALGORITHMS, Algorithm
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device
from profiles.installing import pip_install

_BINDINGS = "nvmath-python>=1.0,<2"

OF_CANDIDATES = ("mm", "linear", "linear_bias", "addmm")
"""Operators of which there are candidates."""


def kernels() -> Mapping[str, Kernel]:
    """torch's GEMMs, after the settings that vLLM makes beside the environment."""
    torch.backends.cuda.preferred_blas_library("cublaslt")
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    return KERNELS


def unavailable(device: Device) -> str | None:
    """cuBLAS is CUDA's."""
    return None if device.type == "cuda" else "cuBLASLt needs a CUDA GPU"


def caveat(device: Device) -> str:
    """Below SM90 vLLM does not rely on this."""
    return "below SM90 vLLM replaces these GEMMs by Triton kernels instead" if device.below_sm90 else ""


def candidates(device: Device) -> Mapping[str, Candidate]:
    """cuBLASLt's algorithms one by one, where nvmath-python is installed, whose bindings call it."""
    if device.type != "cuda" or not _has_bindings():
        return {}
    return {one.label: Candidate(partial(_of, one), OF_CANDIDATES, order=one.order) for one in ALGORITHMS}


def lacking(device: Device) -> str:
    """Which candidates there are not, for want of the bindings."""
    if device.type != "cuda" or _has_bindings():
        return ""
    return f"without cuBLASLt's algorithms one by one, for which nvmath-python is missing: {pip_install(_BINDINGS)}"


def _has_bindings() -> bool:
    return importlib.util.find_spec("nvmath") is not None


def _of(algorithm: Algorithm) -> Mapping[str, Kernel]:
    from kernels_bench.arms.pytorch.cublas_restricted import products  # which loads the bindings

    return products.kernels(algorithm)


ARM = Arm(
    name="cublas-restricted",
    kernels=kernels,
    claims=True,
    summary="cuBLASLt without the workspace for split-K, as vLLM's batch-invariant mode uses it on SM90",
    environment={"CUBLAS_WORKSPACE_CONFIG": ":16:8", "CUBLASLT_WORKSPACE_SIZE": "1"},
    unavailable=unavailable,
    caveat=caveat,
    provenance=lambda: f"torch {torch.__version__}, CUDA {torch.version.cuda}",
    offers=tuple(KERNELS),
    candidates=candidates,
    lacking=lacking,
)
