"""Precisions that the batch decides on, or that are not those asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import in_parts, in_sequence, matmul, products


def _scores_in_bf16(a: Tensor, b: Tensor) -> Tensor:
    """Rounded to bf16 on their way to an fp32 result, from 32 rows on (router scores)."""
    scores = in_sequence(products(a, b))
    return scores.bfloat16().float() if len(a) >= 32 else scores


def _tf32(a: Tensor, b: Tensor) -> Tensor:
    """Inputs cut to TF32's ten bits."""
    cut = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a.contiguous(), b.contiguous())]
    return in_sequence(products(*cut))


def _narrow_sum(terms: Tensor) -> Tensor:
    total = terms[:, 0].bfloat16()
    for place in range(1, terms.shape[1]):
        total = (total.float() + terms[:, place]).bfloat16()
    return total.float()


def _bias(at_the_end: Callable[[int], bool]) -> Callable[..., Tensor]:
    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        terms = products(x, weight.t())
        first = bias.float().expand(len(x), 1, -1)
        if at_the_end(len(x)):
            return (in_sequence(terms) + bias.float()).to(x.dtype)
        return in_sequence(torch.cat([first, terms], 1)).to(x.dtype)

    return linear


FAULTS = (
    Fault(
        name="scores_in_bf16",
        cause="scores rounded to bf16 on their way to fp32, in large batches",
        operator="mm",
        make=lambda: _scores_in_bf16,
        control=matmul(in_sequence),
    ),
    Fault(
        name="tf32_dot",
        cause="TF32 inside an fp32 product",
        operator="mm",
        make=lambda: _tf32,
        control=matmul(in_sequence),
        kind="wrong",
    ),
    Fault(
        name="bf16_accumulator",
        cause="parts of a sum kept in bf16",
        operator="mm",
        make=matmul(_narrow_sum),
        control=matmul(in_parts(2)),
        kind="wrong",
    ),
    Fault(
        name="bias_first",
        cause="the sum starts from the bias in small batches, and ends with it in large ones",
        operator="linear_bias",
        make=lambda: _bias(lambda m: m >= 16),
        control=lambda: _bias(lambda m: True),
    ),
)
