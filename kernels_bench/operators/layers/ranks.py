"""What the ranks of a tensor-parallel model add up: a row is what each of them has of one token.

Of R terms there are many orders from three on; with two ranks there is one.  Where the ranks compute these terms, too,
from their parts of K, the order of all K products depends on how many they are.
"""

from __future__ import annotations

import math

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators import model_shapes as models
from kernels_bench.operators.base import RowTensors, Tensors, roundoff, smallest
from kernels_bench.operators.gemm import accumulation_allowance, exact_product
from kernels_bench.operators.layers.layer import LATER, LayerOperator, SumOfParts
from kernels_bench.records.cases import ITEM_SIZE, Precision, Shape
from kernels_bench.relations.batch import Batch

RANKS = (2, 4, 8)
SIZES = (1, *RANKS)
"""TP sizes of row-parallel linears: of one rank, too, to hold the others against."""
WHOLE = SIZES[-1]
"""Zeros fill K up to a multiple of it, so that at each of these sizes every rank has as much of K."""

_HIDDEN = {**{model.name: model.hidden for model in models.DENSE if model.name != "qwen2.5-7b"}, "deepseek-v3": 7168}


class OverRanks(SumOfParts):
    """A sum over ranks, element by element.  All columns of all rows are sums of R terms each."""

    family = "ranks"
    parts = "ranks"
    passes: int
    """How often all but its own share of a message must leave each rank."""

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """R roundings of partial sums, which libraries keep in the dtype of the inputs.

        None is larger than the sum of all sizes; where that is too large for the dtype, any may be infinite.
        """
        sizes = rows[0].double().abs().sum(1)
        bound = sizes * (rows[0].shape[1] * roundoff(out)) + 2 * smallest(out)
        return (torch.where(sizes < torch.finfo(out).max, bound, torch.inf).nan_to_num(nan=torch.inf),)

    def operations(self, shape: Shape, m: int) -> int:
        """An addition for each rank but one."""
        return m * shape.size("hidden") * (shape.size("ranks") - 1)

    def message_bytes(self, shape: Shape, precision: Precision, m: int) -> int:
        """M K items, by which libraries choose how they add."""
        return m * shape.size("hidden") * ITEM_SIZE[precision.input]

    def bus_bytes(self, shape: Shape, precision: Precision, m: int) -> float:
        """(R - 1) / R of the message, and as much again where every rank gets all of the result."""
        ranks = shape.size("ranks")
        return self.passes * (ranks - 1) / ranks * self.message_bytes(shape, precision, m)


class AllReduce(OverRanks):
    """Every rank gets all of the sum."""

    passes = 2


class ReduceScatter(OverRanks):
    """Every rank gets its share of the sum's rows."""

    passes = 1


class RowParallel(LayerOperator):
    """A linear whose rows and weight are split over K: each rank has the products of its part, and all add them up."""

    family = "ranks"
    rows_are = "sharded"
    weights_tell = True

    def gather(self, company: Batch, count: int, shape: Shape, tables: RowTensors, weights: Tensors) -> RowTensors:
        """(M, R, K / R), see `split`."""
        (x,) = super().gather(company, count, shape, tables, weights)
        return (split(x, self._ranks(company)),)

    def view(self, company: Batch, tables: RowTensors) -> RowTensors | None:
        """Likewise, where rows lie one after the other and K needs no zeros."""
        found = super().view(company, tables)
        return found and (split(found[0], self._ranks(company)),)

    def _ranks(self, company: Batch) -> int:
        assert self._at is not None
        return company.serving.ranks or self._at.size("ranks")

    def tolerance(self, rows: RowTensors, weights: Tensors, exact: RowTensors, out: torch.dtype) -> RowTensors:
        """As of a GEMM, and a rounding of each rank's part and of each sum over ranks, as of `OverRanks`."""
        assert self._at is not None
        x, matrix = rows[0].double(), weights[0].t().double()
        sizes = exact_product(x.abs(), matrix.abs())
        roundings = max(WHOLE, self._at.size("ranks")) * roundoff(out)
        bound = accumulation_allowance(rows[0], matrix, exact[0], out)
        bound += exact_product(x.square(), matrix.square()).sqrt_() * roundings
        return (torch.where(sizes < torch.finfo(out).max, bound, torch.inf).nan_to_num(nan=torch.inf),)

    def probe_terms(self, shape: Shape) -> int:
        """K, whatever the number of ranks."""
        return shape.size("k")

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column; all rows add the same."""
        return shape.size("n")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """Ones, and ``terms`` as the weight's rows."""
        return (split(terms.new_ones(m, shape.size("k")), shape.size("ranks")),), (terms,)

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M, N)."""
        return outputs[0]

    def operations(self, shape: Shape, m: int) -> int:
        """A multiplication and an addition for each of M N K products."""
        return 2 * m * shape.size("n") * shape.size("k")

    def message_bytes(self, shape: Shape, precision: Precision, m: int) -> int:
        """M N items, which are reduced."""
        return m * shape.size("n") * ITEM_SIZE[precision.output]

    def bus_bytes(self, shape: Shape, precision: Precision, m: int) -> float:
        """Of the all-reduce alone."""
        ranks = shape.size("ranks")
        return 2 * (ranks - 1) / ranks * self.message_bytes(shape, precision, m)


def split(rows: torch.Tensor, ranks: int) -> torch.Tensor:
    """(M, K) as (M, R, K / R), each rank's part of every row; K is filled up with zeros where it has to be.

    A weight (N, K) is split likewise.
    """
    whole = math.lcm(WHOLE, ranks)
    missing = -rows.shape[1] % whole
    filled = torch.nn.functional.pad(rows, (0, missing)) if missing else rows
    return filled.reshape(len(rows), ranks, -1)


def _shapes() -> dict[str, dict[str, int]]:
    real = {f"{name}/tp{ranks}": (ranks, hidden) for name, hidden in _HIDDEN.items() for ranks in RANKS}
    odd = {"unaligned/tp4": (4, 1003), "small/tp2": (2, 256), "small/tp4": (4, 259), "small/tp8": (8, 128)}
    return {label: {"ranks": ranks, "hidden": hidden} for label, (ranks, hidden) in (real | odd).items()}


def _over_ranks(operator: type[OverRanks], name: str, summary: str) -> LayerOperator:
    return operator.define(
        name,
        rows={"x": ("ranks", "hidden")},
        shapes=_shapes(),
        results=("hidden",),
        reference=lambda x: x.sum(1),
        summary=summary,
    )


def _linear_shapes() -> dict[str, dict[str, int]]:
    """(R, N, K) of the linears that follow attention and the activation, of which each rank has a part of K."""
    parts = ("o_proj", "down_proj")
    real = {
        f"{model}/tp{ranks}/{part}": (ranks, shape.columns, shape.k)
        for shape in models.projections()
        for model, _, part in [shape.label.partition("/")]
        if model in _HIDDEN and part in parts
        for ranks in SIZES
    }
    odd = {"unaligned/tp4": (4, 1003, 1501)}
    small = {f"small/tp{ranks}": (ranks, 48, 96) for ranks in SIZES}
    return {label: dict(zip(("ranks", "n", "k"), sizes, strict=True)) for label, sizes in (real | odd | small).items()}


OPERATORS = (
    _over_ranks(AllReduce, "all_reduce", "y[M,K] = sum_r x[M,r,K]; every rank r has (M, K), and gets all of y"),
    _over_ranks(
        ReduceScatter,
        "reduce_scatter",
        "y[M,K] = sum_r x[M,r,K]; every rank r has (M, K), and gets its share of y's rows",
    ),
    RowParallel.define(
        "row_parallel_linear",
        rows={"x": ("k",)},
        shared={"weight": ("n", "k")},
        shapes=_linear_shapes(),
        results=("n",),
        reference=lambda x, weight: exact_product(x, weight.t()),
        summary="y[M,N] = sum_r x[M,K_r] weight[N,K_r]^T; every rank r has a part K_r of K, and gets all of y",
    ),
)
ORDER = LATER
