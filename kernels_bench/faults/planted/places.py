"""Kernels to which a row's place matters, or what stands right beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import ROW, Fault
from kernels_bench.faults.planted.paged_attention import attention_by, decode_fault
from kernels_bench.faults.planted.reductions import rms_norm
from kernels_bench.faults.planted.sums import Sum, in_groups, in_parts, in_sequence, matmul, pairwise, products
from kernels_bench.operators.inputs.paged_batch import PagedBatch

_LARGE, _SMALL = 32.0, 2.0**-7
_TILE = 24


def at_places(chosen: Callable[[Tensor, int], Tensor], other: Sum, usual: Sum) -> Sum:
    """Another order for rows that are chosen by their places and the number of rows."""

    def add(terms: Tensor) -> Tensor:
        places = torch.arange(len(terms), device=terms.device)
        return _some(chosen(places, len(terms)), other, usual, terms)

    return add


def _some(chosen: Tensor, other: Sum, usual: Sum, terms: Tensor) -> Tensor:
    total = usual(terms).clone()
    if bool(chosen.any()):
        total[chosen] = other(terms[chosen])
    return total


def _by_rows(chosen: Callable[[Tensor], Tensor]) -> Kernel:
    """An ``mm`` that adds pairwise for rows that are chosen by what the batch holds."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return _some(chosen(a), pairwise, in_sequence, products(a, b)).to(a.dtype)

    return mm


def _large_after_small(a: Tensor) -> Tensor:
    """Rows with a large element that stand right after a row without any but small ones."""
    largest = a.abs().amax(1)
    return (largest >= _LARGE) & (largest.roll(1) <= _SMALL) & (torch.arange(len(a), device=a.device) > 0)


def _seen_before(a: Tensor) -> Tensor:
    """Rows that stand in the batch for a second time."""
    alike = (a[:, None] == a[None]).all(2)
    return alike.tril(-1).any(1)


def _as_the_one_before(a: Tensor) -> Tensor:
    alike = (a == a.roll(1, 0)).all(1)
    alike[0] = False
    return alike


def _norm_of_equals(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    usual, other = (rms_norm(add)()(x, weight, eps) for add in (in_sequence, pairwise))
    return torch.where(_as_the_one_before(x)[:, None], other, usual)


def _split_beside_a_full_tile(keys: int) -> Kernel:
    """Keys are split where those of some sequence fill their tiles, which then need no mask."""

    def chosen(batch: PagedBatch) -> Sum:
        return in_groups(8) if bool((batch.lengths[:, 1] % keys == 0).any()) else in_sequence

    return attention_by(chosen)


def _split_by_longest(edge: int) -> Kernel:
    """As many splits as the batch's longest sequence needs."""

    def chosen(batch: PagedBatch) -> Sum:
        return in_groups(8) if batch.most_keys >= edge else in_sequence

    return attention_by(chosen)


def _at(name: str, cause: str, chosen: Callable[[Tensor, int], Tensor]) -> Fault:
    return Fault(
        name=name,
        cause=cause,
        operator="mm",
        make=matmul(at_places(chosen, in_parts(8), in_sequence)),
        control=matmul(in_parts(8)),
    )


def _mm(name: str, cause: str, chosen: Callable[[Tensor], Tensor]) -> Fault:
    return Fault(
        name=name,
        cause=cause,
        operator="mm",
        make=lambda: _by_rows(chosen),
        control=matmul(in_sequence),
    )


FAULTS = (
    _at(
        "third_rows_of_the_last_24",
        "every third row of the last group of 24 goes through another instruction",
        lambda places, m: (places % 3 == 2) & (places >= m // _TILE * _TILE),
    ),
    _at("place_modulo_7", "every seventh place goes through another instruction", lambda places, _: places % 7 == 6),
    _at(
        "place_17_of_more_than_40",
        "the row at place 17 of more than 40 goes through another instruction",
        lambda places, m: (places == 17) & (m > 40),
    ),
    _at("third_from_the_end", "the third row from the end goes through another instruction",
        lambda places, m: places == m - 3),
    _mm("large_after_small", "a row with large elements right after one of small ones", _large_after_small),
    _mm("row_seen_before", "a row that stands in the batch twice is computed by another kernel the second time",
        _seen_before),
    _mm("row_as_the_one_before", "a row equal to the one before is computed by another kernel", _as_the_one_before),
    decode_fault(
        "longest_of_the_batch", "keys are split where some sequence of the batch has 24 or more",
        lambda: _split_by_longest(_TILE), in_groups(8),
    ),
    decode_fault(
        "neighbour_fills_tiles_of_24", "keys are split where those of some sequence fill their tiles of 24",
        lambda: _split_beside_a_full_tile(_TILE), in_groups(8),
    ),
    Fault(
        name="norm_of_a_row_as_the_one_before",
        cause="a norm's row equal to the one before is computed by another kernel",
        operator="rms_norm",
        shape=ROW,
        make=lambda: _norm_of_equals,
        control=rms_norm(in_sequence),
    ),
)  # fmt: skip
