"""How companies are chosen.  One file a relation; each offers ``RELATION``.

A *company* is an ordered choice of rows from one universe; a kernel is batch-invariant if a row's output has
the same bits in every company.  To add a relation is to add a file here.
"""

from kernels_bench.relations.base import Comparison, Relation, Setting, relations
from kernels_bench.relations.batch import Batch, make_batch

__all__ = ["Batch", "Comparison", "Relation", "Setting", "make_batch", "relations"]
