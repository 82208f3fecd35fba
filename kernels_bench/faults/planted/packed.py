"""Attention of whole packed sequences, as in a prefill with latent attention."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import HEADS, Fault
from kernels_bench.faults.planted.paged_attention import attention_adding, attention_by
from kernels_bench.faults.planted.sums import Sum, in_groups, in_sequence
from kernels_bench.operators.inputs.paged_batch import PagedBatch, packed
from kernels_bench.records.cases import Shape

_SHAPE = Shape.of("fault", {"heads": 2, "dk": 8, "dv": 8, "tokens": 33})
_LONG = 24


def _packed(by_longest: bool) -> Kernel:
    """Adds over the keys in sequence; if ``by_longest``, in tiles of 8 keys where some sequence of a batch is long."""
    attention = attention_by(lambda batch: in_groups(8) if by_longest and _long(batch) else in_sequence)

    def kernel(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
        found: Tensor = attention(q, k[:, None], v[:, None], packed(cu_seqlens, q.shape[-1] ** -0.5))
        return found

    return kernel


def _long(batch: PagedBatch) -> bool:
    return batch.most_keys >= _LONG


def _drafted(fewest: int, most: int) -> Callable[[PagedBatch], Sum]:
    """As where a few drafted tokens of each sequence are verified, by a kernel for decoding."""

    def chosen(batch: PagedBatch) -> Sum:
        queries = batch.lengths[:, 0]
        uniform = len(queries) > 1 and bool((queries == queries[0]).all())
        return in_groups(8) if uniform and fewest <= int(queries[0]) <= most else in_sequence

    return chosen


def _control() -> Kernel:
    return _packed(by_longest=False)


def _drafted_fault(name: str, cause: str, fewest: int, most: int) -> Fault:
    def make() -> Kernel:
        return attention_by(_drafted(fewest, most))

    return Fault(name, cause, "attention_prefill", make, attention_adding(in_sequence), shape=HEADS, universe=9)


FAULTS = (
    _drafted_fault("tiles_for_drafted_tokens",
        "keys are added in tiles of 8 where all of several sequences have 2 to 8 queries", 2, 8),
    _drafted_fault("tiles_for_five_to_seven_tokens",
        "keys are added in tiles of 8 where all of several sequences have 5 to 7 queries", 5, 7),
    Fault("prefill_tiles_by_the_longest", "keys are added in tiles of 8 beside a prefill of 24 tokens or more",
        "mla_prefill", lambda: _packed(by_longest=True), _control, shape=_SHAPE, universe=9),
)  # fmt: skip
