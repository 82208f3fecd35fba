"""``torch-flex``: FlexAttention over a padded batch, as a user without vLLM would write it.

Like `padded_attention` it gathers the pages and pads to the longest sequence; who sees whom is a mask function, and a
block mask keeps it from computing what nobody sees.  On a GPU it is compiled, as its documentation asks; on a CPU it
is not, since there compiling takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import Arm, Kernel, PreparedKernel
from kernels_bench.arms.pytorch.calls import padded_attention as padding
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.paged import FP8, PLAIN, VARIANT, operators_of
from kernels_bench.records.cases import Device

if TYPE_CHECKING:
    from torch import Tensor

OPERATORS = operators_of(PLAIN, VARIANT, FP8)
RECOMPILES = 64
BLOCK = 128  # FlexAttention's own default


class FlexAttention(PreparedKernel):
    """The call over a paged cache.

    Args:
        attend: ``flex_attention``, compiled or not.
    """

    def __init__(self, attend: Callable[..., Any]) -> None:
        self._attend = attend

    def prepare(self, *arguments: Any) -> Callable[[], Tensor]:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        token_bytes = key_cache[0, 0].numel() * q.element_size()
        rules: dict[str, Any] = {"scale": batch.scale, "enable_gqa": True}
        if batch.softcap:
            rules["score_mod"] = capped_at(batch.softcap)
        parts = [
            partial(self._part, part, {**rules, "block_mask": block_mask(part)}, batch.sinks, q, key_cache, value_cache)
            for part in padding.parts(batch, token_bytes)
        ]
        return lambda: torch.cat([part() for part in parts])

    def _part(
        self,
        part: padding.Part,
        rules: Mapping[str, Any],
        sinks: Tensor | None,
        q: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
    ) -> Tensor:
        queries, (keys, values) = part.queries(q), part.gathered((key_cache, value_cache), q.dtype)
        if sinks is None:
            padded: Tensor = self._attend(queries, keys, values, **rules)
        else:
            padded = self._beside_sinks(queries, keys, values, sinks, rules)
        return part.unpadded(padded.transpose(1, 2))

    def _beside_sinks(
        self, queries: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, rules: Mapping[str, Any]
    ) -> Tensor:
        """A sink takes its share of the softmax, which is known once the sum over the keys is."""
        from torch.nn.attention.flex_attention import AuxRequest

        found, beside = self._attend(queries, keys, values, return_aux=AuxRequest(lse=True), **rules)
        share = torch.sigmoid(beside.lse - sinks.float()[:, None])
        whole: Tensor = (found * share[..., None]).to(queries.dtype)
        return whole


def capped_at(softcap: float) -> Callable[..., Tensor]:
    """softcap · tanh(score / softcap), as FlexAttention is told it."""

    def capped(score: Tensor, entry: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        bounded: Tensor = softcap * (score / softcap).tanh()  # what is imported on first use cannot be traced
        return bounded

    return capped


def block_mask(part: padding.Part) -> Any:
    """Which blocks of keys each block of queries of an entry sees.

    All up to its last query's own place, and from the first key of its first query's window on.
    """
    from torch.nn.attention.flex_attention import BlockMask

    entries = len(part.counts)
    query_blocks, key_blocks = -(-part.most_queries // BLOCK), -(-part.most_keys // BLOCK)
    first = torch.arange(query_blocks, device=part.counts.device)[None] * BLOCK
    before = (part.used - part.counts)[:, None]
    seen = torch.where(first < part.counts[:, None], before + torch.minimum(first + BLOCK, part.counts[:, None]), 0)
    oldest = (before + first + 1 - part.window).clamp(min=0) if part.window else torch.zeros_like(seen)
    skipped = torch.minimum(oldest // BLOCK, (key_blocks - 1) + 0 * seen)
    blocks = torch.arange(key_blocks, dtype=torch.int32, device=part.counts.device)
    # Those that are looked at come first; what follows them is not read.
    order = (blocks + skipped[..., None]).clamp(max=key_blocks - 1).to(torch.int32)

    def sees(entry: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        found: Tensor = key <= before[entry, 0] + query
        if part.window:
            found = found & (key > before[entry, 0] + query - part.window)
        return found

    return BlockMask.from_kv_blocks(
        (-(-seen // BLOCK) - skipped).clamp(min=0).to(torch.int32)[:, None],
        order[:, None].expand(entries, 1, query_blocks, key_blocks).contiguous(),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(part.most_queries, part.most_keys),
    )


def kernels() -> Mapping[str, Kernel]:
    """One function serves all batches; of any size, without being compiled for each."""
    from torch.nn.attention.flex_attention import flex_attention

    eager: Any = flex_attention
    return dict.fromkeys(OPERATORS, FlexAttention(_compiled(eager) if torch.cuda.is_available() else eager))


def _compiled(attend: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for any sizes; never silently not, which would be another kernel, one that holds all scores at once."""
    import torch._dynamo

    # A size of one, and short queries, are cases of their own for the compiler: more of them than it expects.
    torch._dynamo.config.recompile_limit = RECOMPILES
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    compiled: Callable[..., Any] = torch.compile(attend, dynamic=True)
    return compiled


def caveat(device: Device) -> str:
    """What a CPU's results are of."""
    return "" if device.type == "cuda" else "FlexAttention is not compiled on a CPU: its speed there means little"


ARM = Arm(
    name="torch-flex",
    kernels=kernels,
    claims=False,
    unavailable=lambda device: "torch compiles FlexAttention for no NPU" if device.type == "npu" else None,
    summary="torch's FlexAttention over a padded batch",
    caveat=caveat,
    provenance=lambda: f"torch {torch.__version__}: torch.nn.attention.flex_attention",
    compiles=True,
    offers=OPERATORS,
    brief=OPERATORS,
)
