"""Attention of whole packed sequences, as in a prefill with latent attention."""

from __future__ import annotations

from torch import Tensor

from kernels_bench.arms import Kernel
from kernels_bench.faults.base import Fault
from kernels_bench.faults.planted.paged_attention import attention_by
from kernels_bench.faults.planted.sums import in_groups, in_sequence
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


def _control() -> Kernel:
    return _packed(by_longest=False)


FAULTS = (
    Fault("prefill_tiles_by_the_longest", "keys are added in tiles of 8 beside a prefill of 24 tokens or more",
        "mla_prefill", lambda: _packed(by_longest=True), _control, shape=_SHAPE, universe=9),
)  # fmt: skip
