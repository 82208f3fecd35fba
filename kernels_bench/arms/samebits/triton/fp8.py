"""The samebits operators over numbers of eight bits in Triton.

A quantiser is one program a row, or a row's group: a maximum has no order. Products are as in `gemm`: one tile
for every M, K in blocks of 128 in ascending order. Eight bits are exact in bf16, so that tiles are multiplied as such,
and each block of 128 is multiplied by its scales before it is added.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# (the kernels: Triton has its own types)
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels_bench.arms.base import Unsupported
from kernels_bench.arms.samebits.triton import gemm, rows
from kernels_bench.arms.samebits.triton.gemm import row_stride, unit_stride_rows
from kernels_bench.device.triton_interpreter import interpreting
from kernels_bench.operators.layers.fp8 import GROUP, LEAST_MAXIMUM, LEAST_SCALE, dequantised

LARGEST = tl.constexpr(448.0)
BLOCK = tl.constexpr(1024)
BLOCK_M, BLOCK_N, WARPS, STAGES = 64, 128, 4, 3
CAPABILITY = (8, 9)
"""The first GPUs that convert e4m3."""


@triton.jit
def _narrowed(values):
    """Fp32 as bits of e4m3: rounded to nearest, ties to even; the largest for what is larger; every NaN the same.

    Written out in integers, since conversions are not alike on all GPUs, nor under the interpreter.
    """
    size = tl.minimum(tl.abs(values), LARGEST)
    wide = size.to(tl.int32, bitcast=True)
    normal = (wide - (120 << 23) + 0x7FFFF + ((wide >> 20) & 1)) >> 20
    # Added to 2^14, whose last place is the step of subnormal numbers, the sum is rounded to such steps.
    subnormal = (size + 16384.0).to(tl.int32, bitcast=True) - (141 << 23)
    sign = (values.to(tl.int32, bitcast=True) >> 24) & 0x80
    found = tl.where(size < 0.015625, subnormal, normal) | sign
    nan = values != values  # noqa: PLR0124 - of NaN alone
    return tl.where(nan, 0x7F, found).to(tl.uint8)


@triton.jit
def _quant_kernel(x, q, scales, x_row, k, groups, width, least_maximum, least_scale):  # noqa: PLR0917
    """One program a group of ``width`` elements: its scale, and its elements over it."""
    row = (tl.program_id(0) // groups).to(tl.int64)
    group = tl.program_id(0) % groups
    x += row * x_row + group * width
    q += row * k + group * width
    tops = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        values = tl.load(x + cols, mask=cols < width, other=0.0).to(tl.float32)
        tops = tl.maximum(tops, tl.abs(values))
    scale = tl.maximum(tl.div_rn(tl.maximum(tl.max(tops, axis=0), least_maximum), LARGEST * 1.0), least_scale)
    tl.store(scales + row * groups + group, scale)
    for start in range(0, width, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        values = tl.load(x + cols, mask=cols < width, other=0.0).to(tl.float32)
        tl.store(q + cols, _narrowed(tl.div_rn(values, scale + tl.zeros_like(values))), mask=cols < width)


@triton.jit
def _static_kernel(x, q, scale, x_row, k):
    """One program a row."""
    row = tl.program_id(0).to(tl.int64)
    divisor = tl.load(scale) + tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, k, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        values = tl.load(x + row * x_row + cols, mask=cols < k, other=0.0).to(tl.float32)
        tl.store(q + row * k + cols, _narrowed(tl.div_rn(values, divisor)), mask=cols < k)


@triton.jit(do_not_specialize=["m"])
def _scaled_mm_kernel(  # noqa: PLR0917
    a, b, c, scale_a, scale_b,
    m, n, k,
    a_row, b_k, b_n, scale_a_row, scale_a_k, scale_b_n, scale_b_k,
    N_OF_A_SCALE: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """C = (A scale_a) (B scale_b): a scale each for a row's block of K, and for `N_OF_A_SCALE` columns'."""
    tiles_m = tl.cdiv(m, BLOCK_M)
    tile = tl.program_id(0).to(tl.int64)
    rows = tile % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    cols = tile // tiles_m * BLOCK_N + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        in_k = ks < k - start
        left = tl.load(
            a + rows[:, None] * a_row + (start + ks)[None, :], mask=(rows < m)[:, None] & in_k[None, :], other=0.0
        )
        right = tl.load(
            b + (start + ks)[:, None].to(tl.int64) * b_k + cols[None, :] * b_n,
            mask=in_k[:, None] & (cols < n)[None, :],
            other=0.0,
        )
        if UPCAST:
            product = tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")
        else:
            product = tl.dot(left.to(tl.bfloat16), right.to(tl.bfloat16))
        block = start // BLOCK_K
        by_row = tl.load(scale_a + rows * scale_a_row + block * scale_a_k, mask=rows < m, other=0.0)
        by_col = tl.load(scale_b + cols // N_OF_A_SCALE * scale_b_n + block * scale_b_k, mask=cols < n, other=0.0)
        acc = tl.fma(product, by_row[:, None] * by_col[None, :], acc)  # outright: not for the compiler to fuse or not
    places = c + rows[:, None] * n + cols[None, :]
    tl.store(places, acc.to(c.dtype.element_ty), mask=(rows < m)[:, None] & (cols < n)[None, :])


def _needs_e4m3() -> None:
    if not interpreting() and torch.cuda.get_device_capability() < CAPABILITY:
        raise Unsupported("Triton converts e4m3 on SM89 and newer")


def _quantised(x: Tensor, groups: int, least_maximum: float, least_scale: float) -> tuple[Tensor, Tensor]:
    m, k = x.shape
    x = unit_stride_rows(x)
    q = torch.empty((m, k), dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty((m, groups), dtype=torch.float32, device=x.device)
    if m:
        bounds = (k, groups, k // groups, least_maximum, least_scale)
        _quant_kernel[(m * groups,)](x, q.view(torch.uint8), scales, row_stride(x), *bounds, num_warps=WARPS)
    return q, scales


def fp8_quant_token(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and the scale of each row, fp32 (M, 1)."""
    return _quantised(x, 1, 0.0, LEAST_SCALE)


def fp8_quant_group(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and the scale of each group of 128, fp32 (M, K / 128)."""
    return _quantised(x, x.shape[1] // GROUP, LEAST_MAXIMUM, 0.0)


def fp8_quant_static(x: Tensor, scale: Tensor) -> Tensor:
    """`x` (M, K) over one `scale` (1) -> e4m3 (M, K)."""
    m, k = x.shape
    x = unit_stride_rows(x)
    q = torch.empty((m, k), dtype=torch.float8_e4m3fn, device=x.device)
    if m:
        _static_kernel[(m,)](x, q.view(torch.uint8), scale, row_stride(x), k, num_warps=WARPS)
    return q


def fp8_quant_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` (M, K) -> e4m3 (M, K) and one scale (1), which depends on all rows by definition."""
    scale = (x.abs().amax().float() / LARGEST.value).clamp(min=LEAST_SCALE).reshape(1)
    return fp8_quant_static(x, scale), scale


def rms_norm_quant(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`fp8_quant_token` of `rows.rms_norm`, which is rounded to `x`'s dtype."""
    return fp8_quant_token(rows.rms_norm(x, weight, eps))


def _launch(
    operands: tuple[Tensor, Tensor], scales: tuple[Tensor, Tensor], strides: tuple[int, ...], high: int, c: Tensor
) -> Tensor:
    """`operands` (M, K) and (K, N), whose scales have these strides: by row, by block of K, by column, by block."""
    _needs_e4m3()
    a, b = operands
    (m, k), n = a.shape, b.shape[1]
    a = unit_stride_rows(a)
    if c.numel():
        grid = (triton.cdiv(m, BLOCK_M) * triton.cdiv(n, BLOCK_N),)
        _scaled_mm_kernel[grid](
            a, b, c, *scales, m, n, k, row_stride(a), *b.stride(), *strides,
            N_OF_A_SCALE=high, UPCAST=interpreting(), BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_K=GROUP,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return c


def scaled_mm(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
    """`a` (M, K) times `b` (K, N) in eight bits, times scales of rows (M, 1) or (1) and columns (1, N) or (1)."""
    by_row, by_column = (int(scale.dim() == 2) for scale in (scale_a, scale_b))
    scales = (scale_a.contiguous(), scale_b.contiguous())
    c = torch.empty((len(a), b.shape[1]), dtype=out_dtype, device=a.device)
    return _launch((a, b), scales, (by_row, 0, by_column, 0), 1, c)


def scaled_mm_block(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: torch.dtype) -> Tensor:
    """`a` (M, K) with scales of its groups times the transpose of `b` (N, K) with scales of its blocks."""
    scales = (scale_a.contiguous(), scale_b.contiguous())
    strides = (scales[0].shape[1], 1, scales[1].shape[1], 1)
    return _launch((a, b.t()), scales, strides, GROUP, torch.empty((len(a), len(b)), dtype=out_dtype, device=a.device))


def fp8_weight_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """`x` (M, K) times the transpose of `weight` (N, K) in eight bits with scales of its blocks, dequantised before."""
    return gemm.linear(x, dequantised(weight.float(), scale).to(x.dtype))
