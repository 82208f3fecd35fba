"""One operator's call with its real inputs, as a safetensors file: tensors, and the rest of it as JSON beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2e.locate.seen.rows import NeedleRows
from e2e.locate.tensor_file import write_tensors
from profiles.errors import ToldError

TENSOR, WEIGHT = "tensor", "onednn weight"
"""What tells an argument that lies beside the JSON: a tensor, or a weight that oneDNN is to pack again."""


class NotSavedError(Exception):
    """A call that cannot be saved; the message says why."""


class ReplayError(ToldError):
    """A call that was saved and cannot be run; the message says why."""


def need_gpu() -> None:
    """A call that ran on a GPU is to be run.

    Raises:
        ReplayError: here is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise ReplayError("it ran on a GPU, and here is none")


class Captured:
    """A call as it is about to run.

    Args:
        operator: PyTorch's ``OpOverload``.
        args: of the call.
        named: likewise.
        rows: where the needle stands in the step.
        weights: of a pointer to oneDNN's packed weight the weight itself, which no other process can follow.

    Raises:
        NotSavedError: it takes what cannot be saved.
    """

    def __init__(
        self,
        operator: Any,
        args: Sequence[Any],
        named: Mapping[str, Any],
        rows: NeedleRows,
        weights: Mapping[int, Any],
    ) -> None:
        self._tensors: dict[str, Any] = {}
        self._rows, self._weights = rows, weights
        self._onednn = operator._schema.name == "_C::onednn_mm"
        self._operator = operator
        self._call = {
            "operator": str(operator.name()),
            "args": [self._kept(one) for one in args],
            "named": {name: self._kept(one) for name, one in named.items()},
        }

    def _kept(self, value: Any) -> Any:
        """An argument as JSON has it; tensors are kept beside it by name."""
        import torch

        if isinstance(value, torch.Tensor):
            if self._onednn and value.dim() == 0 and value.dtype == torch.int64:
                return self._weight(int(value))
            name = f"t{len(self._tensors)}"
            self._tensors[name] = value.detach().to("cpu", copy=True).contiguous()
            return {TENSOR: name, "space": self._rows.space(tuple(value.shape)), "device": value.device.type}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [self._kept(one) for one in value]
        raise NotSavedError(f"it takes a {type(value).__name__}")

    def _weight(self, pointer: int) -> Any:
        if pointer not in self._weights:
            raise NotSavedError("it takes a pointer to a weight that oneDNN has packed")
        name = f"t{len(self._tensors)}"
        self._tensors[name] = self._weights[pointer].contiguous()
        return {WEIGHT: name}

    def save(self, file: Path, where: str) -> None:
        """Write it.

        Args:
            file: a new one.
            where: in words, the place in the engine.

        Raises:
            NotSavedError: it cannot be written.
        """
        import torch

        rows = self._rows
        told = {
            **self._call,
            "where": where,
            **{name: value for name, value in asdict(rows).items() if name != "request"},
            "threads": torch.get_num_threads(),
            "batch_invariant": os.environ.get("VLLM_BATCH_INVARIANT") == "1",
        }
        write(file, self._tensors, {"call": json.dumps(told)})


def write(file: Path, tensors: Mapping[str, Any], words: Mapping[str, str]) -> None:
    """A new file of tensors and words.

    Raises:
        NotSavedError: it cannot be written.
    """
    try:
        write_tensors(file, tensors, words)
    except OSError as error:
        raise NotSavedError(str(error)) from None


def remember_onednn() -> dict[int, Any]:
    """Have vLLM for CPUs tell of each weight that it has oneDNN pack from now on; by pointer, as calls name them."""
    weights: dict[int, Any] = {}
    try:
        from vllm import _custom_ops as ops

        pack = ops.create_onednn_mm
    except (ImportError, AttributeError):
        return weights

    def remembered(weight: Any, *args: Any, **named: Any) -> Any:
        """vLLM's own function, whose weight is remembered by the handle that it gives."""
        handler = pack(weight, *args, **named)
        weights[int(handler.handler_tensor)] = weight.detach()
        return handler

    ops.create_onednn_mm = remembered
    return weights
