"""Trees: which terms meet where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.order.trees.tree import tree
from support.known_orders import Nested, built, nests
from support.read_orders import meeting_sizes


@given(nests(20))
def test_terms_meet_in_the_smallest_part_that_has_both(nested: Nested) -> None:
    order = built(nested)
    pairs = meeting_sizes(nested)
    if pairs:
        first, second = np.array([sorted(pair) for pair in pairs]).T
        assert order.sizes[order.meeting(first, second)].tolist() == list(pairs.values())


@given(nests(20), st.randoms())
def test_the_order_of_children_does_not_matter(nested: Nested, random: object) -> None:
    def shuffled(part: Nested) -> Nested:
        if isinstance(part, int):
            return part
        parts = [shuffled(child) for child in part]
        random.shuffle(parts)  # type: ignore[attr-defined]
        return parts

    other = built(shuffled(nested))
    assert other == built(nested)
    assert (other.digest, hash(other)) == (built(nested).digest, hash(built(nested)))


@given(nests(12), nests(12))
def test_digests_differ_where_orders_do(one: Nested, other: Nested) -> None:
    assert (built(one).digest == built(other).digest) == (built(one) == built(other))


@given(nests(24), st.integers(0, 2**32))
def test_sums_below_nodes(nested: Nested, seed: int) -> None:
    order = built(nested)
    values = np.random.default_rng(seed).integers(-9, 9, order.terms)
    below = order.below(values)
    assert below[-1] == values.sum()
    for node, children in enumerate(order.children, order.terms):
        assert below[node] == sum(below[child] for child in children)


@given(nests(24))
def test_every_nodes_terms_are_neighbours_on_a_line(nested: Nested) -> None:
    order = built(nested)
    below: list[set[int]] = [{place} for place in order.begins[: order.terms].tolist()]
    for children in order.children:
        below.append(set().union(*(below[child] for child in children)))
    for node, places in enumerate(below):
        begin = int(order.begins[node])
        assert places == set(range(begin, begin + int(order.sizes[node])))


@pytest.mark.parametrize(
    ("terms", "groups"),
    [(3, [[0, 1]]), (3, [[0, 1], [1, 2]]), (2, [[0]]), (3, [[0, 4], [1, 2]]), (4, [[0, 1], [2, 3]]), (2, [[0, 0]])],
)
def test_what_is_no_tree_is_refused(terms: int, groups: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"no tree|cannot have"):
        tree(terms, groups)
