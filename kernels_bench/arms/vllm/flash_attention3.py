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
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import Arm, Kernel, PreparedKernel
from kernels_bench.arms.vllm.installed import environment, missing, version
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.model_shapes import LATENT
from kernels_bench.records.cases import Device

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.vllm_flash_attn"
OPERATORS = ("attention_decode", "attention_prefill", "attention_mixed")
GRAPH_SPLITS, GRAPH_TOKENS = 32, 512


class FlashAttention3(PreparedKernel):
    """``flash_attn_varlen_func`` over a paged cache.

    Args:
        splits: of the keys; 0 leaves them to the heuristic.
        scheduled: whether the scheduler's metadata are made beforehand, once a step for all layers as in vLLM.
    """

    def __init__(self, splits: int, scheduled: bool) -> None:
        self._flash = importlib.import_module(MODULE)
        self._splits, self._scheduled = splits, scheduled

    def prepare(self, *arguments: Any) -> Callable[[], object]:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        _, page, kv_heads, size = key_cache.shape
        sizes = {"page_size": page, "num_heads_kv": kv_heads, "headdim": size}
        return self._call(batch, sizes, {"q": q, "k": key_cache, "v": value_cache})

    def _call(self, batch: PagedBatch, sizes: Mapping[str, int], tensors: Mapping[str, Tensor]) -> Callable[[], object]:
        """The metadata made for these sizes, and the call on these tensors."""
        q = tensors["q"]
        splits = 0 if self._splits == GRAPH_SPLITS and len(q) > GRAPH_TOKENS else self._splits
        shared = {
            "max_seqlen_q": batch.most_queries,
            "max_seqlen_k": batch.most_keys,
            "cu_seqlens_q": batch.cu_seqlens_q,
            "causal": True,
            "num_splits": splits,
        }
        metadata = None
        if self._scheduled:
            metadata = self._flash.get_scheduler_metadata(
                batch_size=len(batch.lengths),
                num_heads_q=q.shape[1],
                cache_seqlens=batch.seqused_k,
                qkv_dtype=q.dtype,
                **sizes,
                **shared,
            )
        return partial(
            self._flash.flash_attn_varlen_func,
            seqused_k=batch.seqused_k,
            softmax_scale=batch.scale,
            block_table=batch.block_table,
            scheduler_metadata=metadata,
            fa_version=3,
            **tensors,
            **shared,
        )


class FlashMla3(FlashAttention3):
    """The same over a latent cache, as vLLM's FLASH_ATTN_MLA backend calls it."""

    def prepare(self, *arguments: Any) -> Callable[[], object]:
        """Queries (queries, heads, 576) over the cache (pages, page, 576); returns (queries, heads, 512)."""
        q, cache, batch = arguments
        latent, positional = cache[..., :LATENT].unsqueeze(-2), cache[..., LATENT:].unsqueeze(-2)
        sizes = {
            "page_size": cache.shape[1], "num_heads_kv": 1, "headdim": q.shape[2] - LATENT, "headdim_v": LATENT
        }  # fmt: skip
        return self._call(batch, sizes, {"q": q[..., LATENT:], "k": positional, "v": latent, "q_v": q[..., :LATENT]})


def kernels(splits: int, scheduled: bool) -> Mapping[str, Kernel]:
    """One function serves all batches over ordinary caches, another those over latent ones, always scheduled."""
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
    _arm("-graph", "vLLM's FlashAttention 3, KV splits bounded as under CUDA graphs", GRAPH_SPLITS, scheduled=True),
    _arm(
        "-invariant",
        "vLLM's FlashAttention 3 with one KV split, as in batch-invariant mode",
        1,
        scheduled=False,
        claims=True,
    ),
)
