"""How batches are chosen.  One file a relation; each offers ``RELATION``.

A *batch* is an ordered choice of rows from one universe; a kernel is batch-invariant if a row's output has
the same bits in every batch.  To add a relation is to add a file here.
"""

from kernels_bench.relations.base import Comparison, Relation, Setting, relations
from kernels_bench.relations.batch import Batch
from kernels_bench.relations.batch_kinds import make_batch

__all__ = ["Batch", "Comparison", "Relation", "Setting", "make_batch", "relations"]
