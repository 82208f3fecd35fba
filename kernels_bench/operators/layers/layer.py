"""The base of operators that engines run beside matrix products, norms and attention."""

from __future__ import annotations

from kernels_bench.operators.defined import DefinedOperator
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

    @staticmethod
    def _measured(definition: Definition) -> tuple[str, ...]:
        return tuple(shape.label for shape in definition.shapes if not shape.label.startswith("small/"))
