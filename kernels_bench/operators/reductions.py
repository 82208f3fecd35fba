"""Functions of a row that reduce it: normalisations, softmaxes and the mean."""

from __future__ import annotations

from typing import Any, ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.base import Operator, RowTensors, Tensors, item_sizes, roundoff, smallest
from kernels_bench.operators.inputs.rows import bell_shaped, further_rows, row_table
from kernels_bench.operators.inputs.splitmix64 import hashed
from kernels_bench.records.cases import ITEM_SIZE, Precision, Shape
from kernels_bench.relations.batch import FIRST_SPECIAL, SPECIAL

EPSILON = 1e-6


class RowOperator(Operator):
    """Rows of x (M, K), reduced along K."""

    dims: ClassVar[tuple[str, ...]] = ("k",)
    sums_are_rows = True
    # Passes over the row's elements, each about one operation an element.
    passes = 1

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """None."""
        return ()

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """The row tensors, then the weights."""
        return (*rows, *weights)

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, K)."""
        return ((m, shape.k),)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x read and the result written."""
        wide, out = item_sizes(precision)
        return m * shape.k * (wide + out)

    def operations(self, shape: Shape, m: int) -> int:
        """About one operation an element and pass."""
        return self.passes * m * shape.k


def row_unit(k: int) -> float:
    """Relative error that an fp32 sum of k terms of one sign may have, with room for the functions around it.

    Terms that are nearly equal are rounded alike: of k / 16 that a lane of a vector adds one after the other, each is
    off by up to half a unit of the sum, to the same side.
    """
    return float(roundoff(torch.float32) * (16 + max(2 * k**0.5, k / 32)))


class RmsNorm(RowOperator):
    """Root-mean-square normalisation (Zhang & Sennrich, 2019)."""

    name = "rms_norm"
    summary = "y[M,K] = x / sqrt(mean(x^2) + 1e-6) * weight[K]"
    shapes = models.norms()
    quick: ClassVar[tuple[str, ...]] = ("qwen3-8b/hidden", "unaligned/0")
    passes = 4
    signed = False

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The weight (K,), around 1."""
        return ((1 + bell_shaped(seed, "weight", 0, 1, shape.k, device)[0] / 8).to(dtype),)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x and the weight read, the result written."""
        return super().bytes_moved(shape, precision, m) + shape.k * ITEM_SIZE[precision.input]

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(x, weight, eps)."""
        return (*rows, *weights, EPSILON)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Roots of ``terms``; the weight keeps results within every dtype."""
        weight = torch.full((shape.k,), 2.0**-8, dtype=terms.dtype, device=terms.device)
        return (terms.float().sqrt().to(terms.dtype),), (weight,)

    def probe_arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """With an epsilon that takes the mean of 1 away, so that what is left is what exceeds it."""
        return (*self.arguments(rows, weights)[:-1], -float(1 / torch.tensor(float(rows[0].shape[-1]))))

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): over the root of nothing a row's 1 is infinite, and its zeros are NaN."""
        infinite = outputs[0].isinf().any(1)
        return told_by_one(~infinite, outputs[0].masked_fill(infinite[:, None], 0))

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64."""
        return (_rms_norm(rows[0].double(), weights[0].double()),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Rounding of the statistic, of the normalised value and of its product with the weight."""
        relative = row_unit(exact[0].shape[-1]) + 4 * roundoff(out)
        return (exact[0].abs() * relative + 2 * smallest(out),)


def told_by_one(exceeds: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """(1, M): 1 where a row's sum exceeds 1, 0 where it does not, NaN where the row has one."""
    return torch.where(outputs.isnan().any(1), torch.nan, exceeds.double())[None]


_NOTHING = -1e4
"""A logit whose exponential is zero beside that of 0, in every dtype."""


def logits_of(terms: torch.Tensor) -> torch.Tensor:
    """Logits whose exponentials are ``terms``, of which the largest is 1."""
    return torch.where(terms == 0, _NOTHING, terms.float().log()).to(terms.dtype)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    # sum / n, not mean: vLLM's batch-invariant mode replaces aten::mean in its process.
    mean_square = (x * x).sum(-1, keepdim=True) / x.shape[-1]
    return x / (mean_square + EPSILON).sqrt() * weight


class FusedAddRmsNorm(RmsNorm):
    """Residual addition and normalisation in one kernel: returns (normed, summed), and may do so in place."""

    name = "fused_add_rms_norm"
    summary = "s = x + residual; (s / sqrt(mean(s^2) + 1e-6) * weight[K], s)"
    overwrites = (0, 1)
    quick = ("qwen3-8b/hidden",)
    passes = 5

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """x and the residual, each (rows, K), whose sum is as hostile, or as special, as they are."""
        k = shape.k
        residual = row_table(seed, "residual", count, k, dtype, device, added=True)
        added = further_rows(k, dtype, device, added=True)
        return *super().rows(shape, count, dtype, seed, device), torch.cat([residual, added])

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """The same beside a residual of zeros."""
        (x,), weights = super().probe_inputs(terms, shape, m)
        return (x, torch.zeros_like(x)), weights

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M, K) twice."""
        return ((m, shape.k),) * 2

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """The norm of the rounded sum, which is what engines pass on as the residual, and the exact sum."""
        total = rows[0].double() + rows[1].double()
        rounded = total.to(rows[0].dtype).double()
        return _rms_norm(rounded, weights[0].double()), total

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """A kernel may norm the sum before or after rounding it; the sum itself is rounded once."""
        normed, total = exact
        relative = row_unit(total.shape[-1]) + 6 * roundoff(out)
        return normed.abs() * relative + 2 * smallest(out), total.abs() * roundoff(out) + smallest(out)

    def row_sizes(self, shape: Shape) -> tuple[int, ...]:
        """K twice."""
        return (shape.k,) * 2

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x and the residual read, the norm and the sum written."""
        wide, out = item_sizes(precision)
        return 2 * m * shape.k * (wide + out) + shape.k * wide


class _OfLogits(RowOperator):
    """A function of exponentials, of which those of the row ``subnormal`` are subnormal, and not the row itself."""

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """Logits (rows, K)."""
        (table,) = super().rows(shape, count, dtype, seed, device)
        table[count + FIRST_SPECIAL + SPECIAL.index("subnormal")] = _faint_logits(shape.k, device).to(dtype)
        return (table,)


def _faint_logits(k: int, device: torch.device) -> torch.Tensor:
    """0 in the middle, and beside it what makes exponentials of 2^-127 to 2^-150, fp32 (K)."""
    drawn = hashed(0, "faint", 0, 1, k, device)[0] & 0xFFFF
    logits = drawn.float() * -(16 * 2.0**-16) - 88
    logits[k // 2] = 0
    return logits


class Softmax(_OfLogits):
    """``torch.softmax(x, dim=-1)``."""

    name = "softmax"
    summary = "y[M,K] = exp(x - max x) / sum exp(x - max x)"
    shapes = models.logits()
    usual = ("qwen3-8b", "deepseek-v3/router", "unaligned")
    precisions = ("bf16", "bf16:fp32", "fp32")
    passes = 4
    signed = False
    readable = ("fp32",)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Logarithms of ``terms``."""
        return (logits_of(terms),), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): where the sum exceeds 1, 1 over it is less than 1."""
        return told_by_one(outputs[0].amax(1) < 1, outputs[0])

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, without torch.softmax, which vLLM's batch-invariant mode replaces."""
        shifted = _shifted(rows[0])
        raised = shifted.exp()
        return (raised / raised.sum(-1, keepdim=True),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """The exponential magnifies its argument's rounding by the argument's size.

        A kernel that raises 2 may multiply the logits, and then subtract the largest: each is rounded by itself.
        """
        k = exact[0].shape[-1]
        size = _shifted(rows[0]).abs_()
        own = rows[0].double().abs().nan_to_num_(nan=0.0, posinf=0.0)
        rounded = size + own + own.amax(1, keepdim=True)
        relative = row_unit(k) + roundoff(torch.float32) * 4 * rounded + roundoff(out) * (4 + _narrow(size, out))
        # Below the smallest normal fp32 number a kernel may flush to zero, as fast exponentials do.
        return (exact[0] * relative + 2 * smallest(out) + 2.0**-126,)


def _shifted(x: torch.Tensor) -> torch.Tensor:
    wide = x.double()
    return wide - wide.amax(-1, keepdim=True)


def _narrow(size: torch.Tensor, out: torch.dtype) -> torch.Tensor | float:
    # A kernel may compute x - max in the 16-bit dtype that it was given (vLLM 0.26 does).
    return 0.0 if out is torch.float32 else 2 * size


class LogSoftmax(_OfLogits):
    """``torch.log_softmax(x, dim=-1)``."""

    name = "log_softmax"
    summary = "y[M,K] = x - max x - log sum exp(x - max x)"
    shapes = models.logits()
    usual = ("qwen3-8b", "deepseek-v3/router", "unaligned")
    precisions = ("bf16", "bf16:fp32", "fp32")
    passes = 4
    signed = False

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Logarithms of ``terms``."""
        return (logits_of(terms),), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): where the sum exceeds 1, its logarithm is not 0."""
        return told_by_one(outputs[0].amax(1) < 0, outputs[0])

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, without torch.log_softmax, which vLLM's batch-invariant mode replaces."""
        shifted = _shifted(rows[0])
        return (shifted - shifted.exp().sum(-1, keepdim=True).log(),)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Relative to the larger of the logarithm and the shift, which are subtracted, and of x itself."""
        size = exact[0].abs() + rows[0].double().abs() + 16
        relative = roundoff(torch.float32) * 8 + roundoff(out) * 2
        return (size * relative + row_unit(exact[0].shape[-1]),)


class Mean(RowOperator):
    """``torch.mean(x, dim=-1)``."""

    name = "mean"
    summary = "y[M] = sum(x) / K"
    shapes = models.norms()
    quick = ("qwen3-8b/hidden",)
    precisions = ("bf16:fp32", "bf16", "fp32")
    sums_are_exact = False

    def result_shapes(self, shape: Shape, m: int) -> tuple[tuple[int, ...], ...]:
        """(M,)."""
        return ((m,),)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, without torch.mean, which vLLM's batch-invariant mode replaces."""
        return (rows[0].double().sum(-1) / rows[0].shape[-1],)

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As for a GEMM: relative to the root of the sum of squares, about as far as partial sums go."""
        k = rows[0].shape[-1]
        size = (rows[0].double() ** 2).sum(-1).sqrt() / k
        bound = size * (16 * roundoff(torch.float32) * k**0.5)
        if out is not torch.float32:
            bound = bound + 2 * roundoff(out) * size
        return (bound + 2 * roundoff(out) * exact[0].abs() + smallest(out),)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """``terms`` themselves."""
        return (terms,), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(1, M): the means times K."""
        return outputs[0].double()[None] * shape.k

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """x read and one number a row written."""
        wide, out = item_sizes(precision)
        return m * (shape.k * wide + out)


OPERATORS = (RmsNorm(), FusedAddRmsNorm(), Softmax(), LogSoftmax(), Mean())
