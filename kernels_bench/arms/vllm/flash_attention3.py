"""``flash-attn3``: vLLM's build of FlashAttention 3 over its paged cache, as vLLM's FLASH_ATTN backend calls it.

By default the number of KV splits is left to a heuristic, which looks at the batch; for batches that a CUDA graph was
captured for (``max_cudagraph_capture_size``, 512 tokens) vLLM bounds it (``flash_attn_max_num_splits_for_cuda_graph``,
32).  Batch-invariant mode asks for one split and gives no scheduler metadata (vLLM 0.26,
``vllm/v1/attention/backends/flash_attn.py``).

Schedules are made where all layers have one window. Models with soft caps or sinks have layers with a window and layers
without, for which vLLM makes none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import Arm, Candidate, Kernel, PreparedKernel, Unsupported
from kernels_bench.arms.vllm.installed import environment, missing, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.model_shapes import LATENT
from kernels_bench.operators.paged import FP8, PLAIN, VARIANT, operators_of
from kernels_bench.records.cases import Device

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.vllm_flash_attn"
OPERATORS = operators_of(PLAIN, VARIANT)
FP8_OPERATORS = operators_of(FP8)
GRAPH_SPLITS, GRAPH_TOKENS = 32, 512
LEFT_OUT = "This flash attention build does not support"
"""How FlashAttention 3's refusals of what it was built without begin."""


class FlashAttention3(PreparedKernel):
    """``flash_attn_varlen_func`` over a paged cache.

    Args:
        splits: of the keys; 0 leaves them to the heuristic.
        scheduled: whether the scheduler's metadata are made beforehand, once a step for all layers as in vLLM.
        queries: the most that a sequence has, as far as the kernel is told: at least so many.
    """

    def __init__(self, splits: int, scheduled: bool, queries: int = 1) -> None:
        self._flash = importlib.import_module(MODULE)
        self._splits, self._scheduled, self._queries = splits, scheduled, queries

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
            "max_seqlen_q": max(batch.most_queries, self._queries),
            "max_seqlen_k": batch.most_keys,
            "cu_seqlens_q": batch.cu_seqlens_q,
            "causal": True,
            "num_splits": splits,
            "window_size": [batch.window - 1, 0] if batch.window else [-1, -1],
        }
        metadata = None
        if self._scheduled and not batch.softcap and batch.sinks is None:
            metadata = self._flash.get_scheduler_metadata(
                batch_size=len(batch.lengths),
                num_heads_q=q.shape[1],
                cache_seqlens=batch.seqused_k,
                qkv_dtype=q.dtype,
                **sizes,
                **shared,
            )
        return partial(
            self._attend,
            seqused_k=batch.seqused_k,
            softmax_scale=batch.scale,
            block_table=batch.block_table,
            scheduler_metadata=metadata,
            fa_version=3,
            softcap=batch.softcap,
            s_aux=None if batch.sinks is None else batch.sinks.to(torch.bfloat16),  # it takes no others
            **tensors,
            **shared,
        )

    def _attend(self, **arguments: object) -> object:
        try:
            return self._flash.flash_attn_varlen_func(**arguments)
        except RuntimeError as error:
            if str(error).startswith(LEFT_OUT):
                raise Unsupported(str(error).partition("\n")[0]) from None
            raise


class FlashFp8(FlashAttention3):
    """The same over caches in e4m3: there queries have eight bits too, which a step quantises for all layers' kernels.

    Probabilities are rounded to e4m3 before they meet their values, and results are bf16.
    """

    def prepare(self, *arguments: Any) -> Callable[[], object]:
        """Queries (queries, heads, d) that are numbers of e4m3; caches (pages, page, kv_heads, d) in e4m3."""
        q, key_cache, value_cache, batch = arguments
        if q.dtype is not torch.bfloat16:
            raise Unsupported("FlashAttention 3 gives bf16 of eight bits")
        _, page, kv_heads, size = key_cache.shape
        sizes = {"page_size": page, "num_heads_kv": kv_heads, "headdim": size}
        keys, values = (scale.expand(len(batch.lengths), kv_heads) for scale in batch.descale)
        scales = {"q_descale": torch.ones_like(keys), "k_descale": keys, "v_descale": values}
        tensors = {"q": q.to(key_cache.dtype), "k": key_cache, "v": value_cache}
        return self._call(batch, sizes, {**tensors, **scales})


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


class FlashMlaPrefill3(FlashAttention3):
    """The same over packed keys that are longer than values, as vLLM calls it to prefill with latent attention."""

    def prepare(self, *arguments: Any) -> Callable[[], object]:
        """q and k (tokens, heads, 192), v (tokens, heads, 128), and where each sequence begins; no schedule is made."""
        q, k, v, cu_seqlens = arguments
        longest = int(cu_seqlens.diff().max())
        return partial(
            self._attend,
            q=q,
            k=k,
            v=v,
            cu_seqlens_q=cu_seqlens,
            cu_seqlens_k=cu_seqlens,
            max_seqlen_q=longest,
            max_seqlen_k=longest,
            softmax_scale=q.shape[-1] ** -0.5,
            causal=True,
            num_splits=self._splits,
            fa_version=3,
        )


def kernels(splits: int, scheduled: bool) -> Mapping[str, Kernel]:
    """One function serves all batches over ordinary caches, others those over latent ones, always scheduled."""
    ordinary = dict.fromkeys(OPERATORS, FlashAttention3(splits, scheduled))
    latent: dict[str, Kernel] = {"mla_decode": FlashMla3(splits, scheduled=True)}
    # Prefills run in no graph: there is no other bound on their splits.
    prefill: dict[str, Kernel] = {} if splits == GRAPH_SPLITS else {"mla_prefill": FlashMlaPrefill3(splits, scheduled)}
    return {**ordinary, **latent, **prefill}


def fp8_kernels(splits: int, scheduled: bool) -> Mapping[str, Kernel]:
    """Those over caches in e4m3."""
    return dict.fromkeys(FP8_OPERATORS, FlashFp8(splits, scheduled))


FIXED_SPLITS = (1, 2, 4, 8, 16)
"""Numbers of KV splits that do not follow from the batch; ``GRAPH_SPLITS`` is none, which bounds the heuristic."""
MOST_QUERIES = 193
"""Of so many queries a sequence the kernel has one tile, one mask and one way to read pages, whatever the group of
query heads: it takes smaller tiles up to 64 rows of queries, no mask for a single query, and reads pages otherwise up
to the rows of a tile, which are 192 at most (``hopper/tile_size.h``, ``hopper/flash_api.cpp``).  At head dimension 64
smaller tiles have more keys, which is another order of addition."""


def candidates(device: Device) -> Mapping[str, Candidate]:
    """The same with as many KV splits for every batch, and without a schedule made by its size.

    Those called ``-1tile`` are told of `MOST_QUERIES` queries at least, so that tiles do not follow from the batch.
    """
    return {
        f"{splits}splits{suffix}": Candidate(
            partial(_fixed, splits, queries), OPERATORS, ("bf16", "fp16"), f"{splits} splits{told}"
        )
        for splits in FIXED_SPLITS
        for suffix, queries, told in (("", 1, ""), ("-1tile", MOST_QUERIES, ", one tile"))
    }


def _fixed(splits: int, queries: int) -> Mapping[str, Kernel]:
    return dict.fromkeys(OPERATORS, FlashAttention3(splits, scheduled=False, queries=queries))


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
        candidates=(lambda device: {}) if suffix else candidates,
        offers=(*OPERATORS, "mla_decode", *(() if splits == GRAPH_SPLITS else ("mla_prefill",))),
        default_for=() if suffix else (*OPERATORS, "mla_decode", "mla_prefill"),
    )


def _fp8_arm(suffix: str, summary: str, splits: int, scheduled: bool, claims: bool) -> Arm:
    return replace(
        _arm(f"-fp8{suffix}", summary, splits, scheduled, claims),
        kernels=lambda: fp8_kernels(splits, scheduled),
        offers=FP8_OPERATORS,
        default_for=() if suffix else FP8_OPERATORS,
        precision="fp8",
    )


ARMS = (
    _fp8_arm("", "vLLM's FlashAttention 3 over caches in e4m3, KV splits by its heuristic", 0, True, claims=False),
    _fp8_arm(
        "-invariant",
        "vLLM's FlashAttention 3 over caches in e4m3, one KV split, as in batch-invariant mode",
        1,
        False,
        claims=True,
    ),
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
