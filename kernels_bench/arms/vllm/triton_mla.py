"""``triton-mla``: vLLM's Triton decode over a latent cache, as its TRITON_MLA backend calls it.

By default the number of KV splits follows the longest sequence of the batch and the number of SMs; batch-invariant
mode takes one (vLLM 0.26, ``vllm/v1/attention/backends/mla/triton_mla.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import Arm, Kernel, PreparedKernel
from kernels_bench.arms.vllm.installed import below_sm80, environment, missing, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.model_shapes import LATENT
from kernels_bench.records.cases import Device

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.v1.attention.ops.triton_decode_attention"
# _MIN_WORK_PER_SPLIT and _SPLIT_OCCUPANCY_MULTIPLIER of the backend.
KEYS_A_SPLIT, SPLITS_AN_SM = 512, 2
# An engine gives it one query a sequence, and not more than it has sequences; with many more its indices overflow.
MOST_QUERIES = 1024


def splits_of(most_keys: int, sms: int) -> int:
    """The backend's own choice: a power of two, at most two an SM."""
    wanted = max(1, most_keys // KEYS_A_SPLIT)
    return min(1 << (wanted - 1).bit_length(), sms * SPLITS_AN_SM)


class TritonMla(PreparedKernel):
    """``decode_attention_fwd`` over a latent cache.

    Args:
        invariant: one split, whatever the batch.
    """

    def __init__(self, invariant: bool) -> None:
        self._decode = importlib.import_module(MODULE).decode_attention_fwd
        self._invariant = invariant
        self._one = torch.ones((), dtype=torch.float32, device="cuda")
        self._sms = torch.cuda.get_device_properties(0).multi_processor_count

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, 576) over the cache (pages, page, 576); returns (queries, heads, 512).

        The kernel serves one query an entry, so every query gets a table and a length of its own.
        """
        q, cache, batch = arguments
        table, seen = batch.block_table[batch.entry_of_queries()], batch.seen_keys().to(torch.int32)
        return partial(self._attend, q, cache, batch, table, seen)

    def _attend(self, q: Tensor, cache: Tensor, batch: PagedBatch, table: Tensor, seen: Tensor) -> Tensor:
        splits = 1 if self._invariant else splits_of(batch.most_keys, self._sms)
        out = torch.zeros(*q.shape[:2], LATENT, dtype=q.dtype, device=q.device)
        for first in range(0, len(q), MOST_QUERIES):
            part = slice(first, first + MOST_QUERIES)
            self._launch(q[part], cache, table[part], seen[part], out[part], splits, batch.scale)
        return out

    def _launch(
        self, q: Tensor, cache: Tensor, table: Tensor, seen: Tensor, out: Tensor, splits: int, scale: float
    ) -> None:
        keys = cache[:, :, None]
        self._decode(
            q,
            keys,
            keys[..., :LATENT],
            out,
            torch.zeros(q.shape[:2], dtype=q.dtype, device=q.device),
            table,
            seen,
            torch.empty(*q.shape[:2], splits, LATENT + 1, dtype=torch.float32, device=q.device),
            splits,
            scale,
            cache.shape[1],
            k_scale=self._one,
            v_scale=self._one,
            is_mla=True,
        )


def kernels(invariant: bool) -> Mapping[str, Kernel]:
    """Decode alone."""
    return {"mla_decode": TritonMla(invariant)}


def unavailable(device: Device) -> str | None:
    """vLLM absent, or no CUDA GPU that Triton's matrix products run on."""
    return missing(device, "vLLM's Triton attention needs a CUDA GPU") or below_sm80(device)


def _arm(suffix: str, summary: str, invariant: bool) -> Arm:
    return Arm(
        name=f"triton-mla{suffix}",
        kernels=lambda: kernels(invariant),
        claims=invariant,
        summary=summary,
        environment=environment(batch_invariant=invariant),
        unavailable=unavailable,
        provenance=lambda: f"vLLM {version()}: {MODULE}",
        compiles=True,
        offers=("mla_decode",),
    )


ARMS = (
    _arm("", "vLLM's Triton decode over a latent cache, KV splits by the longest sequence", invariant=False),
    _arm(
        "-invariant",
        "vLLM's Triton decode over a latent cache with one KV split, as in batch-invariant mode",
        invariant=True,
    ),
)
