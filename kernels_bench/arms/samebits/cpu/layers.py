"""Activations, rotary embeddings, further norms and logprobs on the CPU.

As in `rows`: functions that no standard rounds see one row at a time in a fresh buffer, sums are folded in halves, and
what is left are element-wise additions and multiplications, which are rounded alike wherever an element stands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels_bench.arms.samebits.arguments import check_halves, check_heads, check_rows, check_tokens, result_dtype
from kernels_bench.arms.samebits.cpu import rows
from kernels_bench.arms.samebits.cpu.rows import chunks, each_row, row_sum
from kernels_bench.arms.samebits.rounding import rounded


def _gated(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    check_halves(x)

    def gated(rows: Tensor) -> Tensor:
        gate, up = rows.float().chunk(2, 1)
        return rounded(each_row(function, gate) * up, rows.dtype)

    return torch.cat([gated(rows) for rows in chunks(x)])


def silu_and_mul(x: Tensor) -> Tensor:
    """silu of the left half of each row of (M, 2D), times the right half -> (M, D), in fp32 and rounded once.

    Raises ValueError for shapes that do not fit.
    """
    return _gated(F.silu, x)


def gelu_and_mul(x: Tensor) -> Tensor:
    """`silu_and_mul` with gelu."""
    return _gated(F.gelu, x)


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """`silu_and_mul` with gelu as tanh approximates it."""
    return _gated(partial(F.gelu, approximate="tanh"), x)


def rotary(ids: Tensor, q: Tensor, k: Tensor, head_dim: int, cos_sin: Tensor) -> tuple[Tensor, Tensor]:
    """Halves of each head of `q` and `k` (M, heads * head_dim), turned by `cos_sin` (positions, head_dim) at `ids`.

    In fp32 and rounded once, in new tensors. Raises ValueError for shapes that do not fit.
    """
    check_heads(q, head_dim)
    check_heads(k, head_dim)
    cos, sin = cos_sin[ids].float()[:, None].chunk(2, 2)

    def turned(x: Tensor) -> Tensor:
        one, other = x.float().unflatten(1, (-1, head_dim)).chunk(2, 2)
        return rounded(torch.cat([one * cos - other * sin, other * cos + one * sin], 2).flatten(1), x.dtype)

    return turned(q), turned(k)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Each row of (M, N) less its mean, over the root of its variance + eps, times `weight` plus `bias` -> (M, N).

    In fp32 and rounded once. Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight)
    check_rows(x, bias)
    dtype = result_dtype((x, weight, bias), None)

    def normed(rows: Tensor) -> Tensor:
        values = rows.float()
        centred = values - row_sum(values) / values.shape[1]
        scale = each_row(torch.rsqrt, row_sum(centred * centred) / values.shape[1] + eps)
        return rounded(centred * scale * weight.float() + bias.float(), dtype)

    return torch.cat([normed(rows) for rows in chunks(x)])


def gemma_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rows.rms_norm` with 1 + `weight`, which is added in fp32.

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight)
    dtype = result_dtype((x, weight), None)
    return rounded(rows.rms_norm(x.float(), weight.float() + 1, eps), dtype)


def qk_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rows.rms_norm` over the last dimension of (M, heads, N)."""
    return rows.rms_norm(x.flatten(0, 1), weight, eps).view(x.shape)


def logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """The logarithm of the softmax of `logits` (M, N) at `tokens` (M,) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_tokens(logits, tokens)
    return rows.log_softmax(logits).gather(1, tokens[:, None])[:, 0]
