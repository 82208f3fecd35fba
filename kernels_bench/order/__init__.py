"""The order in which a kernel adds: read out, put into words, drawn, and compared over batches."""

from kernels_bench.order.certificate import Mismatch, Questions, certificate, confirm
from kernels_bench.order.reveal import Inconsistent, reveal
from kernels_bench.order.tree import Tree, tree

__all__ = ["Inconsistent", "Mismatch", "Questions", "Tree", "certificate", "confirm", "reveal", "tree"]
