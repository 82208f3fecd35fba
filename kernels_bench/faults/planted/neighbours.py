"""Values taken from neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.reductions import rms_norm
from kernels_bench.faults.planted.sums import in_parts, in_sequence, matmul, pairwise, products


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


def _shared_scale(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The smallest number beside which rows are stable, taken from the batch."""
    result: Tensor = rms_norm(pairwise)()(x, weight, max(eps, 1e-7 * float(x.abs().max().nan_to_num(0, 0))))
    return result


FAULTS = (
    Fault(
        name="split_by_content",
        cause="split-K from what the rows hold (a MoE kernel's tile from tokens an expert)",
        operator="mm",
        make=lambda: _split_by_content,
        control=matmul(in_parts(3)),
    ),
    Fault(
        name="zero_times_neighbour",
        cause="a neighbour that is masked by zero is added all the same",
        operator="mm",
        make=lambda: _added_nothing,
        control=matmul(in_sequence),
    ),
    Fault(
        name="zero_times_row_8_further",
        cause="a row that the same thread holds, eight further on, is masked by zero and added all the same",
        operator="mm",
        make=lambda: _added_from_afar,
        control=matmul(in_sequence),
    ),
    Fault(
        name="shared_epsilon",
        cause="a norm whose epsilon follows the batch's largest value",
        operator="rms_norm",
        shape=ROW,
        make=lambda: _shared_scale,
        control=rms_norm(pairwise),
    ),
)
