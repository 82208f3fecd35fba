"""NCCL as it comes, and as engines pin it.

A process reads the variables once, when its communicator is made.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernels_bench.arms.base import Arm
from kernels_bench.arms.ranks.kernels import COLLECTIVES, OPERATORS, library_kernels
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device

VLLM: Mapping[str, str] = {
    "NCCL_LAUNCH_MODE": "GROUP",
    "NCCL_COLLNET_ENABLE": "0",
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_P2P_NET_DISABLE": "1",
    "NCCL_MIN_NCHANNELS": "1",
    "NCCL_MAX_NCHANNELS": "1",
    "NCCL_PROTO": "Simple",
    "NCCL_ALGO": "allreduce:tree",
    "NCCL_NTHREADS": "1",
    "NCCL_SOCKET_NTHREADS": "1",
}
"""What vLLM 0.26 sets in its batch-invariant mode (``override_envs_for_invariance``)."""

VLLM_NEWER: Mapping[str, str] = {**VLLM, "NCCL_ALGO": "ring,tree;allreduce:tree"}
"""What 0.32 and 0.33 set: NCCL from 2.31 on has no algorithm left for a collective that is not named."""

SGLANG: Mapping[str, str] = {
    "NCCL_ALGO": "allreduce:tree",
    "NCCL_MIN_NCHANNELS": "8",
    "NCCL_MAX_NCHANNELS": "8",
}
"""What SGLang sets with ``--enable-deterministic-inference``: with the tree alone, channels followed the size."""


def unavailable(device: Device) -> str | None:
    """Needs GPUs."""
    return None if device.type == "cuda" else "NCCL needs CUDA GPUs, one a rank"


def provenance() -> str:
    """NCCL's version."""
    version = torch.cuda.nccl.version()
    return f"torch {torch.__version__}, NCCL {'.'.join(map(str, version))}"


def _arm(name: str, summary: str, environment: Mapping[str, str], claims: bool) -> Arm:
    return Arm(
        name=name,
        kernels=library_kernels,
        claims=claims,
        summary=summary,
        environment=environment,
        unavailable=unavailable,
        provenance=provenance,
        offers=COLLECTIVES if environment else OPERATORS,
        default_for=() if environment else OPERATORS,
    )


ARMS = (
    _arm("nccl", "torch.distributed's collectives over NCCL, as it chooses", {}, claims=False),
    _arm("nccl-vllm", "NCCL with vLLM 0.26's pins: a tree, one channel, one protocol", VLLM, claims=True),
    _arm("nccl-vllm-0.33", "NCCL with vLLM 0.33's pins: a tree, one channel, one protocol", VLLM_NEWER, claims=True),
    _arm("nccl-sglang", "NCCL with SGLang's pins: a tree, eight channels", SGLANG, claims=True),
)
