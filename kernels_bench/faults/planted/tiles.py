"""Tiles and instructions that the batch, or a row's place in it, decides on."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import (
    Sum,
    backwards,
    by_rows,
    in_groups,
    in_sequence,
    matmul,
    pairwise,
    products,
)


def some_rows(other: Sum, usual: Sum, chosen: slice) -> Sum:
    """Another order for some rows of the batch, by their place."""

    def add(terms: Tensor) -> Tensor:
        total = usual(terms).clone()
        if len(terms[chosen]):
            total[chosen] = other(terms[chosen])
        return total

    return add


def _ragged(terms: Tensor) -> Tensor:
    """Rows of the last tile of 8, if it is not full, are added by another kernel."""
    full = len(terms) // 8 * 8
    return torch.cat(
        [part(rows) for part, rows in ((in_sequence, terms[:full]), (pairwise, terms[full:])) if len(rows)]
    )


def _batched(small: Sum) -> Kernel:
    """``bmm`` that adds in one order for fewer than 10 matrices, in sequence for more."""

    def bmm(a: Tensor, b: Tensor) -> Tensor:
        add = small if len(a) < 10 else in_sequence
        return torch.stack([add(products(left, right)) for left, right in zip(a, b, strict=True)]).to(a.dtype)

    return bmm


FAULTS = (
    Fault(
        name="k_tile_by_rows",
        cause="a K tile of 16 for large batches, of 8 for small ones",
        operator="mm",
        make=matmul(by_rows(in_groups(8), in_groups(16), 33)),
        control=matmul(in_groups(16)),
    ),
    Fault(
        name="operands_swapped",
        cause="operands swapped for small M, which turns the order around (FP8 GEMM)",
        operator="mm",
        make=matmul(by_rows(backwards, in_sequence, 8)),
        control=matmul(backwards),
    ),
    Fault(
        name="pairs_at_four",
        cause="pairs added before they are accumulated, at M = 4 alone",
        operator="mm",
        make=matmul(lambda terms: in_groups(2)(terms) if len(terms) == 4 else in_sequence(terms)),
        control=matmul(in_groups(2)),
    ),
    Fault(
        name="row_in_tile",
        cause="every fourth row of a tile goes through another instruction (MKL on odd K)",
        operator="mm",
        make=matmul(some_rows(pairwise, in_sequence, slice(3, None, 4))),
        control=matmul(in_sequence),
    ),
    Fault(
        name="ragged_last_tile",
        cause="rows of a last tile that is not full are added by another kernel",
        operator="mm",
        make=matmul(_ragged),
        control=matmul(in_sequence),
    ),
    Fault(
        name="first_row_alone",
        cause="row 0 is computed by a matrix-vector kernel",
        operator="mm",
        make=matmul(some_rows(in_groups(4), in_sequence, slice(0, 1))),
        control=matmul(in_groups(4)),
    ),
    Fault(
        name="bmm_by_batch",
        cause="another kernel from a batch of 10 matrices on",
        operator="bmm",
        make=lambda: _batched(pairwise),
        control=lambda: _batched(in_sequence),
    ),
)
