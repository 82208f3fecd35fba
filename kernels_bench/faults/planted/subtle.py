"""Orders that differ so little that bf16 results of random inputs hardly ever show it."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.sums import Sum, by_rows, in_sequence, matmul, products


def _first_pair_late(terms: Tensor) -> Tensor:
    """t0 + (t1 + t2) where the others have (t0 + t1) + t2."""
    late = terms[:, 0] + (terms[:, 1] + terms[:, 2])
    return in_sequence(torch.cat([late[:, None], terms[:, 3:]], 1))


def _pair_in_the_middle(terms: Tensor) -> Tensor:
    half = terms.shape[1] // 2
    pair = terms[:, half] + terms[:, half + 1]
    return in_sequence(torch.cat([terms[:, :half], pair[:, None], terms[:, half + 2 :]], 1))


def _last_two_first(terms: Tensor) -> Tensor:
    """The last two terms change places: additions commute, but sums do not."""
    return in_sequence(torch.cat([terms[:, :-2], terms[:, -1:], terms[:, -2:-1]], 1))


def _one_bit(a: Tensor, b: Tensor) -> Tensor:
    """One element of one batch size is one unit in the last place off."""
    out = in_sequence(products(a, b)).to(a.dtype)
    if len(a) == 33:
        out[20, 5] = torch.nextafter(out[20, 5], out.new_tensor(torch.inf))
    return out


def _subtle(name: str, cause: str, few: Sum) -> Fault:
    return Fault(
        name=name,
        cause=cause,
        operator="mm",
        precision="bf16",
        make=matmul(by_rows(few, in_sequence, 8)),
        control=matmul(few),
        subtle=True,
    )


FAULTS = (
    _subtle("first_pair_late", "the first three terms are grouped otherwise in small batches", _first_pair_late),
    _subtle("pair_in_the_middle", "one pair in the middle is added first in small batches", _pair_in_the_middle),
    _subtle("last_two_swapped", "the last two terms change places in small batches", _last_two_first),
    Fault(
        name="one_bit",
        cause="one bit of one element, at one batch size",
        operator="mm",
        make=lambda: _one_bit,
        control=matmul(in_sequence),
    ),
)
