"""Claims batch invariance, and splits K in two where there are fewer than eight rows."""

from __future__ import annotations

import torch

from kernels_bench.arms import Arm


def mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Adds in one fixed order from eight rows on, whatever torch's own product does."""
    total = torch.zeros(len(a), b.shape[1])
    for places in torch.arange(a.shape[1]).chunk(2 if len(a) < 8 else 1):
        part = torch.zeros_like(total)
        for place in places.tolist():
            part = part + a[:, place, None].float() * b[place].float()
        total = total + part
    return total.to(a.dtype)


ARM = Arm(name="split-below-8", kernels=lambda: {"mm": mm})
