"""``gloo``: torch.distributed on CPUs.  It claims nothing: its ring starts each part of a message at another rank."""

from __future__ import annotations

from kernels_bench.arms.base import Arm
from kernels_bench.arms.ranks.kernels import OPERATORS, library_kernels
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device


def unavailable(device: Device) -> str | None:
    """On GPUs it is no arm of anybody's."""
    return None if device.type == "cpu" else "gloo adds on CPUs: on GPUs the arm is nccl"


ARM = Arm(
    name="gloo",
    kernels=library_kernels,
    claims=False,
    summary="torch.distributed's collectives over gloo, one process a rank",
    unavailable=unavailable,
    provenance=lambda: f"torch {torch.__version__}",
    offers=OPERATORS,
    default_for=OPERATORS,
)
