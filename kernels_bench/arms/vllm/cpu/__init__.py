"""``vllm-cpu``: the kernels of vLLM's build for CPUs that its layers call beside GEMMs and attention."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from kernels_bench.arms.base import Arm, Kernel, Unsupported
from kernels_bench.arms.vllm.calls import layers
from kernels_bench.arms.vllm.cpu import fp8, gated_delta, routed, state
from kernels_bench.arms.vllm.installed import environment, version
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device

VECTOR = 8
"""Elements that these kernels load at once: they refuse rows of another multiple."""
ALIGNED_BYTES = 16
"""Its rotary embedding loads vectors from such addresses only, and ends its process at others."""

OPERATORS = (
    *(*layers.GATED, "rotary", "qk_norm"),
    *routed.OPERATORS,
    *fp8.OPERATORS,
    *state.OPERATORS,
    *gated_delta.OPERATORS,
)


def kernels() -> Mapping[str, Kernel]:
    """``torch.ops._C``, which write into a given tensor or in place."""
    importlib.import_module("vllm._custom_ops")  # where they are registered
    return {
        **{name: _gated(name) for name in layers.GATED},
        "rotary": rotary,
        "qk_norm": qk_norm,
        **routed.kernels(),
        **fp8.kernels(),
        **state.kernels(),
        **gated_delta.kernels(),
    }


def _gated(name: str) -> Kernel:
    compute = layers.gated(name)

    def kernel(x: torch.Tensor) -> Any:
        _refuse_odd(x.shape[1] // 2)
        return compute(x)

    return kernel


def rotary(
    ids: torch.Tensor, q: torch.Tensor, k: torch.Tensor, head_dim: int, cos_sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`layers.rotary`, but for rows that would end the process."""
    _refuse_odd(head_dim // 2)  # its heads would not begin at aligned addresses
    for tensor in (q, k):
        if tensor.data_ptr() % ALIGNED_BYTES:
            raise ValueError(f"rows must begin at a multiple of {ALIGNED_BYTES} bytes")
    return layers.rotary(ids, q, k, head_dim, cos_sin)


def qk_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``rms_norm`` over the last dimension."""
    _refuse_odd(x.shape[-1])
    out = torch.empty_like(x)
    torch.ops._C.rms_norm(out, x, weight, eps)
    return out


def _refuse_odd(size: int) -> None:
    if size % VECTOR:
        raise Unsupported(f"it takes rows of a multiple of {VECTOR} elements")


def unavailable(device: Device) -> str | None:
    """On a GPU, or another build of vLLM, or none."""
    if device.type != "cpu":
        return "it is vLLM's build for CPUs"
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "vLLM's build for CPUs is not installed: see docs/needle-benchmark.md"
    return None


ARM = Arm(
    name="vllm-cpu",
    kernels=kernels,
    claims=False,
    summary="vLLM's own CPU kernels (torch.ops._C)",
    environment=environment(batch_invariant=False),
    unavailable=unavailable,
    provenance=lambda: f"vLLM {version()}: torch.ops._C",
    offers=OPERATORS,
)
