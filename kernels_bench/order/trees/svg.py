"""A summation tree as a picture: SVG text, readable by any browser."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2
from xml.sax.saxutils import escape

import numpy as np

from kernels_bench.order.trees.description import sentence
from kernels_bench.order.trees.tree import Tree

WIDTH, HEIGHT, MARGIN = 960, 420, 56
_FONT = 'font-family="sans-serif" font-size="13"'
MOST_NODES = 1500
"""Sums that are drawn; of larger trees the smallest sums are left out, which lie closest together."""


def picture(tree: Tree) -> str:
    """Terms from left to right, sums above them at the height of how many terms they hold."""
    x, drawn = _places(tree), range(max(tree.terms, tree.nodes - MOST_NODES), tree.nodes)
    lines = [line for node in drawn for line in _joins(tree, node, x)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {_FONT}>',
        f"<title>{escape(sentence(tree))}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(tree, left_out=tree.nodes - tree.terms - len(drawn)),
        f'<path d="{" ".join(lines)}" fill="none" stroke="#1f4e79" stroke-width="1"/>',
        "</svg>",
    ]
    return "\n".join(parts)


def _places(tree: Tree) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where each node stands from left to right: a sum in the middle of what it adds."""
    x = np.empty(tree.nodes)
    x[: tree.terms] = np.linspace(MARGIN, WIDTH - MARGIN / 2, tree.terms) if tree.terms > 1 else WIDTH / 2
    for node, children in enumerate(tree.children, tree.terms):
        x[node] = x[list(children)].mean()
    return x


def _y(tree: Tree, size: int) -> float:
    return HEIGHT - MARGIN - (HEIGHT - 1.6 * MARGIN) * (log2(size) / log2(tree.terms) if tree.terms > 1 else 0)


def _joins(tree: Tree, node: int, x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[str]:
    """Each child's way up to its sum."""
    top = _y(tree, int(tree.sizes[node]))
    for child in tree.children[node - tree.terms]:
        yield f"M{x[child]:.1f} {_y(tree, int(tree.sizes[child])):.1f}V{top:.1f}H{x[node]:.1f}"


def _axes(tree: Tree, left_out: int) -> Iterator[str]:
    """Names of the axes, and the sizes at which sums stand."""
    note = f" ({left_out} small sums left out)" if left_out else ""
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">term along K{note}</text>'
    turned = f'x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})"'
    yield f'<text {turned} text-anchor="middle">terms in the sum</text>'
    for size in dict.fromkeys((1, *(int(s) for s in np.unique(tree.sizes) if log2(s).is_integer()), tree.terms)):
        y = _y(tree, size)
        yield f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{size}</text>'
        yield f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN / 2}" stroke="#ddd"/>'
    for term in dict.fromkeys((0, tree.terms // 2, tree.terms - 1)):
        place = MARGIN + (WIDTH - 1.5 * MARGIN) * (term / (tree.terms - 1) if tree.terms > 1 else 0.5)
        yield f'<text x="{place:.1f}" y="{HEIGHT - 32}" text-anchor="middle">{term}</text>'
