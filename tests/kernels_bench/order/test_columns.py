"""Columns that have an order of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernels_bench.order import Tree
from kernels_bench.order.probing import cancellation_prober as counting
from kernels_bench.order.trees.description import sentence
from support.known_orders import always, built, known_orders, mm_kernel
from support.read_orders import read


def two_orders() -> list[Tree]:
    return [built(known_orders(48)[name]) for name in ("groups of 16", "pairwise")]


def edged(orders: list[Tree], edge_of: Callable[[int], int]) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A launch of ``mm`` whose columns add in one order up to an edge, which M may move, and in another from there."""

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        edge = edge_of(len(rows[0]))
        parts = [weights[0][:, :edge], weights[0][:, edge:]]
        results = [mm_kernel(always(order))(rows, (part,))[0] for order, part in zip(orders, parts, strict=True)]
        return (torch.cat(results, 1),)

    return launch


def test_columns_of_a_tile_at_the_edge_may_have_an_order_of_their_own() -> None:
    orders = two_orders()
    found = read(edged(orders, lambda m: 32), "mm", 48)
    assert found.refused == {}
    (layout,) = found.distinct
    assert [(part.columns.tolist(), part.tree) for part in layout.parts] == [
        (list(range(32)), orders[0]),
        (list(range(32, 40)), orders[1]),
    ]
    assert layout.words == (
        "columns 0 to 31: 3 groups of 16 terms, each at once, one after the other; "
        f"columns 32 to 39: {sentence(orders[1])}"
    )
    assert found.trees == {}  # not one for all columns


def test_an_edge_that_moves_with_the_batch_is_seen() -> None:
    found = read(edged(two_orders(), lambda m: 32 if m < 8 else 24), "mm", 48)
    assert found.refused == {}
    assert len(found.distinct) == 2
    assert found.mismatch is not None


def test_of_very_many_columns_each_launch_draws_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_COLUMNS", 16)
    orders = two_orders()
    found = read(edged(orders, lambda m: 24), "mm", 48)
    assert found.refused == {}
    (layout,) = found.distinct
    assert [(part.columns.tolist(), part.tree) for part in layout.parts] == [
        (list(range(24)), orders[0]),
        (list(range(24, 40)), orders[1]),
    ]
    one = read(mm_kernel(always(orders[0])), "mm", 48)
    assert set(one.trees.values()) == {orders[0]}
