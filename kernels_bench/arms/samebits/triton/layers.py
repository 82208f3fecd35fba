"""The samebits arm in Triton: activations, rotary embeddings, further norms and log probabilities; one program a row.

As in `rows`: the order of a sum is written in the source, and M is not an argument of any kernel. Where a
product is followed by a sum, `tl.fma` says that they are one, which is not for the compiler to decide.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.samebits.arguments import check_halves, check_heads, check_rows, check_tokens, result_dtype
from kernels_bench.arms.samebits.triton import rows
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows
from kernels_bench.arms.samebits.triton.rows import LANES, WARPS, inverse_rms, load_block, store_block, sum_of_lanes

ROOT_HALF = tl.constexpr(0.7071067811865476)
# Of gelu's approximation by tanh.
TANH_INNER = tl.constexpr(0.7978845608028654)
TANH_CUBE = tl.constexpr(0.044715)


@triton.jit
def _sigmoid(x):
    """1 / (1 + exp(-x)); the exponential is of what is not positive, so that it never overflows."""
    power = tl.exp(-tl.abs(x))
    return tl.div_rn(tl.where(x < 0, power, 1.0), 1.0 + power)


@triton.jit
def _act_and_mul_kernel(x, y, x_row, n, FUNCTION: tl.constexpr):
    """Write y = f(left half of x) * right half."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    y += row * n
    for start in range(0, n, LANES):
        gate, up = load_block(x, start, n, 0.0, LANES), load_block(x + n, start, n, 0.0, LANES)
        if FUNCTION == "silu":
            gate = gate * _sigmoid(gate)
        elif FUNCTION == "gelu":
            gate = 0.5 * gate * (1.0 + tl.erf(gate * ROOT_HALF))
        else:
            # 1 + tanh(z) is 2 sigmoid(2 z)
            inner = tl.fma(gate * gate * TANH_CUBE, gate, gate) * TANH_INNER
            gate = gate * _sigmoid(inner * 2.0)
        store_block(y, start, n, gate * up)


@triton.jit(do_not_specialize=["heads"])
def _rotary_kernel(  # noqa: PLR0917
    ids, x, y, cos_sin, x_row, heads, half, table_row, BLOCK_H: tl.constexpr
):
    """Write y = (x1 cos - x2 sin, x2 cos + x1 sin) of one head of one row."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    cols = tl.arange(0, BLOCK_H)
    inside = cols < half
    table = cos_sin + tl.load(ids + row) * table_row
    cos = tl.load(table + cols, mask=inside, other=0.0).to(tl.float32)
    sin = tl.load(table + half + cols, mask=inside, other=0.0).to(tl.float32)
    x += row * x_row + head * 2 * half
    y += (row * heads + head) * 2 * half
    one = tl.load(x + cols, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(x + half + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + cols, tl.fma(one, cos, -(other * sin)).to(y.dtype.element_ty), mask=inside)
    tl.store(y + half + cols, tl.fma(other, cos, one * sin).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _layer_norm_kernel(x, weight, bias, y, x_row, n, eps):
    """Write y = (x - mean) / sqrt(variance + eps) * weight + bias."""
    row = tl.program_id(0).to(tl.int64)
    x += row * x_row
    y += row * n
    lanes = tl.zeros((LANES,), dtype=tl.float32)
    for start in range(0, n, LANES):
        lanes += load_block(x, start, n, 0.0, LANES)
    mean = tl.div_rn(sum_of_lanes(lanes), n * 1.0)
    squares = tl.zeros((LANES,), dtype=tl.float32)
    for start in range(0, n, LANES):
        inside = start + tl.arange(0, LANES) < n
        centred = tl.where(inside, load_block(x, start, n, 0.0, LANES) - mean, 0.0)
        squares = tl.fma(centred, centred, squares)
    scale = inverse_rms(squares, n, eps)
    for start in range(0, n, LANES):
        normed = (load_block(x, start, n, 0.0, LANES) - mean) * scale
        factor, shift = load_block(weight, start, n, 0.0, LANES), load_block(bias, start, n, 0.0, LANES)
        store_block(y, start, n, tl.fma(normed, factor, shift))


def _gated(x: Tensor, function: str) -> Tensor:
    check_halves(x)
    y = torch.empty((len(x), x.shape[1] // 2), dtype=x.dtype, device=x.device)
    x = unit_stride_rows(x)
    if len(x):
        _act_and_mul_kernel[(len(x),)](x, y, row_stride(x), y.shape[1], FUNCTION=function, num_warps=WARPS)
    return y


def silu_and_mul(x: Tensor) -> Tensor:
    """silu of the left half of each row of (M, 2D), times the right half -> (M, D), in fp32 and rounded once.

    Raises ValueError for shapes that do not fit.
    """
    return _gated(x, "silu")


def gelu_and_mul(x: Tensor) -> Tensor:
    """`silu_and_mul` with gelu."""
    return _gated(x, "gelu")


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """`silu_and_mul` with gelu as tanh approximates it."""
    return _gated(x, "gelu_tanh")


def rotary(ids: Tensor, q: Tensor, k: Tensor, head_dim: int, cos_sin: Tensor) -> tuple[Tensor, Tensor]:
    """Halves of each head of `q` and `k` (M, heads * head_dim), turned by `cos_sin` (positions, head_dim) at `ids`.

    In fp32 and rounded once, in new tensors. Raises ValueError for shapes that do not fit.
    """
    return _turned(ids, q, head_dim, cos_sin), _turned(ids, k, head_dim, cos_sin)


def _turned(ids: Tensor, x: Tensor, head_dim: int, cos_sin: Tensor) -> Tensor:
    check_heads(x, head_dim)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    x, cos_sin = unit_stride_rows(x), unit_stride_rows(cos_sin)
    heads, half = x.shape[1] // head_dim, head_dim // 2
    if len(x):
        _rotary_kernel[(len(x), heads)](
            ids.contiguous(), x, y, cos_sin, row_stride(x), heads, half, row_stride(cos_sin),
            BLOCK_H=triton.next_power_of_2(half), num_warps=1,
        )  # fmt: skip
    return y


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Each row of (M, N) less its mean, over the root of its variance + eps, times `weight` plus `bias` -> (M, N).

    In fp32 and rounded once. Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_rows(x, weight)
    check_rows(x, bias)
    m, n = x.shape
    y = torch.empty((m, n), dtype=result_dtype((x, weight, bias), None), device=x.device)
    x = unit_stride_rows(x)
    if m:
        shared = weight.contiguous(), bias.contiguous()
        _layer_norm_kernel[(m,)](x, *shared, y, row_stride(x), n, eps, num_warps=WARPS)
    return y


def gemma_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rows.gemma_rms_norm`."""
    return rows.gemma_rms_norm(x, weight, eps)


def qk_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rows.rms_norm` over the last dimension of (M, heads, N)."""
    return rows.rms_norm(x.flatten(0, 1), weight, eps).view(x.shape)


def logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """The logarithm of the softmax of `logits` (M, N) at `tokens` (M,) -> (M,).

    Raises ValueError for shapes that do not fit, TypeError for dtypes (see `result_dtype`).
    """
    check_tokens(logits, tokens)
    return rows.log_softmax(logits).gather(1, tokens[:, None])[:, 0]
