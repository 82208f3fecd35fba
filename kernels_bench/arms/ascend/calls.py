"""The calls of torch and torch_npu that vllm-ascend's layers make: the default kernels, or what its mode puts there.

In its mode vllm-ascend overrides ``aten`` operators and replaces functions of torch_npu, and its layers go on calling
the same names.  So do both arms here.  Not run, for want of an NPU: written to torch_npu 2.14's sources and vllm-ascend
0.23's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any

from kernels_bench.arms.base import Kernel, PreparedKernel
from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.inputs.paged_batch import PagedBatch
from kernels_bench.records.cases import Device
from profiles.installing import pip_install

ATTENTION = ("attention_decode", "attention_prefill", "attention_mixed")
OF_TORCH = ("mm", "linear", "linear_bias", "addmm", "bmm", "bmm_heads", "softmax")
OF_TORCH_NPU = ("rms_norm", "qk_norm", "fused_add_rms_norm", "silu_and_mul", *ATTENTION)
OPERATORS = (*OF_TORCH, *OF_TORCH_NPU)

_MASKED_EDGE = 2048
"""Rows and columns of the one mask that the attention kernel takes for every causal batch (``sparse_mode=3``)."""


def kernels() -> Mapping[str, Kernel]:
    """Those of torch_npu are looked up when they are called, since the mode puts others in their places."""
    return {
        "mm": torch.mm,
        "linear": linear,
        "linear_bias": linear,
        "addmm": torch.addmm,
        "bmm": torch.bmm,
        "bmm_heads": torch.bmm,
        "softmax": lambda x: torch.softmax(x, -1),
        "rms_norm": rms_norm,
        "qk_norm": rms_norm,
        "fused_add_rms_norm": fused_add_rms_norm,
        "silu_and_mul": lambda x: npu().npu_swiglu(x, dim=-1),
        **dict.fromkeys(ATTENTION, FusedInferAttention()),
    }


def npu() -> Any:
    """``torch_npu``."""
    return importlib.import_module("torch_npu")


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.nn.functional.linear``."""
    return F.linear(x, weight, bias)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> Any:
    """``npu_rms_norm``, which gives the inverse root as well."""
    return npu().npu_rms_norm(x, weight, eps)[0]


def fused_add_rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[Any, Any]:
    """``npu_add_rms_norm``, which gives the norm, the inverse root and the sum."""
    normed, _, total = npu().npu_add_rms_norm(x, residual, weight, eps)
    return normed, total


class FusedInferAttention(PreparedKernel):
    """``npu_fused_infer_attention_score`` over a paged cache; masks and lengths are made once a step, as in vLLM."""

    def prepare(self, *arguments: Any) -> Any:
        """Queries (queries, heads, d) over caches (pages, page, kv_heads, d); returns (queries, heads, d)."""
        q, key_cache, value_cache, batch = arguments
        call = _attention_arguments(q, key_cache, value_cache, batch)
        return lambda: npu().npu_fused_infer_attention_score(**call)[0]


def _attention_arguments(
    q: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, batch: PagedBatch
) -> dict[str, Any]:
    pages, page, kv_heads, _ = key_cache.shape
    mask = torch.ones(_MASKED_EDGE, _MASKED_EDGE, dtype=torch.int8, device=q.device).triu(1)
    return {
        "query": q,
        "key": key_cache.view(pages, page, -1),
        "value": value_cache.view(pages, page, -1),
        "atten_mask": mask,
        "block_table": batch.block_table,
        "input_layout": "TND",
        "block_size": page,
        "actual_seq_lengths": batch.lengths[:, 0].cumsum(0).tolist(),
        "actual_seq_lengths_kv": batch.lengths[:, 1].tolist(),
        "num_key_value_heads": kv_heads,
        "num_heads": q.shape[1],
        "scale": batch.scale,
        "sparse_mode": 3,
    }


def unavailable(device: Device) -> str | None:
    """On anything but an NPU, or without torch_npu."""
    if device.type != "npu":
        return "torch_npu's kernels need an Ascend NPU"
    if importlib.util.find_spec("torch_npu") is None:
        return f"torch_npu is not installed: {pip_install('torch-npu')}"
    return None


def provenance() -> str:
    """Which torch_npu."""
    return f"torch_npu {importlib.metadata.version('torch-npu')}, torch {torch.__version__}"
