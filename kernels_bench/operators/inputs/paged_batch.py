"""What an attention kernel is told of a batch over a paged KV cache, beside the queries and the cache itself."""

from __future__ import annotations

from typing import NamedTuple

from kernels_bench.device.lazy_torch import torch


class PagedBatch(NamedTuple):
    """The entries of a batch, as engines keep them: on the device, and their lengths on the host too.

    An entry's last query sees all of its keys, the one before one fewer, and so on.

    Attributes:
        cu_seqlens_q: where each entry's queries begin, and where the last one's end: int32 (entries + 1).
        seqused_k: keys of each entry: int32 (entries).
        block_table: pages of each entry in order, the rest arbitrary: int32 (entries, pages).
        lengths: queries and keys of each entry, on the host: int64 (entries, 2).
        scale: what logits are multiplied by.
        window: keys that a query sees at most, the last ones up to its own; 0: all up to its own.
        softcap: after the scale, logits become softcap · tanh(logit / softcap); 0: they stay.
        sinks: of each query head a logit that takes part in the softmax and has no value, (heads); None: none.
        descale: what the numbers in the key cache, and in the value cache, are multiplied by, fp32 (1) each, where they
            have eight bits; None elsewhere.
    """

    cu_seqlens_q: torch.Tensor
    seqused_k: torch.Tensor
    block_table: torch.Tensor
    lengths: torch.Tensor
    scale: float
    window: int = 0
    softcap: float = 0.0
    sinks: torch.Tensor | None = None
    descale: tuple[torch.Tensor, torch.Tensor] | None = None

    def entry_of_queries(self) -> torch.Tensor:
        """The entry that each query belongs to: int64 (queries), on the batch's device; waits for nothing."""
        ends = self.cu_seqlens_q[1:]
        places = torch.arange(int(self.lengths[:, 0].sum()), dtype=ends.dtype, device=ends.device)
        # On a CPU `repeat_interleave` wakes all threads, for many times what it takes one to search.
        return torch.bucketize(places, ends, right=True)

    def seen_keys(self) -> torch.Tensor:
        """How many keys each query sees: int64 (queries), on the batch's device; waits for nothing."""
        entry = self.entry_of_queries()
        # An entry's last query sees all its keys, whose place among the queries is one before the next entry's first.
        behind = self.cu_seqlens_q[1:].long()[entry] - torch.arange(len(entry), device=entry.device) - 1
        return self.seqused_k.long()[entry] - behind

    @property
    def most_queries(self) -> int:
        """Queries of the entry that has most."""
        return int(self.lengths[:, 0].max())

    @property
    def most_keys(self) -> int:
        """Keys of the entry that has most."""
        return int(self.lengths[:, 1].max())


def packed(cu_seqlens: torch.Tensor, scale: float) -> PagedBatch:
    """Whole packed sequences as entries over pages of one token each."""
    counts = cu_seqlens.diff()
    places = torch.arange(int(counts.max()), dtype=torch.int32, device=counts.device)
    table = (cu_seqlens[:-1, None] + places).minimum(cu_seqlens[1:, None] - 1)
    return PagedBatch(cu_seqlens, counts, table, torch.stack([counts, counts], 1).long().cpu(), scale)
