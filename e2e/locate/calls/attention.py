"""The call of attention with its real inputs: query rows, the sequences' own cached keys and values, and their lengths.

Only vLLM's attention for CPUs is known here.  What it plans for its threads depends on all sequences of the call, so
that the plan is made again for those that are left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from e2e.locate.calls.capture import NotSavedError, write
from e2e.locate.seen.rows import NeedleRows
from profiles.run_files.record import Record

KNOWN = "CPUAttentionBackendImpl"
Count = Annotated[int, Field(ge=1, lt=1 << 31)]


class AttentionWords(Record):
    """What is known of a call beside its tensors.

    Attributes:
        where: in words, the place in the engine.
        place: which of the sequences is the needle.
        lengths: of the sequences, cached tokens and those of the call.
        queries: tokens of each in the call.
        scale: of the scores.
        softcap: of the scores; 0 for none.
        window: tokens that a query sees; -1 for all.
        causal: whether it sees none after it.
        isa: the processor's instructions that the kernel is made of, as vLLM names them.
        cache_dtype: as vLLM names it.
        scales: of cached keys and values.
        split: whether a sequence's keys may be divided among threads.
        threads: that PyTorch had.
    """

    where: str
    place: Annotated[int, Field(ge=0)]
    lengths: tuple[Count, ...]
    queries: tuple[Count, ...]
    scale: float
    softcap: float
    window: int
    causal: bool
    isa: str
    cache_dtype: str
    scales: tuple[float, float]
    split: bool
    threads: Annotated[int, Field(ge=1, le=1 << 16)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.lengths) != len(self.queries) or self.place >= len(self.lengths):
            raise ValueError("the needle is not among the sequences of the call")
        return self


class CapturedAttention:
    """A call that has just run.

    Args:
        impl: vLLM's implementation of it.
        args: of its ``forward``, by name.
        rows: where the needle stands in the step.

    Raises:
        NotSavedError: it is another implementation, or takes what cannot be saved.
    """

    def __init__(self, impl: Any, args: Mapping[str, Any], rows: NeedleRows) -> None:
        import torch
        from vllm import envs

        told: Any = args.get("attn_metadata")
        if type(impl).__name__ != KNOWN or not hasattr(told, "seq_lens"):
            raise NotSavedError(f"it is {type(impl).__name__}'s; of attention only {KNOWN}'s call can be")
        if getattr(told, "dynamic_causal", None) is not None or getattr(told, "encoder_cache", None) is not None:
            raise NotSavedError("it is attention with a mask of its own, or an encoder's")
        cache, layer = args["kv_cache"], args["layer"]
        starts = told.query_start_loc.tolist()
        lengths = told.seq_lens[: rows.sequences].tolist()
        slots = cache.shape[2]
        blocks = [told.block_table[at, : -(-length // slots)].tolist() for at, length in enumerate(lengths)]
        kept = sorted({block for own in blocks for block in own})
        places = {block: place for place, block in enumerate(kept)}
        table = torch.zeros(len(blocks), max(map(len, blocks)), dtype=torch.int32)
        for at, own in enumerate(blocks):
            table[at, : len(own)] = torch.tensor([places[block] for block in own], dtype=torch.int32)
        mine = slice(rows.offset, rows.offset + rows.count)
        self._tensors = {
            "query": args["query"][: rows.tokens].detach().clone(),
            "cache": cache.index_select(0, torch.tensor(kept)),
            "table": table,
            "expected": args["output"].detach().view(len(args["output"]), -1)[mine].clone(),
        }
        for name, one in (("sinks", impl.sinks), ("alibi", impl.alibi_slopes)):
            if one is not None:
                self._tensors[name] = one.detach().clone()
        self._words = AttentionWords(
            where="",
            place=rows.place,
            lengths=tuple(lengths),
            queries=tuple(b - a for a, b in pairwise(starts[: rows.sequences + 1])),
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

    def save(self, file: Path, where: str) -> None:
        """Write it; see `e2e.locate.calls.capture.Captured.save`."""
        words = self._words.model_copy(update={"where": where})
        write(file, self._tensors, {"attention": json.dumps(words.model_dump())})


class SavedAttention:
    """Attention's call; see `e2e.locate.calls.replay.SavedCall`.

    Args:
        told: what `CapturedAttention.save` wrote as JSON.
        tensors: by name.

    Attributes:
        fewest: sequences of the call with the needle alone.
        most: sequences of the call as it was.
    """

    unit: Literal["sequences"] = "sequences"

    def __init__(self, told: AttentionWords, tensors: Mapping[str, Any]) -> None:
        import torch
        from vllm import _custom_ops as ops
        from vllm.platforms import current_platform

        current_platform.import_kernels()
        if told.isa == "amx":
            torch.cpu._init_amx()  # in an engine a product of torch's has asked for it before
        torch.set_num_threads(told.threads)
        self._told, self._tensors, self._ops = told, dict(tensors), ops
        self.fewest, self.most = 1, len(told.lengths)

    @property
    def expected(self) -> list[Any]:
        """The needle's rows as they came out in the engine."""
        return [self._tensors["expected"]]

    def needle_of(self, size: int, *, zeros: bool = False) -> list[Any]:
        """The needle's rows of what comes out of a call of so many sequences.

        Args:
            size: at least 1, the needle itself.
            zeros: whether the neighbours' queries, keys and values are zeros.
        """
        import torch

        told = self._told
        others = [at for at in range(self.most) if at != told.place][: size - 1]
        picked = sorted([told.place, *others])
        bounds = torch.tensor([0, *told.queries]).cumsum(0).tolist()
        parts = {at: self._tensors["query"][bounds[at] : bounds[at + 1]] for at in picked}
        cache = self._tensors["cache"]
        if zeros:
            own = self._blocks([told.place])
            parts = {at: part if at == told.place else torch.zeros_like(part) for at, part in parts.items()}
            kept = torch.zeros_like(cache)
            kept[own] = cache[own]
            cache = kept
        out = self._attend(picked, torch.cat(list(parts.values())), cache)
        start = sum(told.queries[at] for at in picked if at < told.place)
        return [out[start : start + told.queries[told.place]].clone()]

    def _blocks(self, sequences: Sequence[int]) -> list[int]:
        slots = self._tensors["cache"].shape[2]
        table = self._tensors["table"]
        return sorted({int(b) for at in sequences for b in table[at, : -(-self._told.lengths[at] // slots)]})

    def _attend(self, picked: Sequence[int], query: Any, cache: Any) -> Any:
        """Attention of the picked sequences, by vLLM's operator for CPUs: a row for each token."""
        import torch

        told = self._told
        blocks, heads, slots, width = cache.shape
        keys, values = cache.view(blocks, heads, 2 * slots, width // 2).chunk(2, dim=2)
        lengths = torch.tensor([told.lengths[at] for at in picked], dtype=torch.int32)
        starts = torch.tensor([0, *(told.queries[at] for at in picked)]).cumsum(0).to(torch.int32)
        plan = self._ops.cpu_attn_get_scheduler_metadata(
            num_reqs=len(picked),
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
            self._tensors["table"][list(picked)],
            told.softcap,
            plan,
            self._tensors.get("sinks"),
            k_scale=told.scales[0],
            v_scale=told.scales[1],
            kv_cache_dtype=told.cache_dtype,
        )
        return out.view(len(out), -1)
