"""Low-rank adapters, of which every token has its own: down to a rank, and up again onto what a layer gave."""

from __future__ import annotations

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors, roundoff
from kernels_bench.operators.definitions import floats, integers
from kernels_bench.operators.gemm import accumulation_allowance, exact_product
from kernels_bench.operators.layers.layer import LATER
from kernels_bench.operators.layers.routed import Routed
from kernels_bench.records.cases import Shape


class Lora(Routed):
    """A token's product with its own adapter's matrix.  The order is read of tokens that all have the first adapter.

    Attributes:
        depth: the size over which is summed.
        width: the size that says how many sums a token has.
    """

    family = "lora"
    among = "adapters"
    depth: str
    width: str

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each product."""
        sizes = dict(shape.sizes)
        return 2 * m * sizes[self.depth] * sizes[self.width]

    def probe_terms(self, shape: Shape) -> int:
        """As many as are summed."""
        return shape.size(self.depth)

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column of the first adapter; all tokens add the same."""
        return shape.size(self.width)

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Ones, and ``terms`` as the first adapter's matrix."""
        others = terms.new_zeros(shape.size(self.among) - 1, *terms.shape)
        ids = torch.zeros(m, dtype=torch.int32, device=terms.device)
        return (terms.new_ones(m, terms.shape[1]), ids), (torch.cat([terms[None], others]),)

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M, sums)."""
        return outputs[0]


class LoraShrink(Lora):
    """x (hidden) to the adapter's rank, in fp32."""

    depth, width = "hidden", "rank"

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """Of an fp32 result, whatever the inputs."""
        x, ids = rows
        exact, allowed = _product(x, ids, weights[0], torch.float32)
        return (exact,), (allowed,)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, one adapter after the other."""
        return self.reference_and_tolerance(rows, weights, torch.float32)[0]


class LoraExpand(Lora):
    """x (rank) to the layer's width, added to what the layer gave, in whose dtype the product may be computed."""

    depth, width = "rank", "n"

    def reference_and_tolerance(
        self, rows: RowTensors, weights: Tensors, out: torch.dtype
    ) -> tuple[RowTensors, RowTensors]:
        """The product's error, and two roundings of the sum and of what it is added to."""
        x, ids, y = rows
        exact, allowed = _product(x, ids, weights[0], out)
        total = exact + y.double()
        allowed += (y.double().abs() + total.abs()) * (2 * roundoff(out))
        return (total,), (allowed.nan_to_num_(nan=torch.inf),)

    def reference(self, rows: RowTensors, weights: Tensors) -> RowTensors:
        """In float64, one adapter after the other."""
        return self.reference_and_tolerance(rows, weights, torch.float32)[0]

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Likewise, added to zeros; the ones are fp32."""
        (ones, ids), weights = super().probe_inputs(terms, shape, m)
        return (ones.float(), ids, terms.new_zeros(m, len(terms))), weights


def _product(
    x: torch.Tensor, ids: torch.Tensor, matrices: torch.Tensor, out: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token times the transpose of its matrix, and how far an honest kernel may be from it; float64."""
    exact = torch.zeros(len(x), matrices.shape[1], dtype=torch.float64, device=x.device)
    allowed = torch.zeros_like(exact)
    for adapter in ids.unique().tolist():
        (tokens,) = (ids == adapter).nonzero(as_tuple=True)
        one, matrix = x[tokens], matrices[adapter].t()
        product = exact_product(one, matrix)
        exact[tokens] = product
        allowed[tokens] = accumulation_allowance(one, matrix, product, out)
    return exact, allowed.nan_to_num_(nan=torch.inf)


_SHRINK = {
    "qwen3-8b/qkv_proj-r16": {"hidden": 4096, "rank": 16, "adapters": 8},
    "qwen3-8b/down_proj-r64": {"hidden": 12288, "rank": 64, "adapters": 8},
    "llama-3.1-8b/down_proj-r32": {"hidden": 14336, "rank": 32, "adapters": 4},
    "unaligned/0": {"hidden": 1003, "rank": 8, "adapters": 5},
    "small/aligned": {"hidden": 512, "rank": 16, "adapters": 4},
    "small/unaligned": {"hidden": 259, "rank": 8, "adapters": 5},
}
_EXPAND = {
    "qwen3-8b/q_proj-r16": {"n": 4096, "rank": 16, "adapters": 8},
    "qwen3-8b/up_proj-r64": {"n": 12288, "rank": 64, "adapters": 8},
    "llama-3.1-8b/up_proj-r32": {"n": 14336, "rank": 32, "adapters": 4},
    "unaligned/0": {"n": 1003, "rank": 8, "adapters": 5},
    "small/aligned": {"n": 512, "rank": 16, "adapters": 4},
    "small/unaligned": {"n": 259, "rank": 8, "adapters": 5},
}

OPERATORS = (
    LoraShrink.define(
        "lora_shrink",
        rows={"x": ("hidden",), "ids": integers(high="adapters", dtype="int32")},
        shared={"a": ("adapters", "rank", "hidden")},
        shapes=_SHRINK,
        results=floats("rank", dtype="fp32"),
        arguments=("x", "a", "ids"),
        summary="y[M,R] = x[M,K] a[id]^T in fp32; each row has an adapter",
    ),
    LoraExpand.define(
        "lora_expand",
        rows={"x": floats("rank", dtype="fp32"), "ids": integers(high="adapters", dtype="int32"), "y": ("n",)},
        shared={"b": ("adapters", "n", "rank")},
        shapes=_EXPAND,
        results=("n",),
        arguments=("x", "b", "ids", "y"),
        overwrites=("y",),
        summary="y[M,N] += x[M,R] b[id]^T of fp32 x; each row has an adapter",
    ),
)
ORDER = LATER
