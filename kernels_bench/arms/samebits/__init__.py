"""``samebits``: ours.  One fixed tile in Triton on a GPU; row by row in plain torch on a CPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping

from kernels_bench.arms.base import Arm, Kernel
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device

# Operators, and where they have another name, the functions that compute them.
GEMM = {
    "mm": "mm", "linear": "linear", "linear_bias": "linear", "addmm": "addmm", "bmm": "bmm", "bmm_heads": "bmm"
}  # fmt: skip
ROWS = ("rms_norm", "fused_add_rms_norm", "softmax", "log_softmax", "mean")
LAYERS = (
    *("silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul", "rotary", "layer_norm", "gemma_rms_norm", "qk_norm"),
    *("logprobs", "cumsum", "top_k_top_p"),
)
ROUTED = ("router_gemm", "moe_experts", "moe_gating", "moe_sum", "lora_shrink", "lora_expand")
ATTENTION = ("attention_decode", "attention_prefill", "attention_mixed")
FP8 = {
    **{name: name for name in (
        "fp8_quant_token", "fp8_quant_group", "fp8_quant_static", "fp8_quant_tensor", "rms_norm_quant",
        "scaled_mm_block", "fp8_weight_linear",
    )},
    "scaled_mm_token": "scaled_mm",
    "scaled_mm_tensor": "scaled_mm",
}  # fmt: skip
STATE = ("state_update", "chunk_scan")


def kernels() -> Mapping[str, Kernel]:
    """The kernels for the device of this process."""
    shared = ("attention", "layers", "fp8", "state")
    if torch.cuda.is_available():
        names = ("triton_gemm", "triton_rows", *(f"triton_{name}" for name in shared))
    else:
        names = ("cpu", "cpu", *(f"cpu_{name}" for name in shared))
    gemm, rows, attention, layers, fp8, state = (importlib.import_module(f"{__name__}.{name}") for name in names)
    routed = importlib.import_module(f"{__name__}.routed")
    return {
        **{operator: getattr(gemm, function) for operator, function in GEMM.items()},
        **{operator: getattr(rows, operator) for operator in ROWS},
        **{operator: getattr(layers, operator) for operator in LAYERS if hasattr(layers, operator)},
        **routed.kernels(gemm, rows, layers),
        **dict.fromkeys(ATTENTION, attention.attention),
        **{operator: getattr(fp8, function) for operator, function in FP8.items()},
        **{operator: getattr(state, operator) for operator in STATE},
    }


def unavailable(device: Device) -> str | None:
    """Triton is needed on a GPU, and bf16 matrix units."""
    if device.type != "cuda":
        return None
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    if device.capability is not None and device.capability < (8, 0):
        return f"bf16 matrix units need SM80 or newer, this GPU is {device.sm}"
    return None


def provenance() -> str:
    """samebits' version, and what it is built on here."""
    return (
        f"Triton {importlib.metadata.version('triton')}" if torch.cuda.is_available() else f"torch {torch.__version__}"
    )


def caveat(device: Device) -> str:
    """The tile was chosen on an H100."""
    return "the tile was chosen on SM90: the bits hold, the speed may not" if device.below_sm90 else ""


ARM = Arm(
    name="samebits",
    kernels=kernels,
    claims=True,
    summary="samebits' own kernels: one fixed tile in Triton on a GPU, row by row in plain torch on a CPU",
    unavailable=unavailable,
    caveat=caveat,
    provenance=provenance,
    compiles=True,
    offers=(*GEMM, *ROWS, *LAYERS, *ROUTED, *ATTENTION, *FP8, *STATE),
)
