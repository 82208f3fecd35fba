"""Normalisations beside the two of a default run: with a bias, with Gemma's weight, and over each head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.inputs.rows import bell_shaped
from kernels_bench.operators.layers.layer import BY_REQUEST, LATER
from kernels_bench.operators.reductions import EPSILON, RmsNorm, RowOperator, row_unit
from kernels_bench.records.cases import ITEM_SIZE, Precision, Shape

_FAMILY = "norms"
_INVENTED = {"unaligned/0": 1003, "small/aligned": 1024, "small/unaligned": 259}


def _row_lengths(models: Mapping[str, int]) -> tuple[Shape, ...]:
    lengths = {**{f"{name}/hidden": k for name, k in models.items()}, **_INVENTED}
    return tuple(Shape(label=label, k=k) for label, k in lengths.items())


class LayerNorm(RowOperator):
    """Layer normalisation (Ba et al., 2016).  The order of its two sums cannot be read off its result."""

    name = "layer_norm"
    summary = "y[M,K] = (x - mean x) / sqrt(var x + 1e-6) * weight[K] + bias[K]"
    family = _FAMILY
    by_request = BY_REQUEST
    shapes = _row_lengths({"opt-6.7b": 4096, "phi-2": 2560, "falcon-7b": 4544})
    usual = ("opt-6.7b", "falcon-7b", "unaligned")
    quick = ("opt-6.7b",)
    sums_are_rows = False
    passes = 6

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The weight, around 1, and the bias, around 0: (K,) each."""
        weight, bias = (bell_shaped(seed, name, 0, 1, shape.k, device)[0] / 8 for name in ("weight", "bias"))
        return (1 + weight).to(dtype), bias.to(dtype)

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(x, weight, bias, eps)."""
        return (*rows, *weights, EPSILON)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64."""
        weight, bias = (one.double() for one in weights)
        centred, deviation = _centred(rows[0])
        return (centred / deviation * weight + bias,)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Of a variance that may be the mean of squares less the square of the mean; and of a few roundings."""
        weight, bias = (one.double().abs() for one in weights)
        centred, deviation = _centred(rows[0])
        normed, largest = centred.abs() / deviation, rows[0].double().abs().amax(-1, keepdim=True) / deviation
        lost = row_unit(rows[0].shape[-1]) * (largest + normed * (1 + largest.square())) * weight
        rounded = (4 * roundoff(out) + row_unit(1)) * (normed * weight + bias)
        return ((lost + rounded + 2 * smallest(out)).nan_to_num(nan=torch.inf),)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x, the weight and the bias read, the result written."""
        return super().bytes_moved(shape, precision, m) + 2 * shape.k * ITEM_SIZE[precision.input]


def _centred(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows less their means, and the roots of their variances, float64."""
    wide = x.double()
    centred = wide - wide.sum(-1, keepdim=True) / wide.shape[-1]
    variance = centred.square().sum(-1, keepdim=True) / wide.shape[-1]
    return centred, (variance + EPSILON).sqrt()


class GemmaRmsNorm(RmsNorm):
    """As Gemma's models have it: what is stored of the weight is its distance from 1."""

    name = "gemma_rms_norm"
    summary = "y[M,K] = x / sqrt(mean(x^2) + 1e-6) * (1 + weight[K])"
    family = _FAMILY
    by_request = BY_REQUEST
    shapes = _row_lengths({"gemma-2-9b": 3584, "gemma-3-4b": 2560})
    usual = ("gemma-2-9b", "gemma-3-4b", "unaligned")
    quick = ("gemma-2-9b",)

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The weight (K,), around 0."""
        return ((bell_shaped(seed, "weight", 0, 1, shape.k, device)[0] / 8).to(dtype),)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """As of `RmsNorm`, less 1."""
        rows, (weight,) = super().probe_inputs(terms, shape, m)
        return rows, (weight - 1,)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64."""
        return super().reference(rows, (weights[0].double() + 1,))


class QkNorm(RmsNorm):
    """`RmsNorm` over the last dimension of (M, heads, K): queries and keys are normed head by head."""

    name = "qk_norm"
    summary = "y[M,H,K] = x / sqrt(mean_k(x^2) + 1e-6) * weight[K]"
    family = _FAMILY
    by_request = BY_REQUEST
    dims = ("heads", "k")
    shapes = (
        Shape(label="qwen3-8b/q_norm", heads=32, k=128),
        Shape(label="qwen3-8b/k_norm", heads=8, k=128),
        Shape(label="unaligned/0", heads=7, k=83),
        Shape(label="small/aligned", heads=4, k=128),
        Shape(label="small/unaligned", heads=3, k=83),
    )
    quick = ("qwen3-8b/q_norm",)

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """(rows, heads, K)."""
        wide = Shape(label=shape.label, k=_heads(shape) * shape.k)
        (table,) = super().rows(wide, count, dtype, seed, device)
        return (table.unflatten(1, (_heads(shape), shape.k)),)

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, heads, K)."""
        return ((m, _heads(shape), shape.k),)

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """heads * K."""
        return (_heads(shape) * shape.k,)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x and the weight read, the result written."""
        return super().bytes_moved(shape, precision, m * _heads(shape))

    def operations(self, shape: Shape, m: int) -> int:
        """As of as many rows as there are heads."""
        return super().operations(shape, m * _heads(shape))

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """As of `RmsNorm`, the same in every head."""
        (x,), weights = super().probe_inputs(terms, shape, m)
        return (x[:, None].expand(-1, _heads(shape), -1).contiguous(),), weights

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(heads, M)."""
        return super().probe_sums((outputs[0].flatten(0, 1),), shape, m).view(-1, _heads(shape)).t()


def _heads(shape: Shape) -> int:
    assert shape.heads is not None
    return shape.heads


OPERATORS = (LayerNorm(), GemmaRmsNorm(), QkNorm())
ORDER = LATER
