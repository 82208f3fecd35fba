"""A saved call as an operator of kernels_bench, bound to all that it took beside rows: weights, scales and numbers.

Rows of all kinds are drawn then, and every relation is examined that has a meaning for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.locate.calls.capture import ReplayError
from e2e.locate.calls.replay import SavedCall, read_call
from e2e.locate.calls.sequences import SavedSequences
from e2e.locate.records import Bound, KnownCase
from kernels_bench.arms.base import Arm
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.operators.definitions import FLOATS, floats, integers
from kernels_bench.records.definition import TENSOR_DTYPES, DefinitionError, TensorSpec

NAME = "engine"
PLUGIN = '''"""The call that lies beside this file: python -m kernels_bench --plugin {file} --op {operator}"""

from pathlib import Path

from e2e.locate.calls.bound import bound

OPERATOR, ARM = bound(Path(__file__).with_suffix(".safetensors"))
'''


def write_plugin(file: Path, call: SavedCall | SavedSequences) -> Bound | None:
    """Write a plugin of kernels_bench beside a saved call.

    Args:
        file: that holds the call.
        call: as it was read.

    Returns:
        What was written; None where rows of such a call cannot be drawn, or no file be written.
    """
    plugin = file.with_suffix(".py")
    try:
        operator, _ = _bound(call)
        plugin.write_text(PLUGIN.format(file=plugin.name, operator=operator.name), encoding="utf-8")
    except (ReplayError, DefinitionError, OSError):
        return None
    return Bound(plugin=plugin.name, operator=operator.name)


def bound(file: Path) -> tuple[DefinedOperator, Arm]:
    """The operator of a saved call, and an arm that calls it.

    Raises:
        DefinitionError: rows of its sort cannot be drawn.
        ReplayError: it cannot be run here, or what comes out has no rows.
    """
    return _bound(read_call(file))


def _bound(call: SavedCall | SavedSequences) -> tuple[DefinedOperator, Arm]:
    if not isinstance(call, SavedCall):
        raise ReplayError("attention is an operator that kernels_bench has")
    rows, results = call.rows_taken(), call.needle_of(call.fewest)
    name = "located_" + re.sub(r"\W+", "_", call.name).strip("_").lower()
    operator = DefinedOperator.define(
        name,
        rows={key: _spec(one) for key, one in rows.items()},
        shapes={"located": {"width": max(one[0].numel() for one in rows.values())}},
        results=[_spec(one) for one in results],
        overwrites=call.rows_written(),
        dtypes=(_usual(rows),),
        summary=f"{call.name}, as an engine called it",
    )
    return operator, Arm(name=NAME, claims=True, kernels=lambda: {name: call.on}, summary="what the engine called")


_SIZES: Mapping[str, tuple[str, Callable[[Sequence[Any]], tuple[int, ...]]]] = {
    "aten.linear": ("linear", lambda tensors: tuple(tensors[1].shape)),
    "aten.mm": ("mm", lambda tensors: tuple(reversed(tensors[1].shape))),
    "aten.addmm": ("addmm", lambda tensors: tuple(reversed(tensors[2].shape))),
    "_C.rms_norm": ("rms_norm", lambda tensors: tuple(tensors[0].shape[-1:])),
    "_C.fused_add_rms_norm": ("fused_add_rms_norm", lambda tensors: tuple(tensors[0].shape[-1:])),
}
"""Calls that kernels_bench has as operators of its own, and where the sizes of their shapes are: N and K, or N."""


def known(call: SavedCall | SavedSequences) -> KnownCase | None:
    """A saved call as a case of an operator that kernels_bench has, whose order can be read there; None of others."""
    if not isinstance(call, SavedCall) or call.name not in _SIZES:
        return None
    operator, sizes = _SIZES[call.name]
    tensors = call.tensors()
    if (dtype := _named(tensors[-1])) is None:
        return None
    of_vllm = "vllm-cpu" if not call.on_gpu else "vllm" if call.batch_invariant else "vllm-default"
    arm = "torch" if call.name.startswith("aten.") and not call.batch_invariant else of_vllm
    return KnownCase(operator=operator, sizes=sizes(tensors), dtype=dtype, arm=arm)


def _spec(tensor: Any) -> TensorSpec:
    """Sizes behind the dimension that counts rows, and the dtype."""
    sizes, dtype = tuple(tensor.shape[1:]), _dtype(tensor)
    if dtype in FLOATS:
        return floats(*sizes, dtype=dtype)
    # Ids and positions reach as far as those that were seen: what they point at has no more.
    return integers(*sizes, high=int(tensor.max()) + 1, dtype=dtype)


def _dtype(tensor: Any) -> str:
    """As kernels_bench calls it.

    Raises:
        DefinitionError: it has no name for it.
    """
    if (found := _named(tensor)) is None:
        raise DefinitionError(f"rows of {tensor.dtype} cannot be drawn")
    return found


def _named(tensor: Any) -> str | None:
    """The short name of its dtype; None where it has none."""
    name = str(tensor.dtype).removeprefix("torch.")
    return next((own for own, torchs in TENSOR_DTYPES.items() if torchs == name), None)


def _usual(rows: Mapping[str, Any]) -> str:
    """The dtype of the case: that of the first rows that have one which a case can have."""
    found: Sequence[str] = [_dtype(one) for one in rows.values()]
    return next((one for one in found if one in {"bf16", "fp16", "fp32"}), "bf16")
