"""``flash-attn3``: vLLM's build of FlashAttention 3 over its paged cache, as vLLM's FLASH_ATTN backend calls it.

By default the number of KV splits is left to a heuristic, which looks at the batch; for batches that a CUDA graph was
captured for (``max_cudagraph_capture_size``, 512 tokens) vLLM bounds it (``flash_attn_max_num_splits_for_cuda_graph``,
32).  Batch-invariant mode asks for one split and gives no scheduler metadata (vLLM 0.26,
``vllm/v1/attention/backends/flash_attn.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.arms.vllm_installed import environment, missing, version
from kernels_bench.cases import Device
from kernels_bench.operators.models import LATENT
from kernels_bench.paged import PagedBatch

MODULE = "vllm.vllm_flash_attn"
OPERATORS = ("attention_decode", "attention_prefill", "attention_mixed")
GRAPH_SPLITS, GRAPH_TOKENS = 32, 512


class FlashAttention3:
    """``flash_attn_varlen_func`` over a paged cache.

    Args:
        splits: of the keys; 0 leaves them to the heuristic.
        scheduled: whether the scheduler's metadata are made beforehand, once a step for all layers as in vLLM.
    """

    def __init__(self, splits: int, scheduled: bool) -> None:
        self._flash = importlib.import_module(MODULE)
        self._splits, self._scheduled = splits, scheduled

    def __call__(self, q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> object:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        return self._attend(q, key_cache, value_cache, batch, self._metadata(q, key_cache, batch))

    def prepare(self, q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch) -> Callable[[], object]:
        """The same, the metadata made."""
        return partial(self._attend, q, key_cache, value_cache, batch, self._metadata(q, key_cache, batch))

    def _splits_of(self, q: Tensor) -> int:
        return 0 if self._splits == GRAPH_SPLITS and len(q) > GRAPH_TOKENS else self._splits

    def _metadata(self, q: Tensor, key_cache: Tensor, batch: PagedBatch) -> object:
        if not self._scheduled:
            return None
        _, page, kv_heads, size = key_cache.shape
        return self._flash.get_scheduler_metadata(
            batch_size=len(batch.lengths),
            max_seqlen_q=batch.most_queries,
            max_seqlen_k=batch.most_keys,
            num_heads_q=q.shape[1],
            num_heads_kv=kv_heads,
            headdim=size,
            cache_seqlens=batch.seqused_k,
            qkv_dtype=q.dtype,
            cu_seqlens_q=batch.cu_seqlens_q,
            page_size=page,
            causal=True,
            num_splits=self._splits_of(q),
        )

    def _attend(self, q: Tensor, key_cache: Tensor, value_cache: Tensor, batch: PagedBatch, metadata: object) -> object:
        return self._flash.flash_attn_varlen_func(
            q=q,
            k=key_cache,
            v=value_cache,
            max_seqlen_q=batch.most_queries,
            cu_seqlens_q=batch.cu_seqlens_q,
            max_seqlen_k=batch.most_keys,
            seqused_k=batch.seqused_k,
            softmax_scale=batch.scale,
            causal=True,
            block_table=batch.block_table,
            scheduler_metadata=metadata,
            num_splits=self._splits_of(q),
            fa_version=3,
        )


class FlashMla3(FlashAttention3):
    """The same over a latent cache, as vLLM's FLASH_ATTN_MLA backend calls it; it always makes the metadata."""

    def __call__(self, q: Tensor, cache: Tensor, batch: PagedBatch) -> object:  # type: ignore[override]
        """Queries (queries, heads, 576) over the cache (pages, page, 576); returns (queries, heads, 512)."""
        return self.prepare(q, cache, batch)()

    def prepare(self, q: Tensor, cache: Tensor, batch: PagedBatch) -> Callable[[], object]:  # type: ignore[override]
        """The same, the metadata made."""
        metadata = self._flash.get_scheduler_metadata(
            batch_size=len(batch.lengths),
            max_seqlen_q=batch.most_queries,
            max_seqlen_k=batch.most_keys,
            num_heads_q=q.shape[1],
            num_heads_kv=1,
            headdim=q.shape[2] - LATENT,
            cache_seqlens=batch.seqused_k,
            qkv_dtype=q.dtype,
            headdim_v=LATENT,
            page_size=cache.shape[1],
            cu_seqlens_q=batch.cu_seqlens_q,
            causal=True,
            num_splits=self._splits_of(q),
        )
        return partial(
            self._flash.flash_attn_varlen_func,
            q=q[..., LATENT:],
            k=cache[..., LATENT:].unsqueeze(-2),
            v=cache[..., :LATENT].unsqueeze(-2),
            q_v=q[..., :LATENT],
            max_seqlen_q=batch.most_queries,
            cu_seqlens_q=batch.cu_seqlens_q,
            max_seqlen_k=batch.most_keys,
            seqused_k=batch.seqused_k,
            block_table=batch.block_table,
            softmax_scale=batch.scale,
            causal=True,
            fa_version=3,
            scheduler_metadata=metadata,
            num_splits=self._splits_of(q),
        )


def kernels(splits: int, scheduled: bool) -> Mapping[str, Kernel]:
    """One function serves all batches over ordinary caches, another those over latent ones."""
    ordinary = dict.fromkeys(OPERATORS, FlashAttention3(splits, scheduled))
    return {**ordinary, "mla_decode": FlashMla3(splits, scheduled=True)}


def unavailable(device: Device) -> str | None:
    """vLLM absent, or no Hopper GPU."""
    if (reason := missing(device, "FlashAttention 3 needs a CUDA GPU")) is not None:
        return reason
    if device.capability is not None and device.capability[0] != 9:
        return f"FlashAttention 3 is made for SM90, and this GPU is {device.sm}"
    return None


def _arm(suffix: str, summary: str, splits: int, scheduled: bool, claims: bool = False) -> Arm:
    return Arm(
        name=f"flash-attn3{suffix}",
        kernels=lambda: kernels(splits, scheduled),
        claims=claims,
        summary=summary,
        environment=environment(batch_invariant=claims),
        unavailable=unavailable,
        provenance=lambda: f"vLLM {version()}: {MODULE}, version 3",
        offers=(*OPERATORS, "mla_decode"),
        default_for=() if suffix else (*OPERATORS, "mla_decode"),
    )


ARMS = (
    _arm("", "vLLM's FlashAttention 3, KV splits by its heuristic", 0, scheduled=True),
    _arm("-graph", "the same with splits bounded as under CUDA graphs", GRAPH_SPLITS, scheduled=True),
    _arm("-invariant", "the same with one split, as in batch-invariant mode", 1, scheduled=False, claims=True),
)
