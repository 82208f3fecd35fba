"""Decode with multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), in the form in which engines compute it.

The cache holds one vector a token: the compressed keys and values, which are one and the same, and after them the part
of the key that carries the position. All heads share it; what projects it up is absorbed into the queries and into what
follows (`bmm_heads`).
"""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.attention import AttentionDecode
from kernels_bench.operators.base import Tensors
from kernels_bench.operators.inputs.sequences import Tokens, keys_of, queries_of, values_of
from kernels_bench.records.cases import Shape

LATENT = models.LATENT
_NOPE = 128  # of each head's key before it is absorbed, without the positional part
_QUIET = 2.0**-6


class MlaDecode(AttentionDecode):
    """softmax(q kᵀ · scale) k[:512], where k is what the cache holds of each token.

    A kernel takes q (queries, heads, 576), the cache (pages, page, 576) and a `PagedBatch`, and returns
    (queries, heads, 512). The scale is that of keys of 192, which is what a head has before it is absorbed.
    """

    name = "mla_decode"
    summary = "one query a sequence over its paged cache of latent vectors"
    shapes = models.latent_layouts()
    usual = ("deepseek-v3", "deepseek-v2-lite")
    quick = ()  # a short run's time goes to what every engine runs
    timed_shapes = (*usual, "small")
    family = "attention"
    telling = LATENT

    def slots(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        """One vector a token."""
        return ((shape.k,),)

    def queries(self, seed: int, tokens: Tokens, width: int) -> torch.Tensor:
        """fp32 queries; small ones where values span twelve binades, since here they are the keys too."""
        drawn = queries_of(seed, tokens, width)
        return torch.where(tokens.of_kind("wide", seed)[:, None], drawn * _QUIET, drawn)

    def cached(self, seed: int, tokens: Tokens, kv: torch.Tensor, shape: Shape) -> Tensors:
        """The latent vector has values' data, the positional part has keys'."""
        positional = shape.k - LATENT
        latent = values_of(seed, tokens, kv, LATENT)
        return (torch.cat([latent, keys_of(seed, tokens, kv, positional, positional)], 1),)

    def keys_and_values(self, weights: Tensors) -> Tensors:
        """All of the cache, and its first 512 columns; one head has them."""
        (cache,) = weights
        return cache[:, :, None], cache[:, :, None, :LATENT]

    def keys_and_values_by_token(self, cached: Tensors) -> Tensors:
        """The whole vector, and its first 512 elements."""
        (vectors,) = cached
        return vectors, vectors[:, :LATENT]

    def probing_slots(self, values: torch.Tensor, level: torch.Tensor, shape: Shape) -> Tensors:
        """The values, then the logit where the positional part begins."""
        slots = values.new_zeros(len(values), shape.k)
        slots[:, :LATENT] = values[:, 0]
        slots[:, LATENT] = level[:, 0, 0]
        return (slots,)

    def value_size(self, shape: Shape) -> int:
        """512."""
        return LATENT

    def scale(self, width: int) -> float:
        """That of the keys which are absorbed."""
        return float((width - LATENT + _NOPE) ** -0.5)


ORDER = 2
OPERATORS = (MlaDecode(),)
