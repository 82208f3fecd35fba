"""``samebits``: ours.  In Triton on a GPU, each shape in one order at every M; row by row in plain torch on a CPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Protocol

from kernels_bench.arms.base import Arm, Candidate, Kernel
from kernels_bench.arms.ranks.kernels import rank_order_kernels
from kernels_bench.arms.samebits.packed import Packed
from kernels_bench.arms.samebits.tiles import (
    ATTENTION,
    ATTENTION_TILES,
    CPU_ATTENTION_TILES,
    CPU_TILES,
    ROW_TILES,
    ROWS,
    tiles,
)  # fmt: skip
from kernels_bench.arms.samebits.tuned import Table, gemms_of, rows_of, table_for
from kernels_bench.device.lazy_torch import torch
from kernels_bench.records.cases import Device

# Operators, and where they have another name, the functions that compute them.
GEMM = {
    "mm": "mm", "linear": "linear", "linear_bias": "linear", "addmm": "addmm", "bmm": "bmm", "bmm_heads": "bmm"
}  # fmt: skip
TILED = ("mm", "linear", "linear_bias", "addmm")
"""Operators of which there are candidates."""
LAYERS = (
    *("silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul", "rotary", "layer_norm", "gemma_rms_norm", "qk_norm"),
    "logprobs",
)
SAMPLING = ("cumsum", "top_k_top_p")
ROUTED = ("router_gemm", "moe_experts", "moe_gating", "moe_sum", "lora_shrink", "lora_expand")
FP8 = {
    **{name: name for name in (
        "fp8_quant_token", "fp8_quant_group", "fp8_quant_static", "fp8_quant_tensor", "rms_norm_quant",
        "scaled_mm_block", "fp8_weight_linear",
    )},
    "scaled_mm_token": "scaled_mm",
    "scaled_mm_tensor": "scaled_mm",
}  # fmt: skip
STATE = ("state_update", "chunk_scan")
RANKS = ("all_reduce", "reduce_scatter", "row_parallel_linear")
DELTA = ("gated_delta_step", "gated_delta_rule")


def kernels() -> Mapping[str, Kernel]:
    """The kernels for the device of this process."""
    device = "triton" if torch.cuda.is_available() else "cpu"
    names = ("gemm", "rows", "sampling", "attention", "layers", "fp8", "state")
    gemm, rows, sampling, attention, layers, fp8, state = (_module(f"{device}.{name}") for name in names)
    delta = state if device == "triton" else _module("cpu.gated_delta")
    grouped = _module("triton.grouped").chosen if device == "triton" else None
    table = _table()
    return {
        **{operator: getattr(gemm, function) for operator, function in GEMM.items()},
        **({} if table is None else gemms_of(table)),
        **{operator: getattr(rows, operator) for operator in ROWS},
        **({} if table is None else rows_of(table)),
        **{operator: getattr(layers, operator) for operator in LAYERS},
        **{operator: getattr(sampling, operator) for operator in SAMPLING},
        **_module("routed").kernels(gemm, rows, layers, grouped),
        **dict.fromkeys(ATTENTION, attention.attention),
        "mla_prefill": Packed(attention.attention),
        **{operator: getattr(fp8, function) for operator, function in FP8.items()},
        **{operator: getattr(state, operator) for operator in STATE},
        **rank_order_kernels(f"{__name__}.over_ranks:tree_linear"),
        **{operator: getattr(delta, operator) for operator in DELTA},
    }


def _module(name: str) -> ModuleType:
    """One of this package, imported where it is needed: half of them need Triton."""
    return importlib.import_module(f"{__name__}.{name}")


def _table() -> Table | None:
    """Of this process's GPU, where there is one that plans were made for."""
    return table_for(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def unavailable(device: Device) -> str | None:
    """Triton is needed on a GPU, and bf16 matrix units."""
    if device.type == "npu":
        return "samebits' own kernels were written for GPUs and CPUs"
    if device.type != "cuda":
        return None
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    if device.capability is not None and device.capability < (8, 0):
        return f"bf16 matrix units need SM80 or newer, this GPU is {device.sm}"
    return None


def provenance() -> str:
    """samebits' version, and what it is built on here."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__}"
    table = _table()
    chosen = (
        "one tile at every M"
        if table is None
        else f"tiles of {len(table.ranges) + len(table.rows)} shapes by plan {' and '.join(table.plans)}"
    )
    return f"Triton {importlib.metadata.version('triton')}; {chosen}"


def caveat(device: Device) -> str:
    """The tile was chosen on an H100."""
    return "the tile was chosen on SM90: the bits hold, the speed may not" if device.below_sm90 else ""


def candidates(device: Device) -> Mapping[str, Candidate]:
    """Operators in many tiles on a GPU; on a CPU in a few, so that a plan has a choice there too."""
    found = _on_gpu() if device.type == "cuda" else _on_cpu()
    return {one.label: candidate for one, candidate in found}


def _on_gpu() -> Iterator[tuple[_Labelled, Candidate]]:
    for tile, dtypes in tiles().values():
        yield tile, _candidate(tile, TILED, "triton.tiles", dtypes=dtypes)
    for rows in ROW_TILES.values():
        yield rows, _candidate(rows, ROWS, "triton.rows")
    for keys in ATTENTION_TILES.values():
        yield keys, _candidate(keys, ATTENTION, "triton.attention", dtypes=("bf16", "fp16"))


def _on_cpu() -> Iterator[tuple[_Labelled, Candidate]]:
    for tile in CPU_TILES.values():
        yield tile, _candidate(tile, (*TILED, *ROWS), "cpu.tiles", "cpu.rows")
    for keys in CPU_ATTENTION_TILES.values():
        yield keys, _candidate(keys, ATTENTION, "cpu.attention")


class _Labelled(Protocol):
    """A tile of any kind."""

    @property
    def label(self) -> str: ...

    @property
    def order(self) -> str: ...


def _candidate(tile: _Labelled, offers: Sequence[str], *modules: str, dtypes: Sequence[str] = ()) -> Candidate:
    return Candidate(partial(_of_label, tile.label, modules), offers, dtypes, tile.order)


def _of_label(label: str, modules: Sequence[str]) -> Mapping[str, Kernel]:
    return {operator: kernel for name in modules for operator, kernel in _module(name).kernels(label).items()}


ARM = Arm(
    name="samebits",
    kernels=kernels,
    claims=True,
    summary="samebits' own kernels: in Triton on a GPU, one order at every M; row by row in plain torch on a CPU",
    unavailable=unavailable,
    caveat=caveat,
    provenance=provenance,
    compiles=True,
    candidates=candidates,
    offers=(*GEMM, *ROWS, *LAYERS, *SAMPLING, *ROUTED, *ATTENTION, "mla_prefill", *FP8, *STATE, *DELTA, *RANKS),
)
