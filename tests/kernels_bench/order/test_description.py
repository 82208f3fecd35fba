"""Orders in words."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given

from kernels_bench.order.trees.description import outline, sentence
from support.known_orders import Nested, built, fused, nests, one_after_the_other, pairwise, split, strided


@pytest.mark.parametrize(
    ("nested", "told"),
    [
        (0, "one term"),
        ([0, 1], "2 terms one after the other"),
        (one_after_the_other(range(9)), "9 terms one after the other"),
        (one_after_the_other(range(8, -1, -1)), "9 terms one after the other, last first"),
        (one_after_the_other((2, 1, 0, 3)), "4 terms one after the other, last first, around from term 2"),
        (one_after_the_other((1, 0, 3, 2)), "4 terms one after the other, last first, around from term 1"),
        (one_after_the_other((2, 3, 4, 0, 1)), "5 terms one after the other, around from term 2"),
        (one_after_the_other((0, 2, 1, 4, 3)), "5 terms one after the other, in no regular order"),
        (pairwise(range(16)), "16 terms, added pairwise"),
        (fused(range(64), 16), "4 groups of 16 terms, each at once, one after the other"),
        (fused(range(39), 16), "2 groups of 16 terms, each at once, one after the other, then 7 terms at once"),
        (fused(range(16), 16), "16 terms at once"),
        (
            split(64, 4, lambda part: fused(part, 8), pairwise),
            "4 parts of 16 terms, added pairwise: each 2 groups of 8 terms, each at once, one after the other",
        ),
        (
            split(96, 3, one_after_the_other, one_after_the_other),
            "3 parts of 32 terms, added one after the other: each 32 terms one after the other",
        ),
        (
            strided(64, 4),
            "4 parts of 16 terms, interleaved, added pairwise: each 16 terms one after the other, 4 apart",
        ),
    ],
)
def test_orders_in_words(nested: Nested, told: str) -> None:
    assert sentence(built(nested)) == told


def test_an_irregular_order_says_how_much_is_left_untold_and_where_it_is_shown() -> None:
    widths = [1, 2, 3, 4, 5, 1, 3, 2, 2, 5, 1, 4]
    order: Nested = 0
    for start, width in zip(accumulate(widths, initial=1), widths, strict=False):
        order = [order, *range(start, start + width)]
    assert sentence(built(order)) == (
        "2 groups of 2 terms, each at once, one after the other, then 3 terms at once, then 4 terms at once, "
        "then 5 terms at once, then 7 further additions of 5 different kinds; "
        "too irregular for a sentence: order outlines it, order --svg DIR draws it"
    )


def test_parts_that_are_added_at_once_are_told_once_or_counted() -> None:
    pairs: list[Nested] = [[first, first + 1] for first in range(0, 12, 2)]
    assert sentence(built(pairs)) == "6 parts at once, each 2 terms one after the other"
    told = sentence(built([*pairs, 12]))
    assert told.startswith("7 parts at once (2 terms one after the other; ")
    assert "; 3 further parts); too irregular for a sentence: " in told


@given(nests(40))
def test_every_tree_has_words_and_an_outline(nested: Nested) -> None:
    order = built(nested)
    assert "{" not in sentence(order)
    lines = list(outline(order))
    assert lines
    assert len(lines) <= 25
