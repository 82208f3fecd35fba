"""What is computed.  One file an operator family; each offers ``OPERATORS``, a tuple of `Operator`.

To add an operator is to add a file here: `operators` finds it.
"""

from kernels_bench.operators.base import Operator, RowTensors, Tensors, operators
from kernels_bench.relations.batch import ResultRows

__all__ = ["Operator", "ResultRows", "RowTensors", "Tensors", "operators"]
