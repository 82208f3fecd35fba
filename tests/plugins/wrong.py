"""An arm whose kernel returns, and is wrong or variant; K chooses how."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernels_bench.arms import Arm
from kernels_bench.arms.samebits.cpu.rows import rms_norm

KEPT: dict[torch.Size, torch.Tensor] = {}


def write_into_rows(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    result = rms_norm(x, weight, eps)
    x.add_(1)
    return result


def write_into_weights(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    result = rms_norm(x, weight, eps)
    weight[-1] += 1
    return result


def return_nan(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    result = rms_norm(x, weight, eps)
    result[-1, -1] = float("nan")
    return result


def leave_unwritten(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    result = torch.empty_like(x)
    result[:, :-1] = rms_norm(x, weight, eps)[:, :-1]
    return result


def return_stale(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return KEPT.setdefault(x.shape, rms_norm(x, weight, eps))


def depend_on_batch(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    result = rms_norm(x, weight, eps)
    if len(x) == 4:
        result.view(torch.int32)[2, 5] ^= 1
    return result


FAULTS: dict[int, Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]] = {
    64: write_into_rows,
    65: write_into_weights,
    66: return_nan,
    67: leave_unwritten,
    68: return_stale,
    69: depend_on_batch,
    70: rms_norm,
}


def faulty(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return FAULTS[x.shape[1]](x, weight, eps)


ARM = Arm(name="wrong", kernels=lambda: {"rms_norm": faulty}, summary="wrong as K says")
