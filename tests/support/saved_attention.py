"""Calls of vLLM's attention for CPUs, in which a long sequence may be divided among threads; saved, and run alone.

Run as a program, it prints a line without and one with such a division: whether the needle's bits are those alone, and
what came of the saved call.  Its argument is where calls are kept.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from e2e.locate.calls.attention import captured
from e2e.locate.calls.replay import replay
from e2e.locate.seen.rows import NeedleRows

HEADS, KV_HEADS, WIDTH, SLOTS = 9, 3, 64, 128
SPLIT = "VLLM_CPU_ATTN_SPLIT_KV"
LENGTHS, QUERIES, NEEDLE = (300, 700, 90, 600), (1, 1, 3, 1), 1


def cache_and_table(ops: Any, isa: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences' keys and values, in blocks that lie in no order."""
    draw = torch.Generator().manual_seed(5)
    counts = [-(-length // SLOTS) for length in LENGTHS]
    blocks = torch.randperm(sum(counts), generator=draw) + 3
    table = torch.nn.utils.rnn.pad_sequence(list(blocks.split(counts)), batch_first=True)
    cache = torch.zeros(int(blocks.max()) + 5, KV_HEADS, SLOTS, 2 * WIDTH, dtype=torch.bfloat16)
    keys, values = cache.view(len(cache), KV_HEADS, 2 * SLOTS, WIDTH).chunk(2, dim=2)
    for at, length in enumerate(LENGTHS):
        key, value = torch.randn(2, length, KV_HEADS, WIDTH, generator=draw).bfloat16()
        place = torch.arange(length)
        ops.cpu_attn_reshape_and_cache(key, value, keys, values, table[at][place // SLOTS] * SLOTS + place % SLOTS, isa)
    return cache, table.to(torch.int32)


def attended(ops: Any, attention: Any, isa: str, picked: list[int]) -> tuple[Any, dict[str, Any]]:
    """What vLLM's implementation gives of some of the sequences, and what it was given."""
    cache, table = cache_and_table(ops, isa)
    queries = [QUERIES[at] for at in picked]
    starts = torch.tensor([0, *queries]).cumsum(0).to(torch.int32)
    lengths = torch.tensor([LENGTHS[at] for at in picked], dtype=torch.int32)
    split = os.environ[SPLIT] == "1"
    plan = ops.cpu_attn_get_scheduler_metadata(
        len(picked), HEADS, KV_HEADS, WIDTH, lengths, torch.bfloat16, starts, True, -1, isa, split
    )
    told = attention.CPUAttentionMetadata(
        sum(queries), max(queries), starts, int(lengths.max()), lengths, table[picked], torch.zeros(0), plan
    )
    impl = object.__new__(attention.CPUAttentionBackendImpl)  # as an engine makes it, which no call needs
    own = {"scale": 0.125, "logits_soft_cap": 0.0, "sliding_window": -1, "kv_cache_dtype": "auto", "sinks": None}
    vars(impl).update(own | {"alibi_slopes": None, "attn_type": "decoder", "use_zentorch_sdpa": False})
    layer = SimpleNamespace(isa=isa, _k_scale_float=1.0, _v_scale_float=1.0)
    whole = torch.randn(sum(QUERIES), HEADS, WIDTH, generator=torch.Generator().manual_seed(6)).bfloat16()
    query = torch.cat([whole.split(QUERIES)[at] for at in picked])
    names = ("layer", "query", "key", "value", "kv_cache", "attn_metadata", "output")
    args = dict(zip(names, (layer, query, query, query, cache, told, torch.zeros_like(query)), strict=True))
    impl.forward(**args)
    return impl, args


def main() -> None:
    """Attend in company and alone, keep the call in company, and run it alone."""
    from vllm import _custom_ops as ops
    from vllm.platforms import current_platform
    from vllm.v1.attention.backends import cpu_attn

    current_platform.import_kernels()
    torch.set_num_threads(2)
    isa = cpu_attn._get_attn_isa(torch.bfloat16, SLOTS, WIDTH, "auto")
    if isa == "amx":
        torch.cpu._init_amx()
    first = sum(QUERIES[:NEEDLE])
    rows = NeedleRows("0", NEEDLE, first, QUERIES[NEEDLE], 0, sum(QUERIES), sum(QUERIES), len(LENGTHS))
    for split in ("0", "1"):
        os.environ[SPLIT] = split
        impl, args = attended(ops, cpu_attn, isa, list(range(len(LENGTHS))))
        file = Path(sys.argv[1]) / f"{split}.safetensors"
        captured(impl, args, rows).save(file, "somewhere")
        alone = attended(ops, cpu_attn, isa, [NEEDLE])[1]["output"]
        same = torch.equal(alone, args["output"][first : first + QUERIES[NEEDLE]])
        print(json.dumps({"same": same, "found": replay(file).model_dump()}))


if __name__ == "__main__":
    main()
