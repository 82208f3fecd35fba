"""Kernels for few rows: two for at most 96, of which one has other bits at M=5, and one for a single row."""

from __future__ import annotations

import torch

from kernels_bench import Operator
from kernels_bench.arms import Arm, Kernel, Unsupported

scale = Operator.define(
    "scale", rows={"x": ("d",)}, shapes={"few": {"d": 24}}, dtypes=("fp32",), reference=lambda x: 2 * x + 1
)


def at_most(most: int, changed_at: int = 0) -> Kernel:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        if len(x) > most:
            raise (NotImplementedError if changed_at else Unsupported)(f"at most {most} rows")
        out = 2 * x + 1
        return out.nextafter(out + 1) if len(x) == changed_at else out

    return kernel


ARMS = (
    Arm(name="keeps", claims=True, kernels=lambda: {"scale": at_most(96)}),
    Arm(name="changes", claims=True, kernels=lambda: {"scale": at_most(96, 5)}),
    Arm(name="single", claims=True, kernels=lambda: {"scale": at_most(1)}),
)
