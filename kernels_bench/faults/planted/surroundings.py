"""Kernels to which it matters what a caller sets around them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.planted.sums import in_sequence, pairwise, product_fault, products


def _where(other: Callable[[], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` that adds in pairs where something is set."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return (pairwise if other() else in_sequence)(products(a, b)).to(a.dtype)

    return lambda: mm


def _of_the_default_dtype(a: Tensor, b: Tensor) -> Tensor:
    """What an accumulator is that was made without a dtype."""
    total = torch.zeros(len(a), b.shape[1], device=a.device)
    for term in products(a, b).unbind(1):
        total += term
    return total.to(a.dtype)


FAULTS = (
    product_fault("split_in_inference_mode", "sums are added in pairs in inference mode",
        _where(torch.is_inference_mode_enabled)),
    product_fault("composite_for_gradients", "sums are added in pairs where gradients are enabled, as of a composite",
        _where(torch.is_grad_enabled)),
    product_fault("total_of_the_default_dtype", "sums are added up in torch's default dtype",
        lambda: _of_the_default_dtype),
)  # fmt: skip
