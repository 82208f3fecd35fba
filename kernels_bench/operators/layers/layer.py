"""The base of operators that engines run beside matrix products, norms and attention."""

from __future__ import annotations

from kernels_bench.operators.defined import DefinedOperator, Function
from kernels_bench.records.cases import Shape
from kernels_bench.records.definition import Definition

LATER = 9
"""``ORDER`` of all these operators' files: they come after those of a default run."""


class LayerOperator(DefinedOperator):
    """An operator described by what one row of it is; a file's subclass names its family.

    On a GPU the shapes of models are measured and those whose names begin with ``unaligned/``; on a CPU those that
    begin with ``small/``.
    """

    own = False
    by_request = ("cuda", "cpu")

    def __init__(
        self,
        definition: Definition,
        reference: Function | None = None,
        allowed_error: float | Function | None = None,
        at: Shape | None = None,
    ) -> None:
        super().__init__(definition, reference, allowed_error, at)
        on_gpu = [shape.label for shape in definition.shapes if not shape.label.startswith("small/")]
        vars(self).update(usual=tuple(on_gpu), quick=tuple(on_gpu[:1]))
