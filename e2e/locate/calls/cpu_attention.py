"""The call of vLLM's attention for CPUs.

What it plans for its threads depends on all sequences of the call, so that the plan is made again for those that are
left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from e2e.locate.calls.capture import NotSavedError
from e2e.locate.calls.launches import marked
from e2e.locate.calls.sequences import CapturedSequences, SavedSequences, SequenceWords, Share, sequences_of, tensors_of
from e2e.locate.seen.rows import NeedleRows

NAME = "CPUAttentionBackendImpl"
KEY = "attention"
"""Under which a file holds such a call's words."""


class CpuWords(SequenceWords):
    """What is known of a call beside its tensors.

    Attributes:
        window: tokens that a query sees; -1 for all.
        causal: whether it sees none after it.
        isa: the processor's instructions that the kernel is made of, as vLLM names them.
        cache_dtype: as vLLM names it.
        scales: of cached keys and values.
        split: whether a sequence's keys may be divided among threads.
        threads: that PyTorch had.
    """

    window: int
    causal: bool
    isa: str
    cache_dtype: str
    scales: tuple[float, float]
    split: bool
    threads: Annotated[int, Field(ge=1, le=1 << 16)]


def captured(impl: Any, args: Mapping[str, Any], rows: NeedleRows) -> CapturedSequences:
    """Keep a call that has just run; see `e2e.locate.calls.attention.captured`."""
    import torch
    from vllm import envs

    told, layer = args["attn_metadata"], args["layer"]
    if getattr(told, "dynamic_causal", None) is not None or getattr(told, "encoder_cache", None) is not None:
        raise NotSavedError("it is attention with a mask of its own, or an encoder's")
    sequences = sequences_of(told, rows)
    tensors = tensors_of(args, sequences["lengths"], rows)
    for name, one in (("sinks", impl.sinks), ("alibi", impl.alibi_slopes)):
        if one is not None:
            tensors[name] = one.detach().clone()
    words = CpuWords(
        where="",
        **sequences,
        scale=impl.scale,
        softcap=impl.logits_soft_cap,
        window=impl.sliding_window,
        causal=bool(told.causal),
        isa=layer.isa,
        cache_dtype=impl.kv_cache_dtype,
        scales=(layer._k_scale_float, layer._v_scale_float),
        split=envs.VLLM_CPU_ATTN_SPLIT_KV,
        threads=torch.get_num_threads(),
    )
    return CapturedSequences(KEY, words, tensors)


class SavedCpuAttention(SavedSequences):
    """The call in a file.

    Raises:
        ImportError: vLLM is not here.
    """

    def __init__(self, told: CpuWords, tensors: Mapping[str, Any]) -> None:
        import torch
        from vllm import _custom_ops as ops
        from vllm.platforms import current_platform

        super().__init__(told, tensors)
        current_platform.import_kernels()
        if told.isa == "amx":
            torch.cpu._init_amx()  # in an engine a product of torch's has asked for it before
        torch.set_num_threads(told.threads)
        self._told, self._ops = told, ops

    def _attend(self, shares: Sequence[Share], query: Any, cache: Any) -> Any:
        """See `SavedSequences._attend`; by vLLM's operator for CPUs."""
        import torch

        told = self._told
        blocks, heads, slots, width = cache.shape
        keys, values = cache.view(blocks, heads, 2 * slots, width // 2).chunk(2, dim=2)
        lengths = torch.tensor([one.keys for one in shares], dtype=torch.int32)
        starts = torch.tensor([0, *(one.queries for one in shares)]).cumsum(0).to(torch.int32)
        plan = self._ops.cpu_attn_get_scheduler_metadata(
            num_reqs=len(shares),
            num_heads=query.shape[1],
            num_kv_heads=heads,
            head_dim=query.shape[2],
            seq_lens=lengths,
            dtype=query.dtype,
            query_start_loc=starts,
            causal=told.causal,
            sliding_window_size=told.window,
            isa=told.isa,
            enable_kv_split=told.split,
            kv_cache_dtype=told.cache_dtype,
        )
        out = torch.zeros_like(query)
        with marked():
            self._ops.cpu_attention_with_kv_cache(
                query,
                keys,
                values,
                out,
                starts,
                lengths,
                told.scale,
                told.causal,
                self._tensors.get("alibi"),
                told.window,
                self._tensors["table"][[one.sequence for one in shares]],
                told.softcap,
                plan,
                self._tensors.get("sinks"),
                k_scale=told.scales[0],
                v_scale=told.scales[1],
                kv_cache_dtype=told.cache_dtype,
            )
        return out.view(len(out), -1)
