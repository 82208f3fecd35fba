"""``vllm``: the batch-invariant kernels of the installed vLLM, 0.26 to 0.33.

The module moved between versions; it is found by looking for its file, since importing vLLM takes seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from kernels_bench.arms.base import Arm, Kernel, Unsupported
from kernels_bench.arms.vllm.calls import fp8, layers, routed
from kernels_bench.arms.vllm.installed import below_sm80, environment, file_of, missing, version
from kernels_bench.records.cases import Device, claimed
from kernels_bench.relations import relations

LAYOUTS = (
    "vllm.model_executor.determinism.batch_invariant",  # 0.33
    "vllm.model_executor.layers.batch_invariant",  # 0.26
)
OPERATORS = (
    *("mm", "linear", "linear_bias", "addmm", "bmm", "bmm_heads"),
    *("rms_norm", "qk_norm", "fused_add_rms_norm", "softmax", "log_softmax", "mean"),
    *layers.OPERATORS,
    *routed.OPERATORS,
    *fp8.OPERATORS,
)
NEEDED = ("init_batch_invariance", "matmul_persistent", "rms_norm_batch_invariant")


def layout() -> str | None:
    """The path of the batch-invariant module of the installed vLLM, or None."""
    return next((path for path in LAYOUTS if file_of(path) is not None), None)


def unavailable(device: Device) -> str | None:
    """vLLM absent, of an unknown layout, or without CUDA."""
    if (reason := missing(device, "vLLM's batch-invariant kernels need a CUDA GPU")) is not None:
        return reason
    if layout() is None:
        return f"vLLM {version()} has no known batch-invariant module: looked for {' and '.join(LAYOUTS)}"
    return below_sm80(device)


def _module() -> ModuleType:
    path = layout()
    if path is None:
        raise Unsupported(f"vLLM {version()}: none of {', '.join(LAYOUTS)} exists")
    module = importlib.import_module(path)
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise Unsupported(f"vLLM {version()}: {path} lacks {', '.join(missing)}")
    return module


def switch_on() -> ModuleType:
    """The module of batch-invariant kernels, after the call that vLLM's workers make at start.

    Raises:
        Unsupported: the installed vLLM has none that is known.
    """
    module = _module()
    module.init_batch_invariance()
    return module


def kernels() -> Mapping[str, Kernel]:
    """vLLM's own functions, in a process that is switched on."""
    switch_on()
    return module_kernels()


def module_kernels() -> Mapping[str, Kernel]:
    """The same in a process that has made that call already."""
    module = _module()

    def fused_add_rms_norm(x: Any, residual: Any, weight: Any, eps: float) -> Any:
        return module.rms_norm_batch_invariant(x, weight, eps, residual=residual)

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        return module.linear_batch_invariant(x, weight, bias)

    def bmm(a: Any, b: Any) -> Any:
        return module.bmm_batch_invariant(a, b)

    def softmax(x: Any) -> Any:
        return module.softmax_batch_invariant(x, -1)

    return {
        "mm": module.matmul_persistent,
        "linear": linear,
        "linear_bias": linear,
        "addmm": module.addmm_batch_invariant,
        "bmm": bmm,
        "bmm_heads": bmm,
        "rms_norm": module.rms_norm_batch_invariant,
        "qk_norm": module.rms_norm_batch_invariant,
        "fused_add_rms_norm": fused_add_rms_norm,
        "softmax": softmax,
        "log_softmax": module.log_softmax,
        "mean": _mean(module),
        **layers.kernels(),
        **routed.kernels(batch_invariant=True),
        **fp8.kernels(),
    }


def _mean(module: ModuleType) -> Kernel:
    """0.26 returns fp32 whatever dtype is asked for; 0.33 returns the input's unless fp32 is asked for."""
    import torch

    always_wide = ".to(input.dtype)" not in inspect.getsource(module.mean_batch_invariant)

    def mean(x: torch.Tensor, *, out_dtype: torch.dtype) -> Any:
        if always_wide and out_dtype is not torch.float32:
            raise Unsupported(f"vLLM {version()} returns the mean in fp32 whatever the input; see --dtype bf16:fp32")
        return module.mean_batch_invariant(x, [-1], dtype=None if out_dtype is x.dtype else out_dtype)

    return mean


def caveat(device: Device) -> str:
    """On SM8x vLLM overrides torch's GEMMs with the kernels measured here."""
    return "below SM90 vLLM uses these GEMMs for torch.mm and linear too" if device.below_sm90 else ""


ARM = Arm(
    name="vllm",
    kernels=kernels,
    # Its activations, router and quantisers read any rows as if they lay one after the other, which its layers see to.
    claims=tuple(name for name in relations() if claimed(True, name) and name != "layout"),
    summary="the batch-invariant kernels of the installed vLLM",
    environment=environment(batch_invariant=True),
    unavailable=unavailable,
    caveat=caveat,
    provenance=lambda: f"vLLM {version()}: {layout()}",
    compiles=True,
    offers=OPERATORS,
    brief=layers.COMPILED_BY_SIZE,
)
