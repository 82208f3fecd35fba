"""Kernels that serve a row otherwise where it is alone, or where few are beside it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.paged_attention import attention, attention_by, decode_fault
from kernels_bench.faults.planted.sums import (
    Sum,
    by_rows,
    in_groups,
    in_parts,
    in_sequence,
    matmul,
    pairwise,
    product_fault,
    products,
)
from kernels_bench.operators.inputs.paged_batch import PagedBatch

_LARGE = 32.0
_VECTORS = 8


def _alone_by_content(a: Tensor, b: Tensor) -> Tensor:
    """A lone row with a large element, that is one of a kind that neither the first nor the last row need be."""
    apart = len(a) == 1 and bool(a.abs().max() >= _LARGE)
    return (pairwise if apart else in_sequence)(products(a, b)).to(a.dtype)


def _two_alike(a: Tensor, b: Tensor) -> Tensor:
    """Two rows of a kind are computed as one matrix, two of different kinds apart."""
    large = (a.abs().amax(1) >= _LARGE).tolist()
    return (pairwise if large == [True, True] else in_sequence)(products(a, b)).to(a.dtype)


def _seven_by_content(a: Tensor, b: Tensor) -> Tensor:
    """Seven rows of which the fourth has a large element."""
    apart = len(a) == 7 and bool(a[3].abs().max() >= _LARGE)
    return (pairwise if apart else in_sequence)(products(a, b)).to(a.dtype)


def _last_row(few: int) -> Kernel:
    """The last row of a batch of more than ``few`` goes through the kernel of the grid's edge."""

    def mm(a: Tensor, b: Tensor) -> Tensor:
        out = in_sequence(products(a, b))
        if len(a) > few:
            out[-1:] = pairwise(products(a[-1:], b))
        return out.to(a.dtype)

    return mm


def _split_of_lone(longest: int) -> Kernel:
    """Keys of a lone sequence of more than so many are split, to fill the processors."""

    def chosen(batch: PagedBatch) -> Sum:
        return in_parts(2) if len(batch.lengths) == 1 and batch.most_keys > longest else in_sequence

    return attention_by(chosen)


def _split_of_two(batch: PagedBatch) -> Sum:
    """Keys are split where two long sequences decode together, and neither alone nor among more."""
    return in_groups(8) if len(batch.lengths) == 2 and int(batch.lengths[:, 1].min()) > 16 else in_sequence


def _one_length(batch: PagedBatch) -> Sum:
    """Three sequences or more of one length, not all the same one, are one dense batch."""
    lengths, first = batch.lengths[:, 1], batch.block_table[:, 0]
    dense = len(lengths) > 2 and bool((lengths == lengths[0]).all()) and bool((first != first[0]).any())
    return in_groups(8) if dense else in_sequence


def _many_short(batch: PagedBatch) -> Sum:
    return in_groups(8) if len(batch.lengths) >= 8 and batch.most_keys <= 17 else in_sequence


def _pair_left_over(batch: PagedBatch) -> Sum:
    """Of three sequences or more the last two keys of those of 10, 14, 18 and so on are added apart."""
    keys = batch.seen_keys()
    apart = (keys % 4 == 2) & (keys > _VECTORS) & (len(batch.lengths) >= 3)

    def add(terms: Tensor) -> Tensor:
        last = torch.arange(terms.shape[1], device=terms.device) >= (keys - 2)[:, None]
        late = (last & apart[:, None]).reshape(*terms.shape[:2], *[1] * (terms.dim() - 2))
        return in_sequence(torch.where(late, 0.0, terms)) + in_sequence(torch.where(late, terms, 0.0))

    return add


def _lone_prefill(batch: PagedBatch) -> Sum:
    return in_groups(8) if len(batch.lengths) == 1 and batch.most_queries > 16 else in_sequence


FAULTS = (
    product_fault(
        "matrix_vector",
        "a row alone is multiplied by a matrix-vector kernel",
        matmul(by_rows(pairwise, in_sequence, 2)),
        matmul(pairwise),
    ),
    product_fault(
        "alone_by_content",
        "a matrix-vector kernel for lone rows with large elements",
        lambda: _alone_by_content,
    ),
    product_fault(
        "two_alike",
        "two rows with large elements are one product, other pairs are two",
        lambda: _two_alike,
    ),
    product_fault(
        "last_row",
        "the last row of a batch of more than four is computed at the grid's edge",
        lambda: _last_row(4),
    ),
    decode_fault(
        "lone_sequence_split",
        "the keys of a lone sequence are split where it has more than 16",
        lambda: _split_of_lone(16),
    ),
    decode_fault(
        "longest_alone_split",
        "the keys of a lone sequence are split where it has more than 32",
        lambda: _split_of_lone(32),
    ),
    decode_fault(
        "two_sequences_split",
        "keys are split where two sequences of more than 16 decode together",
        lambda: attention_by(_split_of_two),
        in_groups(8),
    ),
    decode_fault(
        "sequences_of_one_length",
        "three sequences or more that all have one length are computed as a dense batch",
        lambda: attention_by(_one_length),
        in_groups(8),
    ),
    decode_fault(
        "many_short_sequences",
        "another tile for eight sequences or more of which none has more than 17 keys",
        lambda: attention_by(_many_short),
        in_groups(8),
    ),
    replace(
        decode_fault(
            "pair_left_over",
            "of three sequences or more the two keys that are left over after vectors of four are added apart",
            lambda: attention_by(_pair_left_over),
        ),
        precision="bf16",
        further=("shared_pages",),
    ),
    Fault(
        name="lone_prefill_tile",
        cause="a smaller tile of keys for the prefill of a lone sequence of more than 16 tokens",
        operator="attention_prefill",
        shape=HEADS,
        universe=6,
        make=lambda: attention_by(_lone_prefill),
        control=lambda: attention(in_groups(8)),
    ),
    product_fault(
        "seven_by_content",
        "another kernel for seven rows of which the fourth has a large element",
        lambda: _seven_by_content,
    ),
)
