"""Answers and results of known orders, for the tests of what is read out of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kernels_bench.operators import operators
from kernels_bench.order import Questions, Tree
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.order.reconstruct.certificate import Left
from kernels_bench.order.trees.tree import Ints
from kernels_bench.records.cases import Precision, Shape
from support.known_orders import Nested, leaves

CPU = torch.device("cpu")


def meeting_sizes(nested: Nested) -> dict[frozenset[int], int]:
    """By definition, for every pair of terms: the size of the smallest part that has both."""
    found: dict[frozenset[int], int] = {}

    def visit(part: Nested) -> None:
        if isinstance(part, int):
            return
        inside = leaves(part)
        for a in inside:
            for b in inside:
                if a < b:
                    found[frozenset((a, b))] = len(inside)
        for child in part:  # smaller parts later, so that they have the last word
            visit(child)

    visit(nested)
    return found


def oracle(order: Tree) -> Left:
    """What a kernel that adds in an order leaves of units, by the order alone."""

    def inside(places: Ints, bounds: Ints) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        return (places >= bounds[:, :1]) & (places < bounds[:, 1:])

    def some(asked: Questions, chosen: slice) -> Ints:
        first, second = asked.first[chosen], asked.second[chosen]
        node = order.meeting(first, second)
        units = inside(asked.place, asked.among[chosen]) & ~inside(asked.place, asked.but[chosen])
        begin = order.begins[node]
        kept = ~inside(order.begins[: order.terms], np.stack([begin, begin + order.sizes[node]], 1))
        counts: Ints = (units & kept).sum(1)
        return counts

    def left(asked: Questions) -> Ints:
        parts = [some(asked, slice(begin, begin + 512)) for begin in range(0, len(asked), 512)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    return left


def read(launch: Callable[..., tuple[torch.Tensor, ...]], operator: str, k: int, dtype: str = "fp32") -> OrderSweep:
    """Orders of a launch at 1, 3 and 8 rows."""
    shape = Shape(label="test", k=k, n=None if operator == "mean" else 40)
    precision = Precision.parse(dtype)

    def prober(m: int) -> CancellationProber:
        return CancellationProber(operators()[operator], shape, precision, launch, m=m, device=CPU)

    return read_orders(prober, Task([1, 3, 8]))
