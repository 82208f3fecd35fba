"""``triton-unified``: vLLM's Triton attention over its paged cache, as its TRITON_ATTN backend calls it.

Small decode batches take its 3-D kernel, which splits the keys in 16 segments; it needs buffers for them, and without
them the 2-D one would be measured in its place.  Batch-invariant mode always takes the 2-D one (vLLM 0.26,
``vllm/v1/attention/backends/triton_attn.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.arms.vllm.installed import below_sm80, environment, missing, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Device

MODULE = "vllm.v1.attention.ops.triton_unified_attention"
OPERATORS = ("attention_decode", "attention_prefill", "attention_mixed")
# MIN_LAUNCH_GRID_SIZE_2D and NUM_PAR_SOFTMAX_SEGMENTS of the backend.
LEAST_GRID, SEGMENTS = 128, 16


def kernels() -> Mapping[str, Kernel]:
    """``unified_attention``, with the buffers that the backend allocates."""
    unified = importlib.import_module(MODULE).unified_attention
    buffers: dict[tuple[int, int, int], tuple[torch.Tensor, ...]] = {}

    def segments(heads: int, kv_heads: int, size: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The 3-D kernel's sums, maxima and totals by segment, for one head layout."""
        form = (LEAST_GRID // kv_heads, heads, SEGMENTS)
        padded = 1 << (size - 1).bit_length()
        if (heads, kv_heads, size) not in buffers:
            shapes = ((*form, padded), form, form)
            made = tuple(torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes)
            buffers[heads, kv_heads, size] = made
        return buffers[heads, kv_heads, size]

    def attention(
        q: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, batch: PagedBatch
    ) -> torch.Tensor:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        kv_heads = key_cache.shape[2]
        sums, maxima, totals = segments(q.shape[1], kv_heads, q.shape[2], q.device)
        out = torch.empty_like(q)
        unified(
            q=q,
            k=key_cache,
            v=value_cache,
            out=out,
            cu_seqlens_q=batch.cu_seqlens_q,
            max_seqlen_q=batch.most_queries,
            seqused_k=batch.seqused_k,
            max_seqlen_k=batch.most_keys,
            softmax_scale=batch.scale,
            causal=True,
            window_size=(-1, -1),
            block_table=batch.block_table,
            softcap=0,
            q_descale=None,
            k_descale=None,
            v_descale=None,
            seq_threshold_3D=LEAST_GRID // kv_heads,
            num_par_softmax_segments=SEGMENTS,
            softmax_segm_output=sums,
            softmax_segm_max=maxima,
            softmax_segm_expsum=totals,
        )
        return out

    return dict.fromkeys(OPERATORS, attention)


def unavailable(device: Device) -> str | None:
    """vLLM absent, or no CUDA GPU that Triton's matrix products run on."""
    return missing(device, "vLLM's Triton attention needs a CUDA GPU") or below_sm80(device)


def _arm(suffix: str, summary: str, claims: bool) -> Arm:
    return Arm(
        name=f"triton-unified{suffix}",
        kernels=kernels,
        claims=claims,
        summary=summary,
        environment=environment(batch_invariant=claims),
        unavailable=unavailable,
        provenance=lambda: f"vLLM {version()}: {MODULE}",
        compiles=True,
        offers=OPERATORS,
    )


ARMS = (
    _arm("", "vLLM's Triton attention: 3-D for small decode batches, else 2-D", claims=False),
    _arm("-invariant", "vLLM's Triton attention, always 2-D, as in batch-invariant mode", claims=True),
)
