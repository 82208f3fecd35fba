"""Attention whose results another call disturbs: one at the same time, or one that follows."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.forms import let_another_come_in
from kernels_bench.faults.planted.paged_attention import attend, attention_adding, decode_fault
from kernels_bench.faults.planted.sums import in_groups, in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch

_MOST_QUERIES = 64


def _in_one_buffer() -> Kernel:
    """Results of few queries lie in one buffer, as those of a captured graph do, which the next call writes over."""
    kept: dict[tuple[int, ...], Tensor] = {}

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        found = attend(q, key_cache, value_cache, batch, in_sequence)
        if len(q) > _MOST_QUERIES:
            return found
        size = (_MOST_QUERIES, *found.shape[1:])
        if size not in kept:
            kept[size] = torch.empty(size, dtype=found.dtype, device=found.device)
        return kept[size][: len(q)].copy_(found)

    return kernel


def _split_if_free() -> Kernel:
    """Keys are added in tiles where no other call holds the workspace for it."""
    workspace = threading.Lock()

    def kernel(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
        free = workspace.acquire(blocking=False)
        try:
            let_another_come_in(q)
            return attend(q, key_cache, value_cache, batch, in_groups(8) if free else in_sequence)
        finally:
            if free:
                workspace.release()

    return kernel


FAULTS = (
    decode_fault("attention_in_one_buffer", "results lie in one buffer, which the next call writes over",
        _in_one_buffer),
    Fault("attention_if_workspace_free", "keys are split where no other call holds the workspace", "attention_decode",
        _split_if_free, attention_adding(in_groups(8)), shape=HEADS, universe=17, further=("concurrency",),
        devices=("cpu",)),
)  # fmt: skip
