"""Sequences of special values: one of each kind in `SPECIAL`, told by its values or its keys.

Logits are told by one component of every head, in which all their queries are positive: a key of -inf there is not
seen, and a large one is seen alone.
"""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.inputs.rows import FEW_LEFT
from kernels_bench.operators.inputs.sequences import Tokens
from kernels_bench.operators.inputs.special import EQUAL, LARGER, nan_with_payload, signs, subnormal
from kernels_bench.operators.inputs.splitmix64 import hashed_at

_MASKED_BLOCK, _SMALL_BLOCK = 128, 16
_LEFT = 33  # tokens that are seen after masked blocks, at least
_SPARSE, _QUARTER = 5, 4
_LARGE = 2.0**-9
"""As a part of the largest number: so many are added before their sum is divided."""


def masked_tokens(kv: torch.Tensor) -> torch.Tensor:
    """How many of a masked sequence's first keys are not seen: whole blocks of 128, else of 16, else half of them."""
    blocks = (kv - _LEFT).clamp(min=0) // _MASKED_BLOCK * _MASKED_BLOCK
    small = kv // 2 // _SMALL_BLOCK * _SMALL_BLOCK
    return torch.where(blocks > 0, blocks, torch.where(small > 0, small, kv // 2))


def make_queries_special(queries: torch.Tensor, size: int, component: int) -> None:
    """Make a component of every head positive, in place.

    Args:
        queries: of special sequences' tokens, (tokens, heads · size).
        size: of a head.
        component: which.
    """
    told = queries[:, component::size]
    told.copy_(told.abs() + 1)


def make_keys_special(keys: torch.Tensor, tokens: Tokens, kv: torch.Tensor, size: int, component: int) -> None:
    """Write -inf to keys that are masked, something large to one outlier, and the same to all that are constant.

    Of a sequence whose keys were masked throughout, a softmax has no meaning: its keys stay ordinary.

    Args:
        keys: of special sequences' tokens, (tokens, heads · size), changed in place.
        tokens: these tokens.
        kv: tokens of the sequence of each.
        size: of a head.
        component: of every head, that tells of a key's logit.
    """
    told = keys[:, component::size]
    masked = tokens.special("masked") & (tokens.place < masked_tokens(kv))
    told.masked_fill_(masked[:, None], -torch.inf)
    outlier = tokens.special("outlier") & (tokens.place == 2 * kv // 3)
    told.masked_fill_(outlier[:, None], LARGER)
    # The first key is the one that every query sees.
    told.masked_fill_((tokens.special("one left") & (tokens.place > 0))[:, None], -torch.inf)
    told.masked_fill_((tokens.special("few left") & (tokens.place >= FEW_LEFT))[:, None], -torch.inf)
    ended = tokens.special("masked end") & (tokens.place >= kv - kv // _QUARTER)
    told.masked_fill_(ended[:, None], -torch.inf)
    keys.masked_fill_(tokens.special("constant")[:, None], EQUAL)


def make_values_special(values: torch.Tensor, tokens: Tokens, size: int) -> None:
    """Write special numbers to all values, or to one component of the first token's in every head.

    The first token is the one that every query sees: what is beyond a query's sight shall not be infinite.

    Args:
        values: of special sequences' tokens, (tokens, heads · size), changed in place.
        tokens: these tokens.
        size: of a head.
    """
    dtype, device = values.dtype, values.device
    column = torch.arange(values.shape[1], device=device)
    everywhere = {
        "subnormal": subnormal(hashed_at(0, "subnormal", tokens.ids, values.shape[1]), dtype),
        "negative zero": torch.full((), -0.0, dtype=dtype, device=device),
        "signed zeros": (signs(tokens.place[:, None] + column) * 0.0).to(dtype),
        "sparse": torch.where((tokens.place % _SPARSE != 0)[:, None], 0.0, values.float()).to(dtype),
        "largest": (signs(tokens.place) * (torch.finfo(dtype).max * _LARGE)).to(dtype)[:, None],
    }
    for kind, instead in everywhere.items():
        values.copy_(torch.where(tokens.special(kind)[:, None], instead, values))
    told, first = values[:, size // 3 :: size], tokens.place == 0
    once = {
        "infinity": torch.full((), torch.inf, dtype=dtype, device=device),
        "negative infinity": torch.full((), -torch.inf, dtype=dtype, device=device),
        "NaN": nan_with_payload(dtype, device),
    }
    for kind, instead in once.items():
        told.copy_(torch.where((tokens.special(kind) & first)[:, None], instead, told))
