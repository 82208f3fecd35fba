"""The order in which a kernel adds: read out, put into words, drawn, and compared over batches."""

from kernels_bench.order.reconstruct.cancellation import Inconsistent, reveal
from kernels_bench.order.reconstruct.certificate import Questions, certificate, confirm
from kernels_bench.order.trees.tree import Mismatch, Tree, tree

__all__ = ["Inconsistent", "Mismatch", "Questions", "Tree", "certificate", "confirm", "reveal", "tree"]
