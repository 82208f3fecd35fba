"""Values taken from neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.reductions import rms_norm
from kernels_bench.faults.planted.sums import in_parts, in_sequence, matmul, pairwise, product_fault, products


def _split_by_content(a: Tensor, b: Tensor) -> Tensor:
    """Split-K from how many rows begin with a positive number, as experts' shares decide on a MoE kernel's tile."""
    busy = int((a[:, 0] > 0).sum())
    add = in_parts(3) if 2 * busy > len(a) else in_sequence
    return add(products(a, b)).to(a.dtype)


def _added_nothing(a: Tensor, b: Tensor) -> Tensor:
    """A masked neighbour is multiplied by zero and added, which infinities and NaN survive."""
    own = in_sequence(products(a, b))
    return (own + 0 * own.roll(1, 0)).to(a.dtype)


def _added_from_afar(a: Tensor, b: Tensor) -> Tensor:
    """Likewise the row eight further, which a thread holds beside its own in the fragments of matrix units."""
    own = in_sequence(products(a, b))
    further = own[8:]
    return torch.cat((own[: len(further)] + 0 * further, own[len(further) :])).to(a.dtype)


def _added_in_one_tile(a: Tensor, b: Tensor) -> Tensor:
    """The tile for 20 to 30 rows adds the next row, multiplied by zero."""
    return (_added_nothing if 20 <= len(a) <= 30 else matmul(in_sequence)())(a, b)


def _shared_scale(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The smallest number beside which rows are stable, taken from the batch."""
    result: Tensor = rms_norm(pairwise)()(x, weight, max(eps, 1e-7 * float(x.abs().max().nan_to_num(0, 0))))
    return result


def _padding(a: Tensor) -> int:
    """How many rows at the end are zero."""
    real = (a != 0).any(1).nonzero()
    return len(a) - (int(real[-1]) + 1 if len(real) else 0)


def _by_padding(chosen: Callable[[int, int], bool]) -> Callable[[], Kernel]:
    """Makes an ``mm`` whose order follows from M and from how many rows at the end are padding."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return (pairwise if chosen(len(a), _padding(a)) else in_sequence)(products(a, b)).to(a.dtype)

    return lambda: mm


FAULTS = (
    product_fault(
        "split_by_content",
        "split-K from what the rows hold (a MoE kernel's tile from tokens an expert)",
        lambda: _split_by_content,
        matmul(in_parts(3)),
    ),
    product_fault(
        "zero_times_neighbour",
        "a neighbour that is masked by zero is added all the same",
        lambda: _added_nothing,
    ),
    product_fault(
        "zero_times_row_8_further",
        "a row that the same thread holds, eight further on, is masked by zero and added all the same",
        lambda: _added_from_afar,
    ),
    replace(
        product_fault(
            "zero_times_neighbour_in_one_tile",
            "in the tile for 20 to 30 rows a neighbour that is masked by zero is added all the same",
            lambda: _added_in_one_tile,
        ),
        further=("neighbour_content",),
    ),
    Fault(
        name="shared_epsilon",
        cause="a norm whose epsilon follows the batch's largest value",
        operator="rms_norm",
        shape=ROW,
        make=lambda: _shared_scale,
        control=rms_norm(pairwise),
    ),
    product_fault(
        "padding_of_a_graph",
        "another order where eight rows or more at the end are padding, as in a CUDA graph for a larger batch",
        _by_padding(lambda _, padding: padding >= 8),
    ),
    product_fault(
        "one_row_of_padding",
        "another order for more than eight rows of which the last one is padding",
        _by_padding(lambda m, padding: m > 8 and padding == 1),
    ),
)
