"""``torch-flex``: FlexAttention over a padded batch, as a user without vLLM would write it.

Like `torch_attention` it gathers the pages and pads to the longest sequence; who sees whom is a mask function, and a
block mask keeps it from computing what nobody sees.  On a GPU it is compiled, as its documentation asks; on a CPU it
is not, since there compiling takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kernels_bench.arms.base import Arm, Kernel, PreparedKernel
from kernels_bench.arms.pytorch import padded_attention as padding
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device

if TYPE_CHECKING:
    from torch import Tensor

OPERATORS = ("attention_decode", "attention_prefill", "attention_mixed")
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
        token_bytes = key_cache[0, 0].numel() * key_cache.element_size()
        parts = [
            partial(self._part, part, block_mask(part), q, key_cache, value_cache)
            for part in padding.parts(batch, token_bytes)
        ]
        return lambda: torch.cat([part() for part in parts])

    def _part(self, part: padding.Part, mask: Any, q: Tensor, key_cache: Tensor, value_cache: Tensor) -> Tensor:
        queries = part.queries(q)
        keys, values = part.gathered(key_cache), part.gathered(value_cache)
        padded: Tensor = self._attend(queries, keys, values, block_mask=mask, scale=part.scale, enable_gqa=True)
        return part.unpadded(padded.transpose(1, 2))


def block_mask(part: padding.Part) -> Any:
    """Which blocks of keys each block of queries of an entry sees: all up to its last query's own place."""
    from torch.nn.attention.flex_attention import BlockMask

    entries = len(part.counts)
    query_blocks, key_blocks = -(-part.most_queries // BLOCK), -(-part.most_keys // BLOCK)
    first = torch.arange(query_blocks, device=part.counts.device)[None] * BLOCK
    before = (part.used - part.counts)[:, None]
    seen = torch.where(first < part.counts[:, None], before + torch.minimum(first + BLOCK, part.counts[:, None]), 0)
    blocks = torch.arange(key_blocks, dtype=torch.int32, device=part.counts.device)

    def sees(entry: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        found: Tensor = key <= before[entry, 0] + query
        return found

    return BlockMask.from_kv_blocks(
        (-(-seen // BLOCK)).to(torch.int32)[:, None],
        blocks.expand(entries, 1, query_blocks, key_blocks).contiguous(),
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
    summary="torch's FlexAttention over a padded batch",
    caveat=caveat,
    provenance=lambda: f"torch {torch.__version__}: torch.nn.attention.flex_attention",
    compiles=True,
    offers=OPERATORS,
    brief=OPERATORS,
)
