"""A batch-invariant product of matrices, from which tests make kernels with faults, and such kernels bound to data."""

from __future__ import annotations

from typing import Any

import torch

from kernels_bench.arms import Kernel
from kernels_bench.operators import operators
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest, bind

Tensor = torch.Tensor
CPU = torch.device("cpu")
UNIVERSE = 128
SHAPES = {
    "mm": Shape(label="test", n=48, k=64),
    "linear": Shape(label="test", n=48, k=64),
    "bmm_heads": Shape(label="test", b=2, n=16, k=32),
    "mean": Shape(label="test", k=200),
    "rms_norm": Shape(label="test", k=200),
    "fused_add_rms_norm": Shape(label="test", k=200),
}


def product(a: Tensor, b: Tensor, splits: int = 1, order: Tensor | None = None) -> Tensor:
    """a b, each element's terms added one after the other in fp32, in ``splits`` parts: batch-invariant."""
    dtype = a.dtype
    places = torch.arange(a.shape[1]) if order is None else order
    a = a.float()  # at once: torch makes other NaN of single elements of fp16 than of many
    total = torch.zeros(len(a), b.shape[1], device=a.device)
    for part in places.chunk(splits):
        partial = torch.zeros_like(total)
        for place in part.tolist():
            partial = partial + a[:, place, None] * b[place].float()
        total = total + partial
    return total.to(dtype)


def subject(
    kernel: Kernel, operator: str = "mm", precision: str = "fp32", universe: int = UNIVERSE, **options: Any
) -> KernelUnderTest:
    """A kernel of an arm named ``planted``, bound to its data."""
    shape = options.pop("shape", SHAPES[operator])
    case = Case(arm="planted", operator=operator, shape=shape, precision=Precision.parse(precision))
    settings: dict[str, Any] = {"seed": 0, "universe": universe, "device": CPU} | options
    return KernelUnderTest(case, operators()[operator], bind(case, {operator: kernel}), **settings)
