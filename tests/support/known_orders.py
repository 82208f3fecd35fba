"""Known orders of addition, and kernels that really add in them, in numpy's fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels_bench.operators import RowTensors
from kernels_bench.order import Tree
from kernels_bench.order.trees.tree import tree

Nested = int | list["Nested"]


def built(nested: Nested) -> Tree:
    """The tree of nested lists, whose numbers are terms."""
    groups: list[list[int]] = []
    terms = len(list(leaves(nested)))

    def node(part: Nested) -> int:
        if isinstance(part, int):
            return part
        groups.append([node(child) for child in part])
        return terms + len(groups) - 1

    node(nested)
    return tree(terms, groups)


def leaves(nested: Nested) -> list[int]:
    return [nested] if isinstance(nested, int) else [leaf for part in nested for leaf in leaves(part)]


def one_after_the_other(parts: Sequence[Nested]) -> Nested:
    """A running sum."""
    total = parts[0]
    for part in parts[1:]:
        total = [total, part]
    return total


def pairwise(parts: Sequence[Nested]) -> Nested:
    """Neighbours, then neighbours of those, and so on."""
    while len(parts) > 1:
        parts = [list(parts[at : at + 2]) if at + 1 < len(parts) else parts[at] for at in range(0, len(parts), 2)]
    return parts[0]


def fused(terms: Sequence[int], width: int) -> Nested:
    """Groups of some width, each added to the running sum at once, as matrix units do."""
    total: Nested | None = None
    for at in range(0, len(terms), width):
        group: list[Nested] = list(terms[at : at + width])
        joined = group if total is None else [total, *group]
        total = joined if len(joined) > 1 else joined[0]
    assert total is not None
    return total


def split(terms: int, parts: int, within: Callable[[Sequence[int]], Nested], join: Callable[..., Nested]) -> Nested:
    """Split-K: equal parts, each added in an order of its own, then joined."""
    return join([within(range(p * terms // parts, (p + 1) * terms // parts)) for p in range(parts)])


def strided(terms: int, step: int) -> Nested:
    """Every so many-th term in one accumulator."""
    return pairwise([one_after_the_other(range(start, terms, step)) for start in range(min(step, terms))])


def nests(most: int = 48) -> st.SearchStrategy[Nested]:
    """Any tree over up to so many terms."""

    @st.composite
    def draw_nest(draw: st.DrawFn) -> Nested:
        count = draw(st.integers(1, most))
        parts: list[Nested] = list(draw(st.permutations(range(count))))
        while len(parts) > 1:
            width = draw(st.integers(2, min(len(parts), 5)))
            at = draw(st.integers(0, len(parts) - width))
            parts[at : at + width] = [list(parts[at : at + width])]
        return parts[0]

    return draw_nest()


def known_orders(terms: int) -> dict[str, Nested]:
    """The orders of common kernels."""
    everything: list[Nested] = list(range(terms))
    orders = {
        "sequential": one_after_the_other(everything),
        "reversed": one_after_the_other(everything[::-1]),
        "pairwise": pairwise(everything),
        "strided 4": strided(terms, 4),
        "strided 32": strided(terms, 32),
    }
    orders |= {f"groups of {width}": fused(range(terms), width) for width in (4, 8, 16, 32)}
    for parts in range(2, 17):
        if parts <= terms:
            for name, join in (("in sequence", one_after_the_other), ("pairwise", pairwise)):
                orders[f"split {parts} {name}"] = split(terms, parts, lambda part: fused(part, 16), join)
    return orders


def added(terms: NDArray[np.float32], order: Tree) -> NDArray[np.float32]:
    """Sums of (…, K) in an order, each addition rounded to fp32; more than two at once as matrix units add them.

    Those shift every addend to the largest one's exponent, drop what falls out, and round once.
    """
    values: list[NDArray[np.float32]] = [terms[..., term] for term in range(terms.shape[-1])]
    for children in order.children:
        addends = np.stack([values[child] for child in children]).astype(np.float64)
        if len(children) > 2:
            _, exponent = np.frexp(np.abs(addends).max(0))
            step = np.ldexp(1.0, exponent - 26)
            addends = np.trunc(addends / step) * step
        values.append(addends.sum(0).astype(np.float32))
    return values[-1]


Orders = Callable[[int, int], Tree]
"""The order at a number of rows, in one of them."""


def mean_kernel(orders: Orders) -> Callable[[RowTensors, tuple[torch.Tensor, ...]], RowTensors]:
    """A launch of ``mean`` that adds in the given orders."""

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        x = rows[0].float().numpy()
        m, k = x.shape
        sums = np.array([added(x[row : row + 1], orders(m, row))[0] for row in range(m)], dtype=np.float32)
        return (torch.from_numpy(sums / np.float32(k)).to(rows[0].dtype),)

    return launch


def mm_kernel(orders: Orders, rounded: torch.dtype | None = None) -> Callable[..., RowTensors]:
    """A launch of ``mm`` that adds in the given orders, and rounds its result to a dtype."""

    def launch(rows: RowTensors, weights: tuple[torch.Tensor, ...]) -> RowTensors:
        a, columns = rows[0].float().numpy(), weights[0].float().numpy().T
        result = np.stack([added(a[row] * columns, orders(len(a), row)) for row in range(len(a))])
        return (torch.from_numpy(result).to(rounded or rows[0].dtype),)

    return launch


def always(order: Tree) -> Orders:
    return lambda m, row: order


def binary_nests(most: int = 40) -> st.SearchStrategy[Nested]:
    """Any order of additions of two."""

    @st.composite
    def draw_nest(draw: st.DrawFn) -> Nested:
        parts: list[Nested] = list(draw(st.permutations(range(draw(st.integers(1, most))))))
        while len(parts) > 1:
            at = draw(st.integers(0, len(parts) - 2))
            parts[at : at + 2] = [list(parts[at : at + 2])]
        return parts[0]

    return draw_nest()


def softmax_kernel(orders: Orders) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A launch of ``softmax`` whose exponentials are really added in the given orders."""

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        x = rows[0].float()
        powers = (x - x.amax(1, keepdim=True)).exp().numpy()
        sums = np.array([added(powers[row : row + 1], orders(len(x), row))[0] for row in range(len(x))], np.float32)
        return (torch.from_numpy(powers / sums[:, None]),)

    return launch
