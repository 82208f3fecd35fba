"""Kernels of vLLM's build for CPUs over numbers of eight bits.

There activations stay in bf16 unless the processor multiplies eight bits itself, and a weight's blocks are dequantised
within the product (``CPUFp8BlockScaledMMKernel``). The quantiser is what its experts call where the processor does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel, Unsupported
from kernels_bench.device.lazy_torch import torch

OPERATORS = ("fp8_quant_token", "fp8_quant_static", "fp8_weight_linear")
_BLOCK, _ROWS = 128, 32


class WeightLinear(PreparedKernel):
    """``fp8_scaled_mm_cpu``, whose weight is packed once, when it is loaded."""

    def prepare(self, *arguments: Any) -> Callable[[], torch.Tensor]:
        """x (M, K), the weight (N, K) in e4m3 and the scales of its blocks of 128; returns (M, N)."""
        x, weight, scale = arguments
        if not torch.cpu._is_amx_tile_supported():
            raise Unsupported("vLLM's product of bf16 and eight bits needs a processor with AMX")
        if x.dtype is not torch.bfloat16:  # another dtype ends the process
            raise Unsupported("vLLM's product of eight bits takes bf16")
        if weight.shape[0] % _ROWS or weight.shape[1] % _BLOCK:
            raise Unsupported("vLLM's product of eight bits takes N in multiples of 32 and K in multiples of 128")
        ops = torch.ops._C
        packed = ops.convert_weight_packed(weight)
        return partial(ops.fp8_scaled_mm_cpu, x, packed, scale, [_BLOCK, _BLOCK], None, x.dtype, True)


def _quantised(x: torch.Tensor, by_row: bool, scale: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    if x.dtype is not torch.bfloat16:
        raise Unsupported("vLLM's quantiser for CPUs takes bf16")
    if x.shape[1] % _ROWS:
        raise Unsupported("vLLM's quantiser for CPUs writes no elements beyond a multiple of 32")
    ops = torch.ops._C
    numbers, scales = ops.quantize_fp8e4m3_vec(x, by_row, scale)
    return numbers, scales


def fp8_quant_token(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``quantize_fp8e4m3_vec``, one scale a row."""
    numbers, scales = _quantised(x, True, None)
    return numbers, scales.reshape(-1, 1)


def fp8_quant_static(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """``quantize_fp8e4m3_vec`` by a scale that is given."""
    return _quantised(x, False, scale)[0]


def kernels() -> Mapping[str, Kernel]:
    """Those that vLLM has on CPUs."""
    return {
        "fp8_quant_token": fp8_quant_token,
        "fp8_quant_static": fp8_quant_static,
        "fp8_weight_linear": WeightLinear(),
    }
