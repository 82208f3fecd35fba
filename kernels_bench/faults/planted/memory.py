"""Kernels that leave their results, or others' memory, as they should not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import in_sequence, matmul, products


def _stale() -> Callable[..., Tensor]:
    """Returns what it computed when it last saw a batch of this size."""
    known: dict[int, Tensor] = {}

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return known.setdefault(len(a), in_sequence(products(a, b)).to(a.dtype))

    return mm


def _unwritten(a: Tensor, b: Tensor) -> Tensor:
    """Leaves the last row of odd batches out."""
    out = torch.empty(len(a), b.shape[1], dtype=a.dtype, device=a.device)
    written = len(a) - len(a) % 2 if len(a) > 1 else 1
    out[:written] = in_sequence(products(a[:written], b))
    return out


def _scratch_in(argument: int) -> Callable[..., Tensor]:
    """Uses an input as scratch memory once the result is computed."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        out = in_sequence(products(a, b)).to(a.dtype)
        (a, b)[argument][-1] = 0
        return out

    return mm


FAULTS = (
    Fault(
        name="stale_result",
        cause="a result that was kept is returned for other rows",
        operator="mm",
        make=_stale,
        control=matmul(in_sequence),
        kind="wrong",
    ),
    Fault(
        name="unwritten_row",
        cause="the last row of an odd batch is never written",
        operator="mm",
        make=lambda: _unwritten,
        control=matmul(in_sequence),
        kind="wrong",
    ),
    Fault(
        name="writes_rows",
        cause="the rows serve as scratch memory",
        operator="mm",
        make=lambda: _scratch_in(0),
        control=matmul(in_sequence),
        kind="wrong",
    ),
    Fault(
        name="writes_weights",
        cause="the weights serve as scratch memory",
        operator="mm",
        make=lambda: _scratch_in(1),
        control=matmul(in_sequence),
        kind="wrong",
    ),
)
