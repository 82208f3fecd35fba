"""Quantisers and products over numbers of eight bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault, giving
from kernels_bench.faults.planted.sums import Sum, by_rows, in_groups, in_sequence, products
from kernels_bench.operators.layers.fp8 import GROUP, LARGEST, LEAST_SCALE
from kernels_bench.records.cases import Shape

_FEW, _TILE = 16, 4
_ROW = Shape.of("fault", {"k": 48})
_GROUPS = Shape.of("fault", {"k": 2 * GROUP})
_PRODUCT = Shape.of("fault", {"n": 8, "k": 48})
_BLOCKS = Shape.of("fault", {"n": 8, "k": 2 * GROUP})

Maxima = Callable[[Tensor], Tensor]
"""Rows (M, K) to the largest of each, (M, 1)."""


def _of_rows(x: Tensor) -> Tensor:
    return x.abs().amax(1, keepdim=True)


def _of_all(x: Tensor) -> Tensor:
    return x.abs().amax()


def _of_tiles(x: Tensor) -> Tensor:
    """In small batches the largest of a tile of rows."""
    tops = _of_rows(x)
    if len(x) >= _FEW:
        return tops
    return torch.cat([tile.amax(0, keepdim=True).expand_as(tile) for tile in tops.split(_TILE)])


def _without_nan(x: Tensor) -> Tensor:
    """As a maximum has it that takes the other operand for NaN: in small batches alone."""
    return _of_rows(x.nan_to_num(nan=0.0)) if len(x) < _FEW else _of_rows(x)


def _of_the_last_call() -> Maxima:
    """Where the last call had as many rows, what it found, as of a buffer that is filled too late."""
    kept: dict[int, Tensor] = {}

    def maxima(x: Tensor) -> Tensor:
        now = _of_rows(x)
        before = kept.get(len(x), now)
        kept.clear()
        kept[len(x)] = now
        return before

    return maxima


def _divided(x: Tensor, scale: Tensor) -> Tensor:
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def _without_a_short_tail(x: Tensor) -> Tensor:
    """The batch's largest number, without those rows that are left over of tiles, unless there is nothing else."""
    tiles = len(x) // _TILE * _TILE
    return x[:tiles].abs().amax() if tiles else x.abs().amax()


def _never_reset() -> Maxima:
    """The largest number of all batches so far, as of an atomic maximum into memory that nobody clears."""
    kept: list[Tensor] = []

    def maximum(x: Tensor) -> Tensor:
        kept[:] = [torch.stack([x.abs().amax(), *kept]).amax()]
        return kept[0]

    return maximum


def _of_tensor(maximum: Maxima) -> Kernel:
    """One scale for the whole batch."""

    def fp8_quant_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.float()
        scale = (maximum(wide) / LARGEST).clamp(min=LEAST_SCALE)
        return _divided(wide, scale), scale

    return fp8_quant_tensor


def _multiplied_in_small_batches(x: Tensor, scale: Tensor) -> Tensor:
    """By the scale's reciprocal, which is rounded."""
    if len(x) >= _FEW:
        return _divided(x, scale)
    return (x.float() * (1 / scale)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


@cache
def _quantiser(maxima: Maxima, divided: Callable[[Tensor, Tensor], Tensor] = _divided) -> Kernel:
    def fp8_quant_token(x: Tensor) -> tuple[Tensor, Tensor]:
        largest = maxima(x)
        # By a tensor: a number would be made a reciprocal on a GPU, and the scale be another.
        scale = (largest / largest.new_tensor(LARGEST)).clamp(min=LEAST_SCALE)
        return divided(x, scale), scale

    return fp8_quant_token


def _grouped(whole: Callable[[int], bool]) -> Kernel:
    """The scale of each group, at some M the largest of the row's."""

    def fp8_quant_group(x: Tensor) -> tuple[Tensor, Tensor]:
        groups = x.unflatten(1, (-1, GROUP))
        scale = groups.abs().amax(2).clamp(min=1e-10) / LARGEST
        scale = scale.amax(1, keepdim=True).expand_as(scale).contiguous() if whole(len(x)) else scale
        return _divided(groups, scale[..., None]).flatten(1), scale

    return fp8_quant_group


def _by_a_scale(first: bool) -> Kernel:
    """By the scale that is given, or that was given first."""
    kept: list[Tensor] = []

    def fp8_quant_static(x: Tensor, scale: Tensor) -> Tensor:
        if first and not kept:
            kept.append(scale.clone())
        return _divided(x.float(), kept[0] if first else scale)

    return fp8_quant_static


def _product(add: Sum, rounded: Callable[[int], bool]) -> Kernel:
    """The sum over numbers in eight bits, at some M rounded to the result's dtype before its scales."""

    def scaled_mm(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        total = add(products(a.float(), b.float()))
        total = total.bfloat16().float() if rounded(len(a)) else total
        return (total * scale_a * scale_b).bfloat16()

    return scaled_mm


def _by_blocks(scales: Callable[[Tensor], Tensor]) -> Kernel:
    """Sums of blocks of K, each times its scales, one after the other."""

    def scaled_mm_block(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        left = scales(scale_a)
        parts = [
            in_sequence(products(mine.float(), theirs.t().float())) * left[:, block : block + 1] * scale_b[0, block]
            for block, (mine, theirs) in enumerate(zip(a.split(GROUP, 1), b.split(GROUP, 1), strict=True))
        ]
        return in_sequence(torch.stack(parts, 1)).bfloat16()

    return scaled_mm_block


def _of_the_tiles_first_row(scale: Tensor) -> Tensor:
    """In small batches a tile's rows have the scales of its first."""
    if len(scale) >= _FEW:
        return scale
    return torch.cat([tile[:1].expand_as(tile) for tile in scale.split(_TILE)])


def _never(m: int) -> bool:
    return False


def _few(m: int) -> bool:
    return m < _FEW


_BY_ROWS = by_rows(in_groups(16), in_groups(8), _FEW)

FAULTS = (
    Fault("scale_of_a_tile", "in batches of less than 16 rows a scale is the maximum over four rows", "fp8_quant_token",
        lambda: _quantiser(_of_tiles), giving(_quantiser(_of_rows)), shape=_ROW),
    Fault("scale_of_the_last_call", "scales are those of an earlier call with as many rows", "fp8_quant_token",
        lambda: _quantiser(_of_the_last_call()), giving(_quantiser(_of_rows)), shape=_ROW),
    Fault("scale_without_nan", "a scale's maximum passes over NaN in batches of less than 16 rows", "fp8_quant_token",
        lambda: _quantiser(_without_nan), giving(_quantiser(_of_rows)), shape=_ROW),
    Fault("multiplied_by_the_reciprocal", "in batches of less than 16 rows numbers are not divided by the scale, but "
        "multiplied by its reciprocal", "fp8_quant_token",
        lambda: _quantiser(_of_rows, _multiplied_in_small_batches), giving(_quantiser(_of_rows)), shape=_ROW),
    Fault("maximum_without_a_short_tail", "a batch's one scale leaves out the rows that no tile of four is full of",
        "fp8_quant_tensor", lambda: _of_tensor(_without_a_short_tail), giving(_of_tensor(_of_all)),
        kind="wrong", shape=_ROW, universe=64),
    Fault("maximum_never_reset", "a batch's one scale is that of the largest number of all batches so far",
        "fp8_quant_tensor", lambda: _of_tensor(_never_reset()), giving(_of_tensor(_of_all)),
        kind="wrong", shape=_ROW),
    Fault("groups_have_their_rows_scale", "in batches of less than 16 rows a group's scale is its row's",
        "fp8_quant_group", lambda: _grouped(_few), lambda: _grouped(_never), shape=_GROUPS),
    Fault("scale_of_the_first_call", "a scale that is given is the first call's for good", "fp8_quant_static",
        lambda: _by_a_scale(True), lambda: _by_a_scale(False), kind="wrong", shape=_ROW),
    Fault("tile_of_k_by_rows", "of eight bits 16 terms at a time are added up to 15 rows, and 8 from there on",
        "scaled_mm_token", lambda: _product(_BY_ROWS, _never), lambda: _product(in_groups(8), _never),
        shape=_PRODUCT, precision="bf16", further=("batch_size",)),
    Fault("rounded_before_its_scale", "below 16 rows a sum of eight bits is rounded before it is scaled",
        "scaled_mm_tensor", lambda: _product(in_sequence, _few), lambda: _product(in_sequence, _never),
        shape=_PRODUCT, precision="bf16"),
    Fault("scales_of_the_tiles_first_row", "below 16 rows four rows are multiplied by the scales of the first",
        "scaled_mm_block", lambda: _by_blocks(_of_the_tiles_first_row), lambda: _by_blocks(lambda scale: scale),
        shape=_BLOCKS, precision="bf16"),
)  # fmt: skip
