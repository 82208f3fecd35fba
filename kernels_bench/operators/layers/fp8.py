"""Numbers of eight bits (e4m3): quantisers, a norm that ends in one, and the matrix products over what they give.

The order of the products' sums is not read: an order is read off terms so unlike that adding the small one to the large
one changes nothing, and with 4 bits of significand and 18 binades no row of ones can hold such terms beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.definitions import floats
from kernels_bench.operators.gemm import exact_product
from kernels_bench.operators.inputs.rows import bell_at
from kernels_bench.operators.layers.layer import LATER, LayerOperator
from kernels_bench.operators.reductions import EPSILON, row_unit
from kernels_bench.records.cases import Shape

GROUP = 128
"""Elements of a row that have a scale of their own, and rows and columns of a weight's blocks."""
LARGEST = 448.0
"""The largest number of e4m3, which has no infinity."""
LEAST_SCALE = 1 / (LARGEST * 512)
"""Of a row that is all zeros the scale is this, as in vLLM."""
LEAST_MAXIMUM = 1e-10
"""Likewise what a group's maximum is taken for at least."""

_UNIT = 2.0**-4  # of e4m3
_STEP_K = 32
"""Terms that a matrix unit adds at once before it rounds, or truncates, to what its accumulator keeps."""
_ACCUMULATOR = 2.0**-13
"""Hopper's matrix units keep 14 bits of a sum of products of eight bits (DeepSeek-V3 technical report, 2024, 3.3.2)."""


class Fp8(LayerOperator):
    """An operator over numbers of eight bits."""

    family = "fp8"


class Quantiser(Fp8):
    """x as numbers of eight bits times a scale."""

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """Half a step of e4m3, whose steps end at 2^-9, and some roundings in fp32 before it; the scale's own."""
        unit = roundoff(torch.float32)
        # Near the middle of a step the other neighbour is as right.
        numbers = exact[0].abs() * (_UNIT + 16 * unit) + 2.0**-10 * (1 + 2.0**-10)
        return numbers, *(scale.abs() * (4 * unit) + smallest(torch.float32) for scale in exact[1:])

    def split_result(self, result: Any) -> RowTensors:
        """Of a scale that the whole batch has every row gets a copy."""
        found = super().split_result(result)
        if not self.depends_on_batch or not all(isinstance(one, torch.Tensor) for one in found) or len(found) != 2:
            return found
        numbers, scale = found
        return (numbers, scale.reshape(1).repeat(len(numbers))) if scale.numel() == 1 else found


class NormQuantiser(Fp8):
    """A norm, and a quantiser of each row of it."""

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As of `Quantiser`; a kernel may round the normed value, and its product with the weight, to x's dtype."""
        share = 6 * roundoff(rows[0].dtype) + row_unit(rows[0].shape[1])
        return exact[0].abs() * (_UNIT + share) + 2.0**-9, exact[1].abs() * share


class ScaledMm(Fp8):
    """C = (A scale_a) (B scale_b)^T over numbers of eight bits; the result is the case's dtype."""

    weights_tell = True
    unread = "eight bits hold no two numbers so unlike that one is lost beside the other in fp32"

    def weights(self, shape: Shape, dtype: torch.dtype, seed: int, device: torch.device) -> Tensors:
        """The weight (N, K), over twelve binades so that its sums are rounded, whose second half repeats the first."""
        described = super().weights(shape, dtype, seed, device)
        numbers = torch.arange(shape.size("n"), device=device)
        first = bell_at(seed, "fp8 weight", numbers, shape.size("k") // 2, torch.ones_like(numbers, dtype=torch.bool))
        rest = bell_at(seed, "fp8 rest", numbers, shape.size("k") % 2)
        weight = torch.cat([first, first, rest], 1).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        return tuple(weight if one.dtype is weight.dtype else self._scale(one, shape) for one in described)

    def _scale(self, scale: torch.Tensor, shape: Shape) -> torch.Tensor:
        """A weight's scale."""
        return scale

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As of a GEMM, see `gemm.accumulation_allowance`; and what is lost in a matrix unit's accumulator.

        Scales may be multiplied in before the sum, in 16 bits too, or after it.
        """
        left, right = self._factors(rows, weights)
        k = left.shape[1]
        size = exact_product(left.square(), right.square().t()).sqrt_()
        lost = 16 * roundoff(torch.float32) * k**0.5 + 2 * _ACCUMULATOR * -(-k // _STEP_K) + 8 * roundoff(out)
        return (size * lost + exact[0].abs() * (2 * roundoff(out)) + 2 * smallest(out),)

    def _factors(self, rows: RowTensors, weights: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """A (M, K) and B (N, K) with their scales, float64."""
        known = {name: one.double() for name, one in self._by_name(rows, weights).items() if hasattr(one, "double")}
        return dequantised(known["a"], known["scale_a"]), dequantised(known["b"], known["scale_b"])

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each of M N K products."""
        return 2 * m * shape.size("n") * shape.size("k")


class ColumnMajorMm(ScaledMm):
    """`ScaledMm` whose kernels take B as (K, N), column after column, and the scale of each column as (1, N)."""

    def arguments(self, rows: RowTensors, weights: Tensors) -> tuple[Any, ...]:
        """(a, b, scale_a, scale_b)."""
        a, b, scale_a, scale_b = super().arguments(rows, weights)
        return a, b.t(), scale_a, scale_b if scale_b.dim() == 1 else scale_b.t()


class BlockMm(ScaledMm):
    """`ScaledMm` with scales of groups and blocks, which repeat as the weight does: rows that cancel still do."""

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """A (rows, K), and of eight bits the scales of its groups too."""
        a, *scales = super().rows(shape, count, dtype, seed, device)
        return a, *(_repeated(scale) for scale in scales)

    def _scale(self, scale: torch.Tensor, shape: Shape) -> torch.Tensor:
        return _repeated(scale)

    def _factors(self, rows: RowTensors, weights: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        a = rows[0].double()
        return a if len(rows) == 1 else dequantised(a, rows[1].double()), dequantised(*(w.double() for w in weights))


def _repeated(scale: torch.Tensor) -> torch.Tensor:
    """Scales (…, groups) of which the second half is the first, where groups fall into halves."""
    half = scale.shape[1] // 2
    return scale if scale.shape[1] % 2 else torch.cat([scale[:, :half]] * 2, 1)


def dequantised(numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Numbers (rows, K) times their scales: one for all, one a row (rows, 1), or groups and blocks of `GROUP`."""
    if scale.dim() == 2 and scale.shape != (len(numbers), 1):
        high = 1 if len(scale) == len(numbers) else GROUP
        scale = scale.repeat_interleave(high, 0)[: len(numbers)].repeat_interleave(GROUP, 1)[:, : numbers.shape[1]]
    wide: torch.Tensor = numbers * scale
    return wide


def _groups(x: torch.Tensor) -> torch.Tensor:
    groups: torch.Tensor = x.unflatten(1, (-1, GROUP))
    return groups


def _by_row(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = (x.abs().amax(1, keepdim=True) / LARGEST).clamp(min=LEAST_SCALE)
    return x / scale, scale


def _by_group(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = _groups(x).abs().amax(2).clamp(min=LEAST_MAXIMUM) / LARGEST
    return (_groups(x) / scale[..., None]).flatten(1), scale


def _by_batch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = (x.abs().amax() / LARGEST).clamp(min=LEAST_SCALE)
    return x / scale, scale.expand(len(x))


def _normed_by_row(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean_square = x.square().sum(1, keepdim=True) / x.shape[1]
    return _by_row(x / (mean_square + EPSILON).sqrt() * weight)


def _product(a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor) -> torch.Tensor:
    return exact_product(dequantised(a, scale_a), dequantised(b, scale_b).t())


_LENGTHS = {
    "qwen3-8b/hidden": {"k": 4096},
    "deepseek-v3/hidden": {"k": 7168},
    "llama-3.1-8b/mlp": {"k": 14336},
    "unaligned/0": {"k": 1003},
    "small/aligned": {"k": 512},
    "small/unaligned": {"k": 259},
}
_GROUPED = _LENGTHS | {"unaligned/0": {"k": 1920}, "small/unaligned": {"k": 384}}
_WEIGHTS = {
    "qwen3-8b/o_proj": {"n": 4096, "k": 4096},
    "qwen3-8b/down_proj": {"n": 4096, "k": 12288},
    "deepseek-v3/q_b_proj": {"n": 24576, "k": 1536},
    "unaligned/0": {"n": 1001, "k": 1003},
    # On CPUs torch has no fast code for these: a row takes some microseconds for each 16 elements of the weight.
    "small/aligned": {"n": 16, "k": 128},
    "small/unaligned": {"n": 13, "k": 67},
}
_BLOCKS = _WEIGHTS | {
    "unaligned/0": {"n": 1120, "k": 1920},
    "small/aligned": {"n": 64, "k": 256},
    "small/unaligned": {"n": 96, "k": 384},
}
_DTYPES = ("bf16", "fp16", "fp32")
_NUMBERS = floats("k", dtype="fp8_e4m3")
_LEAST, _MOST = 2.0**-10, 2.0**-6


def _scales(*dims: int | str) -> Any:
    return floats(*dims, dtype="fp32", low=_LEAST, high=_MOST)


def _scaled_mm(
    kind: type[ScaledMm], name: str, summary: str, scales: tuple[Any, Any], shapes: Any, by_row: bool = True
) -> LayerOperator:
    left, right = scales
    rows = {"a": _NUMBERS, **({"scale_a": left} if by_row else {})}
    return kind.define(
        name,
        rows=rows,
        shared={"b": floats("n", "k", dtype="fp8_e4m3"), **({} if by_row else {"scale_a": left}), "scale_b": right},
        shapes=shapes,
        results=("n",),
        reference=_product,
        arguments=("a", "b", "scale_a", "scale_b"),
        dtypes=("bf16", "fp16"),
        summary=summary,
    )


def _quantiser(name: str, summary: str, results: Sequence[Any], reference: Any, **more: Any) -> LayerOperator:
    return Quantiser.define(
        name,
        rows={"x": ("k",)},
        results=list(results),
        reference=reference,
        dtypes=_DTYPES,
        summary=summary,
        **{"shapes": _LENGTHS} | more,
    )


OPERATORS = (
    _quantiser("fp8_quant_token", "q[M,K] = e4m3(x / s[M]), s = max|x[M]| / 448",
        (_NUMBERS, floats(1, dtype="fp32")), _by_row),
    _quantiser("fp8_quant_group", "q[M,K] = e4m3(x / s[M,K/128]), s = max of 128|x| / 448",
        (_NUMBERS, floats("k//128", dtype="fp32")), _by_group, shapes=_GROUPED),
    _quantiser("fp8_quant_static", "q[M,K] = e4m3(x / s)", (_NUMBERS,),
        lambda x, scale: ((x / scale).clamp(-LARGEST, LARGEST),), shared={"scale": floats(1, dtype="fp32", low=2.0**-7,
        high=2.0**-5)}),
    _quantiser("fp8_quant_tensor", "q[M,K] = e4m3(x / s), s = max|x| / 448",
        (_NUMBERS, floats(dtype="fp32")), _by_batch, depends_on_batch="the scale is the maximum over the batch"),
    NormQuantiser.define(
        "rms_norm_quant",
        rows={"x": ("k",)},
        shared={"weight": ("k",), "eps": EPSILON},
        shapes=_LENGTHS,
        results=[_NUMBERS, floats(1, dtype="fp32")],
        reference=_normed_by_row,
        dtypes=_DTYPES,
        summary="fp8_quant_token of rms_norm(x)",
    ),
    _scaled_mm(ColumnMajorMm, "scaled_mm_token", "C[M,N] = (a[M,K] s[M]) (b[K,N] s[N])",
        (_scales(1), _scales("n", 1)), _WEIGHTS),
    _scaled_mm(ColumnMajorMm, "scaled_mm_tensor", "C[M,N] = s a[M,K] s' b[K,N]",
        (_scales(1), _scales(1)), _WEIGHTS, by_row=False),
    _scaled_mm(BlockMm, "scaled_mm_block", "C[M,N] = (a[M,K] s[M,K/128]) (b[N,K] s[N/128,K/128])^T",
        (_scales("k//128"), _scales("(n+127)//128", "k//128")), _BLOCKS),
    BlockMm.define(
        "fp8_weight_linear",
        rows={"x": ("k",)},
        shared={"weight": floats("n", "k", dtype="fp8_e4m3"), "scale": _scales("(n+127)//128", "k//128")},
        shapes=_BLOCKS,
        results=("n",),
        reference=lambda x, weight, scale: exact_product(x, dequantised(weight, scale).t()),
        dtypes=("bf16", "fp16"),
        summary="y[M,N] = x[M,K] (weight[N,K] s[N/128,K/128])^T, weight in e4m3",
    ),
)  # fmt: skip
ORDER = LATER
