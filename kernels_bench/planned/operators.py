"""The operators that an engine calls instead of its own: ``samebits::planned_linear`` and two norms.

To a compiler each is one operator without an inside.  The choice by M is made in its body, so at run time: one that was
made while a graph is traced would be that of the M traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels_bench.arms.base import Kernel
from kernels_bench.planned.tables import ADD_NORM, LINEAR, LINEAR_BIAS, NORM, Choice, Key, conservative
from kernels_bench.records.cases import DTYPES, Device

_SHORT = {getattr(torch, name): short for short, name in DTYPES.items()}


def short(dtype: torch.dtype) -> str:
    """A dtype's short name; the dtype's own name where samebits has none."""
    return _SHORT.get(dtype, str(dtype))


_SCHEMAS = {
    "planned_linear": "(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
    "planned_rms_norm": "(Tensor x, Tensor weight, float eps) -> Tensor",
    "planned_fused_add_rms_norm": "(Tensor x, Tensor residual, Tensor weight, float eps) -> (Tensor, Tensor)",
}


CalledWith = Callable[[Tensor], tuple[Any, ...]]
"""What a kernel is called with, for rows (M, K)."""


class Planned:
    """The kernels of one process, by shape.

    Args:
        choices: a plan's.
        device: what they run on, for shapes that are outside of the plan.
        told: receives a line for each of these.
        warms_up: whether all kernels of a shape are called where it is first met; None where they are compiled.
    """

    def __init__(
        self,
        choices: Mapping[Key, Choice],
        device: Device,
        told: Callable[[str], None],
        warms_up: bool | None = None,
    ) -> None:
        self._choices = dict(choices)
        self._device, self._told = device, told
        self._warms_up = device.type != "cpu" if warms_up is None else warms_up
        # By what a call has at hand: a tuple of these is found sooner than a `Key` is made.
        self._found: dict[tuple[object, ...], Choice] = {}

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Those of the plan, and those that were made for other shapes."""
        return tuple(self._choices.values())

    def has(self, key: Key) -> bool:
        """Whether the plan has a shape."""
        choice = self._choices.get(key)
        return choice is not None and choice.planned

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`x` (..., K) times the transpose of `weight` (N, K), plus `bias` (N,) -> (..., N)."""
        n, k = weight.shape
        token = (n, k, weight.dtype, bias is None)
        shared = (weight,) if bias is None else (weight, bias)
        choice = self._found.get(token)
        if choice is None:
            operator = LINEAR if bias is None else LINEAR_BIAS
            choice = self._find(token, Key(operator, n, k, _SHORT[x.dtype]), x, lambda rows: (rows, *shared))
        rows = x if x.dim() == 2 else x.reshape(-1, k)
        kernel = choice.kernel_at(rows.shape[0])
        choice.calls += 1
        result: Tensor = kernel(rows, *shared)
        return result if x.dim() == 2 else result.view(*x.shape[:-1], n)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Each row of `x` (M, K) over the root of its mean square, times `weight` (K,) -> (M, K)."""
        result: Tensor = self._norm(NORM, x, lambda rows: (rows, weight, eps))(x, weight, eps)
        return result.contiguous()

    def fused_add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """`rms_norm` of `x` + `residual` (M, K), and that sum; both new."""
        normed, summed = self._norm(ADD_NORM, x, lambda rows: (rows, rows, weight, eps))(x, residual, weight, eps)
        return normed.contiguous(), summed.contiguous()

    def _norm(self, operator: str, x: Tensor, called_with: CalledWith) -> Kernel:
        rows, k = x.shape
        token = (operator, k, x.dtype)
        choice = self._found.get(token) or self._find(token, Key(operator, 0, k, _SHORT[x.dtype]), x, called_with)
        choice.calls += 1
        return choice.kernel_at(rows)

    def _find(self, token: tuple[object, ...], key: Key, x: Tensor, called_with: CalledWith) -> Choice:
        choice = self._choices.get(key)
        if choice is None:
            choice = self._choices[key] = conservative(key, self._device)
            self._told(f"{key}, outside of the plan: {choice.in_words}")
        self._found[token] = choice
        if self._warms_up and not (x.is_cuda and torch.cuda.is_current_stream_capturing()):
            _warm_up(choice, x, called_with)
        return choice


_WARMED_BYTES = 128 << 20
"""A result of a warming call takes no more: an engine leaves only so much memory free."""


def _warm_up(choice: Choice, x: Tensor, called_with: CalledWith) -> None:
    """Call each kernel of a shape, and each tile that one chooses by M, before a request waits until it is compiled."""
    for m in choice.warming_sizes:
        if m * max(choice.key.n, choice.key.k) * x.element_size() <= _WARMED_BYTES:
            choice.kernel_at(m)(*called_with(x.new_zeros(m, choice.key.k)))


class _Slot:
    """Who computes the operators; torch keeps an operator for as long as the process, and a plan may come later."""

    planned: Planned


@cache
def _registered() -> tuple[torch.library.Library, _Slot]:
    library, slot = torch.library.Library("samebits", "FRAGMENT"), _Slot()
    for name, schema in _SCHEMAS.items():
        library.define(name + schema)

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return slot.planned.linear(x, weight, bias)

    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return slot.planned.rms_norm(x, weight, eps)

    def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return slot.planned.fused_add_rms_norm(x, residual, weight, eps)

    bodies: tuple[Callable[..., object], ...] = (linear, rms_norm, fused_add_rms_norm)
    fakes: tuple[Callable[..., object], ...] = (_linear_shape, _norm_shape, _norm_shapes)
    for name, body, fake in zip(_SCHEMAS, bodies, fakes, strict=True):
        library.impl(name, body, "CompositeExplicitAutograd")
        torch.library.register_fake(f"samebits::{name}", fake, lib=library)
    return library, slot


def _linear_shape(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _norm_shape(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape)


def _norm_shapes(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


def install(planned: Planned) -> None:
    """Have the operators computed by these kernels from now on, in this process."""
    _registered()[1].planned = planned


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The operator where a compiler looks on, and its body at once where none does, which takes less of the host."""
    if torch.compiler.is_compiling():
        compiled: Tensor = torch.ops.samebits.planned_linear(x, weight, bias)
        return compiled
    return _registered()[1].planned.linear(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Likewise."""
    if torch.compiler.is_compiling():
        compiled: Tensor = torch.ops.samebits.planned_rms_norm(x, weight, eps)
        return compiled
    return _registered()[1].planned.rms_norm(x, weight, eps)


def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Likewise."""
    if torch.compiler.is_compiling():
        compiled: tuple[Tensor, Tensor] = torch.ops.samebits.planned_fused_add_rms_norm(x, residual, weight, eps)
        return compiled
    return _registered()[1].planned.fused_add_rms_norm(x, residual, weight, eps)
