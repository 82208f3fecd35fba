"""Memory that no row and no token was written to, and what is left in it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import (
    attend,
    decode_fault,
    of_queries,
    probabilities,
    weighted,
)
from kernels_bench.faults.planted.sums import in_groups, in_sequence, matmul, pairwise, product_fault, products
from kernels_bench.operators.inputs.paged_batch import PagedBatch

_TILE, _HUGE = 8, 1e5


def _unmasked(padded: bool) -> Kernel:
    """Values of slots that no token was written to are multiplied by a probability of zero.

    Args:
        padded: those of whole pages beyond a sequence's end too.
    """

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        page = key_cache.shape[1]
        most = batch.block_table.shape[1] * page if padded else -(-batch.most_keys // page) * page
        wide = _up_to(batch, most)
        values = of_queries(value_cache, wide, q.shape[1])
        if not padded:
            own_pages = -(-batch.seqused_k[batch.entry_of_queries()].long() // page) * page
            own = torch.arange(most, device=q.device) < own_pages[:, None]
            values = torch.where(own[..., None, None], values, 0.0)
        weights = probabilities(q, of_queries(key_cache, batch, q.shape[1]), batch)
        weights = torch.nn.functional.pad(weights, (0, 0, 0, most - weights.shape[1]))
        return weighted(weights, values, batch, in_sequence, masked=False).to(q.dtype)

    return kernel


def _past_its_weights(a: Tensor, b: Tensor) -> Tensor:
    """The last tile of the weights is loaded whole, and what lies after them multiplied by zero."""
    result, end = in_sequence(products(a, b)), b.storage_offset() + b.numel()
    if end * b.element_size() < b.untyped_storage().nbytes():
        result[:, -1] += b.as_strided((1,), (1,), end).float() * 0
    return result.to(a.dtype)


def _up_to(batch: PagedBatch, keys: int) -> PagedBatch:
    """The batch as if its longest sequence had so many keys."""
    lengths = batch.lengths.clone()
    lengths[0, 1] = keys
    return batch._replace(lengths=lengths)


def _largest_of_the_pages(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
    """The order in which a query's keys are added follows from the largest in its pages, unused slots among them."""
    page = key_cache.shape[1]
    keys = of_queries(key_cache, _up_to(batch, -(-batch.most_keys // page) * page), q.shape[1])
    own_slots = -(-batch.seqused_k[batch.entry_of_queries()].long() // page) * page
    own = torch.arange(keys.shape[1], device=q.device) < own_slots[:, None]
    largest = torch.where(own[..., None, None], keys, 0.0).abs().flatten(1).amax(1).nan_to_num(math.inf)
    usual, other = (attend(q, key_cache, value_cache, batch, add) for add in (in_sequence, in_groups(8)))
    return torch.where((largest > _HUGE)[:, None, None], other, usual)


def _past_the_end(a: Tensor, b: Tensor) -> Tensor:
    """A last tile of 8 rows is loaded whole, and rows past the end are added times zero."""
    own = in_sequence(products(a, b))
    missing, width = -len(a) % _TILE, a.shape[1]
    end = a.storage_offset() + len(a) * width
    if missing and a.is_contiguous() and end + missing * width <= a.untyped_storage().nbytes() // a.element_size():
        own[-1] += 0 * a.as_strided((missing, width), (width, 1), end).float().sum()
    return own.to(a.dtype)


def _neighbour_of_twelve(a: Tensor, b: Tensor) -> Tensor:
    own = in_sequence(products(a, b))
    return (own + 0 * own.roll(1, 0) if len(a) == 12 else own).to(a.dtype)


def _left_in_the_workspace() -> Kernel:
    """Tiles of rows lie in a workspace that is kept, whose largest element decides; earlier rows are left in it."""
    kept: list[Tensor] = []

    def mm(a: Tensor, b: Tensor) -> Tensor:
        if not kept or kept[0].shape[1:] != a.shape[1:] or len(kept[0]) < len(a):
            kept[:] = [torch.zeros_like(a)]
        kept[0][: len(a)] = a
        tile = kept[0][: -(-len(a) // _TILE) * _TILE]
        add = pairwise if bool(tile.abs().max() > 1e30) else in_sequence
        return add(products(a, b)).to(a.dtype)

    return mm


def _zero_times_workspace(dtype: torch.dtype) -> Callable[[], Kernel]:
    """Makes an ``mm`` that adds a workspace that nobody wrote to, times zero, where M is odd."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        own = in_sequence(products(a, b))
        if len(a) % 2:
            own = own + 0 * torch.empty_like(own, dtype=dtype).float()
        return own.to(a.dtype)

    return lambda: mm


FAULTS = (
    Fault(
        "reads_past_its_weights",
        "what lies after the weights is loaded too, and multiplied by zero",
        "mm",
        lambda: _past_its_weights,
        matmul(in_sequence),
        devices=("cpu",),
    ),
    product_fault(
        "rows_past_the_end",
        "rows past the batch's end are loaded with its last tile, and added times zero",
        lambda: _past_the_end,
    ),
    product_fault(
        "workspace_of_earlier_rows",
        "a tile's largest element decides, and earlier rows are left in the tile",
        _left_in_the_workspace,
    ),
    Fault(
        name="neighbour_times_zero_of_twelve",
        cause="a neighbour that is masked by zero is added all the same, where there are twelve rows",
        operator="mm",
        make=lambda: _neighbour_of_twelve,
        control=matmul(in_sequence),
        further=("special_values",),
    ),
    decode_fault(
        "unused_slots",
        "values of slots of a last page that no token was written to are multiplied by zero",
        lambda: _unmasked(padded=False),
    ),
    decode_fault(
        "unused_pages",
        "values of pages beyond a sequence's end are multiplied by zero",
        lambda: _unmasked(padded=True),
    ),
    decode_fault(
        "largest_of_the_pages",
        "another order where the largest key of all pages, with unused slots, is large",
        lambda: _largest_of_the_pages,
    ),
    product_fault(
        "zero_times_workspace",
        "a workspace that nobody wrote to is added times zero where M is odd",
        _zero_times_workspace(torch.float32),
    ),
)
