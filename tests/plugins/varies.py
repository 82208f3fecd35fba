"""An arm that varies with its batch on every processor, and claims nothing: its faults are planted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kernels_bench.arms import Arm, Kernel
from kernels_bench.arms.samebits.cpu import attention as cpu_attention
from kernels_bench.faults import faults
from kernels_bench.operators.inputs.paged_batch import PagedBatch


def sharper_beside_the_long(q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Tensor:
    """Our kernel, whose logits grow with the batch's longest sequence."""
    return cpu_attention.attention(
        q, key_cache, value_cache, batch._replace(scale=batch.scale * (1 + 2.0**-12 * batch.most_keys))
    )


def kernels() -> Mapping[str, Kernel]:
    return {
        "mm": faults()["split_k_by_rows"].make(),
        "mean": faults()["mean_by_rows"].make(),
        "attention_decode": sharper_beside_the_long,
    }


ARM = Arm(name="varies", kernels=kernels, claims=False)
