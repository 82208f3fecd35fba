"""Gated activations, as they stand between the two projections of a dense layer."""

from __future__ import annotations

from kernels_bench.device.lazy_torch import F, torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.defined import Function
from kernels_bench.operators.layers.layer import LATER, LayerOperator

_SHAPES = {
    "qwen3-8b/mlp": {"d": 12288},
    "llama-3.1-8b/mlp": {"d": 14336},
    "qwen3-30b-a3b/expert": {"d": 768},
    "unaligned/0": {"d": 1003},
    "small/aligned": {"d": 512},
    "small/unaligned": {"d": 259},
}


class GatedActivation(LayerOperator):
    """f(x[:, :d]) * x[:, d:] with a function f whose gate is about as large as its argument at most."""

    family = "activation"

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Rounding of the gate and of the product; the gate's own function in fp32.

        An exponential magnifies the rounding of its argument by the argument's size, and 1 + erf or 1 + tanh cancels.
        """
        gate, up = (half.double().abs() for half in rows[0].chunk(2, 1))
        relative = 4 * roundoff(out) + roundoff(torch.float32) * (16 + 2 * gate)
        cancelled = gate * up * (8 * roundoff(torch.float32))
        # A gate below the smallest number of its dtype, or the smallest normal one of fp32, may be flushed.
        flushed = (1 + up) * (2 * smallest(out) + 2.0**-126)
        return ((exact[0].abs() * relative + cancelled + flushed).nan_to_num(nan=torch.inf),)


def _silu(x: torch.Tensor) -> torch.Tensor:
    return F.silu(x)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x)


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


def _gated(name: str, formula: str, function: Function) -> LayerOperator:
    return GatedActivation.define(
        name,
        rows={"x": ("2*d",)},
        shapes=_SHAPES,
        results=("d",),
        reference=lambda x, d: function(x[:, :d]) * x[:, d:],
        summary=f"y[M,D] = {formula}(x[M,:D]) * x[M,D:]",
    )


OPERATORS = (
    _gated("silu_and_mul", "silu", _silu),
    _gated("gelu_and_mul", "gelu", _gelu),
    _gated("gelu_tanh_and_mul", "gelu_tanh", _gelu_tanh),
)
ORDER = LATER
