"""The base of operators whose rows choose some of what all of them share: experts, or an adapter."""

from __future__ import annotations

import math
from typing import ClassVar

from kernels_bench.device.lazy_torch import torch
from kernels_bench.operators.base import RowTensors
from kernels_bench.operators.layers.layer import LayerOperator
from kernels_bench.operators.layers.routing import choices_met, routed_ids
from kernels_bench.records.cases import Precision, Shape

_SURE = 64
"""With so many draws a choice every one of them is met: nobody need look."""


class Routed(LayerOperator):
    """All tensors that its rows share have a first dimension that counts what is chosen from.

    Attributes:
        ids: which of the rows' tensors holds the choices.
        among: the size that says how many there are to choose from.
    """

    rows_are = "routed"
    ids: ClassVar[str] = "ids"
    among: ClassVar[str]

    def top(self, shape: Shape) -> int:
        """How many choices a row has."""
        return math.prod(self.definition.rows[self.ids].sizes(dict(shape.sizes)))

    def rows(self, shape: Shape, count: int, dtype: torch.dtype, seed: int, device: torch.device) -> RowTensors:
        """As described, with the choices of `routed_ids`."""
        found = [*super().rows(shape, count, dtype, seed, device)]
        place = [*self.definition.rows].index(self.ids)
        chosen = routed_ids(seed, count, shape.size(self.among), self.top(shape), device)
        found[place] = chosen.reshape(found[place].shape)
        return tuple(found)

    def bytes_moved(self, shape: Shape, precision: Precision, m: int) -> int:
        """Every tensor of the rows, the results, and what is shared as far as one of the rows has chosen it."""
        choices, top = shape.size(self.among), self.top(shape)
        met = choices if m * top >= _SURE * choices else choices_met(m, choices, top)
        return self._all_bytes(shape, precision, m) - (choices - met) * self._choice_bytes(shape, precision)

    def _all_bytes(self, shape: Shape, precision: Precision, m: int) -> int:
        return super().bytes_moved(shape, precision, m)

    def _choice_bytes(self, shape: Shape, precision: Precision) -> int:
        """Of one expert or adapter."""
        sizes = dict(shape.sizes)
        shared = self.definition.tensors.values()
        return sum(math.prod(one.sizes(sizes)[1:]) * one.item_bytes(precision.input) for one in shared)

    def row_bytes(self, shape: Shape, precision: Precision, universe: int) -> float:
        """Of the rows' tensors and results alone."""
        return self._all_bytes(shape, precision, 1) - self._all_bytes(shape, precision, 0)

    def verification_bytes(self, shape: Shape, precision: Precision, universe: int) -> int:
        """With every expert or adapter, few of them chosen or many."""
        chosen = shape.size(self.among) * self._choice_bytes(shape, precision)
        rows = int(self.row_bytes(shape, precision, universe) * universe)
        return _COPIES * chosen + _ROWS_HELD * rows


_COPIES, _ROWS_HELD = 6, 16
"""Copies of what is shared that a verification holds at most, and of rows and results, about."""
