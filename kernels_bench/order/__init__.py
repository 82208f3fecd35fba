"""The order in which a kernel adds: read out, put into words, drawn, and compared over batches."""

from kernels_bench.order.reveal import Inconsistent, Mismatch, certificate, confirm, reveal
from kernels_bench.order.tree import Tree, tree

__all__ = ["Inconsistent", "Mismatch", "Tree", "certificate", "confirm", "reveal", "tree"]
