"""Attention over some keys in float64, and how far from it an honest kernel may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kernels_bench.device.host_to_device import copy_to_device
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import roundoff, smallest
from kernels_bench.operators.gemm import exact_product

HIGHEST_LOGIT = 16
"""What logits reach, about."""
TANH_ROUNDOFF = 2.0**-11
"""Relative error of the tanh that GPUs compute in one instruction, ``tanh.approx.f32``."""


class Rules(NamedTuple):
    """What a softmax over keys does beside being causal.

    Attributes:
        window: keys that a query sees at most, its own among them; 0: all up to its own.
        softcap: what logits are kept below; 0: they stay.
        sinks: a logit of each head without a value, (heads); None: there are none.
    """

    window: int = 0
    softcap: float = 0.0
    sinks: torch.Tensor | None = None


CAUSAL = Rules()


def attend(
    queries: torch.Tensor, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rules: Rules,
    least: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Attention of scaled queries of one sequence, in float64.

    Args:
        queries: (lines, heads, d).
        tokens: the place of each in the sequence, (lines).
        keys: (kv_heads, n, d).
        values: (kv_heads, n, …).
        rules: which of the keys are seen, and what becomes of logits.
        least: each seen key's weight, as a share of the largest one's or of the sink's, counts as so much at least.
    """
    lines, heads, width = queries.shape
    kv_heads, count, _ = keys.shape
    grouped = queries.view(lines, kv_heads, heads // kv_heads, width).permute(1, 2, 0, 3).flatten(1, 2)
    logits = exact_product(grouped, keys.transpose(1, 2))
    if rules.softcap:
        logits = rules.softcap * torch.tanh(logits / rules.softcap)
    place = torch.arange(count, device=tokens.device)
    unseen = place > tokens[:, None]
    if rules.window:
        unseen |= place <= tokens[:, None] - rules.window
    logits = logits.view(kv_heads, -1, lines, count).masked_fill_(unseen, -torch.inf).flatten(1, 2)
    highest = logits.amax(-1, keepdim=True)
    beside: torch.Tensor | float = 0.0
    if rules.sinks is not None:
        sinks = rules.sinks.double().view(kv_heads, -1, 1, 1).expand(-1, -1, lines, 1).flatten(1, 2)
        highest = torch.maximum(highest, sinks)
        beside = (sinks - highest).exp()
    weight = (logits - highest).exp_()
    total = weight.sum(-1, keepdim=True) + beside
    if least:
        weight = weight.clamp_(min=least).masked_fill_(logits == -torch.inf, 0.0)
    weight = weight / total
    return exact_product(weight, values).view(kv_heads, -1, lines, values.shape[-1]).permute(2, 0, 1, 3).flatten(1, 2)


def allowed(
    queries: torch.Tensor, size: torch.Tensor, exact: torch.Tensor, out: torch.dtype, rules: Rules
) -> torch.Tensor:
    """How far a kernel may be from ``exact``; ``size`` is the probabilities' product with the values' sizes.

    Probabilities count there as `least_weight` at least.
    """
    # Logits reach about 16, and an exponential magnifies its argument's error by nothing but its own size.
    wide = 64 * roundoff(torch.float32) * queries.shape[-1] ** 0.5
    if rules.softcap:
        wide += 2 * min(rules.softcap, HIGHEST_LOGIT) * TANH_ROUNDOFF
    found: torch.Tensor = size * (2 * roundoff(queries.dtype) + wide) + exact.abs() * 2 * roundoff(out)
    return found + smallest(out)


def least_weight(dtype: torch.dtype) -> float:
    """Below this a weight loses more than a rounding's share of itself, where a kernel rounds it to a dtype.

    It matters in fp16 alone, and most beside a sink that is far above all logits: then every weight is so small.
    """
    return torch.finfo(dtype).smallest_normal if dtype == torch.float16 else 0.0


def by_sequence(rows: torch.Tensor, tokens: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Each sequence, how many of its keys are seen by some line, and the places of its lines; waits once for all."""
    row, token = torch.stack([rows, tokens]).cpu().numpy()
    order = np.argsort(row, kind="stable")
    places = copy_to_device(order, rows.device)
    ends = np.append(np.flatnonzero(np.diff(row[order])) + 1, len(row))
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        mine = order[begin:end]
        yield int(row[mine[0]]), int(token[mine].max()) + 1, places[begin:end]
