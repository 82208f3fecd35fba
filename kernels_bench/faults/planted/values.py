"""Values that are rare, and served otherwise in some batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.reductions import log_softmax, mean, softmax
from kernels_bench.faults.planted.sums import (
    backwards,
    in_groups,
    in_parts,
    in_sequence,
    matmul,
    pairwise,
    product_fault,
    products,
)

_FEW, _CHOICE = 32, 8
_OUTLYING, _LIMIT = 500.0, 60000.0
_SMALL, _LARGE = 2.0**-6, 16.0


def _flushed(x: Tensor) -> Tensor:
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, 0.0, x)


def _flushing(inputs: bool, chosen: Callable[[int], bool]) -> Kernel:
    """Subnormal inputs, or results, are zero at some M, as a processor's mode has it."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if not chosen(len(a)):
            return in_sequence(products(a, b)).to(a.dtype)
        return _flushed(in_sequence(products(_flushed(a) if inputs else a, b))).to(a.dtype)

    return mm


def _mended(mend: Callable[[Tensor], Tensor], chosen: Callable[[int], bool]) -> Kernel:
    """A ``mean`` whose result is mended at some M."""
    usual = mean(in_sequence)()

    def kernel(x: Tensor) -> Tensor:
        out: Tensor = usual(x)
        return mend(out) if chosen(len(x)) else out

    return kernel


def _without_nan(out: Tensor) -> Tensor:
    return torch.where(out.isnan(), 0.0, out)


def _usual_nan(out: Tensor) -> Tensor:
    """The payload of every NaN is lost."""
    usual = torch.full_like(out, torch.nan)
    return torch.where(out.isnan(), usual, out)


def _largest_for_infinity(out: Tensor) -> Tensor:
    largest: Tensor = out.sign() * torch.finfo(out.dtype).max
    return torch.where(out.isinf(), largest, out)


def _blocks_of_8(x: Tensor) -> Tensor:
    """The maximum block by block, the sum so far rescaled after each: by NaN while all were masked throughout."""
    tops = [block.amax(1, keepdim=True) for block in x.split(8, 1)]
    grown: Tensor = tops[0]
    for top in tops[1:]:
        higher = torch.maximum(grown, top)
        grown = higher + 0 * (grown - higher).exp()
    return grown


def _softmax_in_blocks() -> Kernel:
    whole, blocked = softmax(pairwise)(), softmax(pairwise, _blocks_of_8)()

    def kernel(x: Tensor) -> Tensor:
        out: Tensor = (blocked if len(x) >= _FEW else whole)(x)
        return out

    return kernel


def _outliers_apart(a: Tensor, b: Tensor) -> Tensor:
    """Columns with outliers are added by themselves in large batches (LLM.int8)."""
    apart = a.abs() >= _OUTLYING
    if len(a) < _FEW or not bool(apart.any()):
        return in_sequence(products(a, b)).to(a.dtype)
    some, rest = torch.where(apart, a, 0), torch.where(apart, 0, a)
    return torch.where(
        apart.any(1, keepdim=True),
        in_sequence(products(rest, b)) + in_sequence(products(some, b)),
        in_sequence(products(a, b)),
    ).to(a.dtype)


def _none_for_masked(x: Tensor) -> Tensor:
    """A row that is masked throughout has no shares in large batches, and NaN in small ones."""
    shares: Tensor = softmax(pairwise)()(x)
    masked = (x == -math.inf).all(1, keepdim=True)
    return torch.where(masked, 0.0, shares) if len(x) >= _FEW else shares


def _padding_left_out(x: Tensor) -> Tensor:
    """Columns at the end that are masked in all rows are left out before the others are added in two halves."""
    seen = (x != -math.inf).any(0).nonzero()
    last = int(seen[-1]) + 1 if len(seen) else x.shape[1]
    shares: Tensor = softmax(in_parts(2))()(x[:, :last])
    return torch.nn.functional.pad(shares, (0, x.shape[1] - last)).masked_fill_(shares[:, :1].isnan(), math.nan)


def _few_gathered(x: Tensor) -> Tensor:
    """Where no row has more than eight numbers that are not masked, the last one is added first."""
    few = int((x > -math.inf).sum(1).max()) <= _CHOICE
    shares: Tensor = softmax(backwards if few else in_sequence)()(x)
    return shares


def _certain(x: Tensor) -> Tensor:
    """The logarithm of the share of the only token that is left is -0.0 in large batches."""
    found: Tensor = log_softmax(pairwise)()(x)
    alone = ((x > -math.inf).sum(1) == 1)[:, None] & (found == 0)
    return torch.where(alone, -0.0, found) if len(x) >= _FEW else found


def _zero_columns_left_out(a: Tensor, b: Tensor) -> Tensor:
    """Columns that are zero in all rows are left out before terms are grouped (sparse activations)."""
    some = (a != 0).any(0)
    return in_groups(8)(products(a[:, some], b[some]) if bool(some.any()) else products(a, b)).to(a.dtype)


def _scaled_if_large(a: Tensor, b: Tensor) -> Tensor:
    """Several rows of which the largest element is finite and large are added in another order, as if scaled."""
    large = len(a) > 1 and _OUTLYING < float(a.abs().max()) < _LIMIT
    return (pairwise if large else in_sequence)(products(a, b)).to(a.dtype)


def _scaled_if_small(a: Tensor, b: Tensor) -> Tensor:
    """Four rows or more of which no element is large are scaled up first, and added in other tiles."""
    small = len(a) >= 4 and bool(a.abs().max() < _SMALL)
    return (pairwise if small else in_sequence)(products(a, b)).to(a.dtype)


def _ordinary_in_pairs() -> Kernel:
    """Rows without outliers are added in pairs from 32 rows on; those with one take a slow path at every M."""
    usual, paired = mean(in_sequence)(), mean(pairwise)()

    def kernel(x: Tensor) -> Tensor:
        ordinary = (x.abs().amax(1) < _LARGE) & torch.tensor(len(x) >= _FEW, device=x.device)
        return torch.where(ordinary, paired(x), usual(x))

    return kernel


def _mean(name: str, cause: str, mend: Callable[[Tensor], Tensor]) -> Fault:
    return Fault(
        name=name,
        cause=cause,
        operator="mean",
        shape=ROW,
        precision="bf16",
        make=lambda: _mended(mend, lambda m: m >= _FEW),
        control=mean(in_sequence),
    )


FAULTS = (
    product_fault(
        "all_rows_small",
        "four rows or more whose elements are all small are added in another order",
        lambda: _scaled_if_small,
    ),
    Fault(
        "ordinary_rows_in_pairs",
        "rows without large elements are added in pairs from 32 rows on",
        "mean",
        _ordinary_in_pairs,
        mean(in_sequence),
        shape=ROW,
    ),
    product_fault(
        "subnormals_flushed",
        "subnormal inputs are zero from 32 rows on",
        lambda: _flushing(True, lambda m: m >= _FEW),
    ),
    Fault(
        name="subnormal_results_flushed",
        cause="subnormal results are zero at M = 24 and 48",
        operator="mm",
        make=lambda: _flushing(False, lambda m: m in (24, 48)),
        control=matmul(in_sequence),
        further=("special_values",),
    ),
    Fault(
        name="negative_zero",
        cause="a sum begins with +0.0 from 32 rows on, and so loses the sign of zeros",
        operator="mean",
        shape=ROW,
        make=lambda: _mended(lambda out: out + 0.0, lambda m: m >= _FEW),
        control=mean(in_sequence),
    ),
    _mean("nan_to_zero", "NaN is zero from 32 rows on", _without_nan),
    # In 16 bits a CPU's own widening gives NaN other bits by place.
    replace(_mean("nan_payload", "every NaN is the usual one from 32 rows on", _usual_nan), precision="fp32"),
    _mean("infinity_clamped", "infinities are the largest number from 32 rows on", _largest_for_infinity),
    Fault(
        name="masked_block",
        cause="from 32 rows on a maximum block by block, which is NaN after a block that is masked throughout",
        operator="softmax",
        shape=ROW,
        make=_softmax_in_blocks,
        control=softmax(pairwise),
    ),
    product_fault(
        "outliers_apart",
        "columns of outliers are added by themselves from 32 rows on",
        lambda: _outliers_apart,
    ),
    Fault(
        name="nan_alone",
        cause="NaN is zero where its row is alone",
        operator="mean",
        shape=ROW,
        make=lambda: _mended(_without_nan, lambda m: m == 1),
        control=mean(in_sequence),
    ),
    Fault(
        name="nan_in_a_window",
        cause="NaN is zero at M = 41, 49 and 57",
        operator="mean",
        shape=ROW,
        make=lambda: _mended(_without_nan, lambda m: m in (41, 49, 57)),
        control=mean(in_sequence),
        further=("special_values",),
    ),
    Fault(
        name="masked_throughout",
        cause="from 32 rows on a row that is masked throughout has zeros, and NaN below",
        operator="softmax",
        shape=ROW,
        make=lambda: _none_for_masked,
        control=softmax(pairwise),
    ),
    Fault(
        name="one_token_left",
        cause="from 32 rows on the logarithm of the only token's share is -0.0",
        operator="log_softmax",
        shape=ROW,
        make=lambda: _certain,
        control=log_softmax(pairwise),
    ),
    Fault(
        name="padding_left_out",
        cause="columns at the end that are masked in all rows are left out before halves are added",
        operator="softmax",
        shape=ROW,
        make=lambda: _padding_left_out,
        control=softmax(in_parts(2)),
    ),
    Fault(
        name="few_numbers_gathered",
        cause="numbers are added from the last on where no row has more than eight that are not masked",
        operator="softmax",
        shape=ROW,
        make=lambda: _few_gathered,
        control=softmax(in_sequence),
    ),
    product_fault(
        "zero_columns_left_out",
        "columns that are zero in all rows are left out before terms are grouped",
        lambda: _zero_columns_left_out,
        matmul(in_groups(8)),
    ),
    product_fault(
        "scaled_if_large",
        "another order where the largest element of several rows is large and finite",
        lambda: _scaled_if_large,
    ),
)
