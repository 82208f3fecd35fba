"""vLLM's CUDA kernels over numbers of eight bits, as its layers call them (0.26 to 0.33).

``cutlass_scaled_mm`` takes K and N that are multiples of 16; of others vLLM calls ``triton_scaled_mm``, whose tile
follows M: that is done in ``cutlass_scaled_mm`` itself. The tile of ``w8a8_triton_block_scaled_mm`` comes from a table
by M: in 0.26 whatever the mode, in 0.33 it is one in batch-invariant mode.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernels_bench.arms.base import Kernel
from kernels_bench.arms.vllm.installed import loaded
from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.layers.fp8 import GROUP

OPERATORS = (
    *("fp8_quant_token", "fp8_quant_group", "fp8_quant_static", "fp8_quant_tensor", "rms_norm_quant"),
    *("scaled_mm_token", "scaled_mm_tensor", "scaled_mm_block"),
)
_OPS, _BLOCKS = "_custom_ops", "model_executor.layers.quantization.utils.fp8_utils"


def kernels() -> Mapping[str, Kernel]:
    """``vllm._custom_ops`` and the Triton kernels of its FP8 layers; which mode is the process' environment's."""

    def fp8_quant_token(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, scale = loaded(_OPS, "scaled_fp8_quant")(x, use_per_token_if_dynamic=True)
        return numbers, scale

    def fp8_quant_tensor(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, scale = loaded(_OPS, "scaled_fp8_quant")(x)
        return numbers, scale

    def fp8_quant_static(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        numbers: torch.Tensor = loaded(_OPS, "scaled_fp8_quant")(x, scale)[0]
        return numbers

    def fp8_quant_group(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, scales = loaded(_BLOCKS, "per_token_group_quant_fp8")(x, GROUP, use_ue8m0=False)
        return numbers, scales

    def rms_norm_quant(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, scale = loaded(_OPS, "rms_norm_dynamic_per_token_quant")(x, weight, eps, torch.float8_e4m3fn)
        return numbers, scale

    def scaled_mm(
        a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, *, out_dtype: torch.dtype
    ) -> torch.Tensor:
        by_column = scale_b.reshape(-1, 1)  # as its Triton kernel asks for it; CUTLASS takes either
        product: torch.Tensor = loaded(_OPS, "cutlass_scaled_mm")(a, b, scale_a, by_column, out_dtype)
        return product

    def scaled_mm_block(
        a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, *, out_dtype: torch.dtype
    ) -> torch.Tensor:
        product: torch.Tensor = loaded(_BLOCKS, "w8a8_triton_block_scaled_mm")(
            a, b, scale_a, scale_b, [GROUP, GROUP], output_dtype=out_dtype
        )
        return product

    return {
        "fp8_quant_token": fp8_quant_token,
        "fp8_quant_group": fp8_quant_group,
        "fp8_quant_static": fp8_quant_static,
        "fp8_quant_tensor": fp8_quant_tensor,
        "rms_norm_quant": rms_norm_quant,
        "scaled_mm_token": scaled_mm,
        "scaled_mm_tensor": scaled_mm,
        "scaled_mm_block": scaled_mm_block,
    }
