"""An arm whose kernel loses the GPU, or its memory; K chooses the way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from kernels_bench.arms import Arm

FAR_AWAY = 1 << 45


@triton.jit
def _write_far_away(target, distance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    tl.store(target + distance, 1.0)


def illegal_access(x: torch.Tensor) -> None:
    _write_far_away[(1,)](x, FAR_AWAY)


def device_assert(x: torch.Tensor) -> None:
    x[torch.full((1,), 1 << 20, device=x.device)]


def out_of_memory(x: torch.Tensor) -> None:
    torch.empty(1 << 40, dtype=torch.uint8, device=x.device)


FAULTS = {65: illegal_access, 67: device_assert, 69: out_of_memory}


def faulty(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    if x.shape[1] in FAULTS:
        FAULTS[x.shape[1]](x)
    return F.rms_norm(x, (x.shape[1],), weight, eps)


ARM = Arm(name="failing_gpu", kernels=lambda: {"rms_norm": faulty}, summary="fails as K says")
