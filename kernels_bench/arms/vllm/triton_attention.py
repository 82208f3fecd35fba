"""``triton-unified``: vLLM's Triton attention over its paged cache, as its TRITON_ATTN backend calls it.

Small decode batches take its 3-D kernel, which splits the keys in 16 segments; it needs buffers for them, and without
them the 2-D one would be measured in its place.  Batch-invariant mode always takes the 2-D one (vLLM 0.26,
``vllm/v1/attention/backends/triton_attn.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from kernels_bench.arms.base import Arm, Candidate, Kernel
from kernels_bench.arms.vllm.installed import below_sm80, environment, loaded, missing, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.operators.paged import FP8, PLAIN, VARIANT, operators_of
from kernels_bench.records.cases import Device

MODULE = "vllm.v1.attention.ops.triton_unified_attention"
OPERATORS = operators_of(PLAIN, VARIANT, FP8)
# MIN_LAUNCH_GRID_SIZE_2D and NUM_PAR_SOFTMAX_SEGMENTS of the backend.
LEAST_GRID, SEGMENTS = 128, 16


def kernels(in_segments: bool = True) -> Mapping[str, Kernel]:
    """``unified_attention``.

    Args:
        in_segments: whether it has the buffers that the backend allocates; without them it takes its 2-D kernel.
    """
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
        made = segments(q.shape[1], kv_heads, q.shape[2], q.device) if in_segments else (None, None, None)
        sums, maxima, totals = made
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
            window_size=(batch.window - 1, 0) if batch.window else (-1, -1),
            block_table=batch.block_table,
            softcap=batch.softcap,
            q_descale=None,
            seq_threshold_3D=LEAST_GRID // kv_heads,
            num_par_softmax_segments=SEGMENTS,
            softmax_segm_output=sums,
            softmax_segm_max=maxima,
            softmax_segm_expsum=totals,
            sinks=batch.sinks,
            **_eight_bits(batch, kv_heads),
        )
        return out

    return dict.fromkeys(OPERATORS, attention)


def _eight_bits(batch: PagedBatch, kv_heads: int) -> dict[str, Any]:
    """What is said of caches in e4m3: a scale for all of each, as the layers of a model have them."""
    if batch.descale is None:
        return {"k_descale": None, "v_descale": None}
    each = (len(batch.lengths), kv_heads)
    keys, values = (scale.expand(each) for scale in batch.descale)
    mode = loaded("v1.kv_cache_interface", "KVQuantMode").FP8_PER_TENSOR
    return {"k_descale": keys, "v_descale": values, "kv_quant_mode": mode}


def candidates(device: Device) -> Mapping[str, Candidate]:
    """The 2-D kernel, whose order of addition does not follow from the batch, at every size."""
    return {"2d": Candidate(partial(kernels, in_segments=False), OPERATORS, order="2-D")}


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
        candidates=(lambda device: {}) if suffix else candidates,
    )


ARMS = (
    _arm("", "vLLM's Triton attention: 3-D for small decode batches, else 2-D", claims=False),
    _arm("-invariant", "vLLM's Triton attention, always 2-D, as in batch-invariant mode", claims=True),
)
