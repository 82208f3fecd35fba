"""The call of vLLM's FlashAttention 3, which a GPU runs.

Its number of KV splits, its tiles and its schedule follow from all sequences of the call, so that they are made again
for those that are left, as the engine makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from e2e.locate.calls.capture import NotSavedError, need_gpu
from e2e.locate.calls.launches import marked
from e2e.locate.calls.sequences import CapturedSequences, SavedSequences, SequenceWords, Share, sequences_of, tensors_of
from e2e.locate.seen.rows import NeedleRows

NAME = "FlashAttentionImpl"
KEY = "flash attention"
"""Under which a file holds such a call's words."""
VERSION = 3


class FlashWords(SequenceWords):
    """What is known of a call beside its tensors.

    Attributes:
        window: tokens that a query sees, itself among them; 0 for all.
        splits: of the keys, at most; 0 leaves them to the kernel's heuristic.
        scheduled: whether a schedule was made for the step beforehand.
    """

    window: Annotated[int, Field(ge=0, lt=1 << 31)]
    splits: Annotated[int, Field(ge=0, le=256)]
    scheduled: bool


def captured(impl: Any, args: Mapping[str, Any], rows: NeedleRows) -> CapturedSequences:
    """Keep a call that has just run; see `e2e.locate.calls.attention.captured`."""
    told = args["attn_metadata"]
    if refused := _refused(impl, told):
        raise NotSavedError(f"it is FlashAttention {refused}")
    sequences = sequences_of(told, rows)
    tensors = tensors_of(args, sequences["lengths"], rows)
    if impl.sinks is not None:
        tensors["sinks"] = impl.sinks.detach().cpu()
    words = FlashWords(
        where="",
        **sequences,
        scale=impl.scale,
        softcap=impl.logits_soft_cap or 0.0,
        window=_window(impl, told)[0] + 1,
        splits=told.max_num_splits,
        scheduled=told.scheduler_metadata is not None,
    )
    return CapturedSequences(KEY, words, tensors)


def _refused(impl: Any, told: Any) -> str:
    """Of which sort it is, where such a call cannot be saved; empty where it can."""
    version = impl.vllm_flash_attn_version
    sorts = {
        f"{version}, and only {VERSION}'s calls can be saved": version != VERSION,
        "over a cache in eight bits": str(impl.kv_cache_dtype).startswith("fp8"),
        "with slopes by distance": impl.alibi_slopes is not None,
        "that does not look backwards alone": told.causal is not True or _window(impl, told)[1] > 0,
        "over several GPUs' parts of a sequence": getattr(impl, "dcp_world_size", 1) > 1,
        "in a cascade": bool(getattr(told, "use_cascade", False)),
        "with a window of reference": getattr(told, "rswa_prefix_lens", None) is not None,
    }
    return next((sort for sort, is_one in sorts.items() if is_one), "")


def _window(impl: Any, told: Any) -> tuple[int, int]:
    """Tokens that a query sees before itself and after it, -1 for all: by step in vLLM 0.26, later by layer."""
    window = getattr(told, "sliding_window", None)
    before, after = window if window is not None else impl.sliding_window or (-1, -1)
    return int(before), int(after)


class SavedFlashAttention(SavedSequences):
    """The call in a file.

    Raises:
        ImportError: vLLM is not here.
        ReplayError: a GPU is not.
    """

    def __init__(self, told: FlashWords, tensors: Mapping[str, Any]) -> None:
        need_gpu()
        from kernels_bench.arms.vllm.flash_attention3 import FlashAttention3

        super().__init__(told, tensors)
        self._told, self._kernel = told, FlashAttention3(told.splits, told.scheduled)

    def _attend(self, shares: Sequence[Share], query: Any, cache: Any) -> Any:
        """See `SavedSequences._attend`; caches are (blocks, heads, slots, 2 × width), as the engine has them."""
        import torch

        from kernels_bench.operators.inputs.paged_batch import PagedBatch

        told, device = self._told, torch.device("cuda")
        sinks = self._tensors.get("sinks")
        lengths = torch.tensor([[one.queries, one.keys] for one in shares])
        batch = PagedBatch(
            cu_seqlens_q=torch.cat([torch.zeros(1, dtype=torch.int64), lengths[:, 0].cumsum(0)]).int().to(device),
            seqused_k=lengths[:, 1].int().to(device),
            block_table=self._tensors["table"][[one.sequence for one in shares]].to(device),
            lengths=lengths,
            scale=told.scale,
            window=told.window,
            softcap=told.softcap,
            sinks=None if sinks is None else sinks.to(device),
        )
        keys, values = cache.to(device).transpose(1, 2).split(query.shape[2], dim=-1)
        call = self._kernel.prepare(query.to(device), keys, values, batch)
        with marked():
            out: Any = call()
        return out.view(len(out), -1).cpu()
