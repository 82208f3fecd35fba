"""The base of operators that engines run beside matrix products, norms and attention."""

from __future__ import annotations

from typing import ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors, Tensors
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.records.cases import Shape
from kernels_bench.records.definition import Definition

BY_REQUEST = ("cuda", "cpu")
"""Devices on which these operators are measured only when they are asked for."""
LATER = 9
"""``ORDER`` of all these operators' files: they come after those of a default run."""


class LayerOperator(DefinedOperator):
    """An operator described by what one row of it is; a file's subclass names its family.

    On a GPU the shapes of models are measured and those whose names begin with ``unaligned/``; on a CPU those that
    begin with ``small/``.
    """

    own = False
    by_request = BY_REQUEST

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, where rows are packed ones."""
        assert self.definition.lengths is not None
        return self.definition.lengths[1]

    @staticmethod
    def _measured(definition: Definition) -> tuple[str, ...]:
        return tuple(shape.label for shape in definition.shapes if not shape.label.startswith("small/"))


class SumOfParts(LayerOperator):
    """The sum over a row's parts, (parts, hidden) -> (hidden,): in which order they are added can be read.

    Attributes:
        parts: the size that says how many there are.
    """

    parts: ClassVar[str]

    def probe_terms(self, shape: Shape) -> int:
        """One a part."""
        return shape.size(self.parts)

    def probe_sum_count(self, shape: Shape, m: int) -> int:
        """Every column; all rows add the same."""
        return shape.size("hidden")

    def probe_inputs(self, terms: torch.Tensor, shape: Shape, m: int) -> tuple[RowTensors, Tensors]:
        """``terms`` as every row's columns, (M, parts, hidden)."""
        return (terms.t().expand(m, -1, -1).contiguous(),), ()

    def probe_sums(self, outputs: RowTensors, shape: Shape, m: int) -> torch.Tensor:
        """(M, hidden)."""
        return outputs[0]
