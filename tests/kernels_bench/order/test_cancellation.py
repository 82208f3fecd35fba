"""Trees are read out of what cancellation leaves, and none that an answer contradicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.order import Inconsistent, Questions, Tree, confirm
from kernels_bench.order.reconstruct.cancellation import reveal
from kernels_bench.order.trees.tree import Ints, tree
from support.known_orders import Nested, built, nests
from support.read_orders import oracle


@settings(max_examples=200)
@given(nests(), st.integers(1, 50), st.integers(1, 64), st.integers(0, 5))
def test_any_tree_is_read_out(nested: Nested, most: int, width: int, seed: int) -> None:
    order = built(nested)
    assert reveal(order.terms, oracle(order), most, width, seed) == order


@settings(max_examples=200)
@given(nests(30), st.data())
def test_no_tree_is_given_that_contradicts_an_answer(nested: Nested, data: st.DataObject) -> None:
    order = built(nested)
    if order.terms < 3:
        return
    lie = frozenset(data.draw(st.lists(st.integers(0, order.terms - 1), min_size=2, max_size=2, unique=True)))
    offset = data.draw(st.sampled_from([-1, 1]))
    most = data.draw(st.integers(1, 30))
    told: list[tuple[Questions, Ints]] = []

    def lying(asked: Questions) -> Ints:
        wrong = [frozenset(pair) == lie for pair in zip(asked.first.tolist(), asked.second.tolist(), strict=True)]
        # Of a pair's parts the first lies, since what two of them add up to may be true again.
        wrong = [one and not asked.among[place, 0] for place, one in enumerate(wrong)]
        told.append((asked, oracle(order)(asked) + offset * np.array(wrong, dtype=np.int64)))
        return told[-1][1]

    try:
        found = reveal(order.terms, lying, most, 16)
    except Inconsistent:
        return
    for asked, answers in told:
        if most >= order.terms or asked.but.any():  # else what is known is the sum of several answers
            assert (oracle(found)(asked) == answers).all()


@pytest.mark.parametrize("terms", [4096])
@pytest.mark.parametrize(
    "name",
    [
        *("sequential", "pairwise", "groups of 16"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("reversed", "strided 32", "split 4 pairwise")),
    ],
)
def test_few_launches_are_enough(terms: int, name: str) -> None:
    order = tree_of(known_orders_flat(terms)[name], terms)
    launches = 0

    def left(asked: Questions) -> Ints:
        nonlocal launches
        launches += -(-len(asked) // 4096)
        return oracle(order)(asked)

    assert reveal(terms, left, 1 << 24, 4096) == order
    assert launches <= 24
    for most in (1 << 24, 256):  # of an fp32 result, and of a bf16 one
        launches = 0
        assert confirm(order, left, most) is None
        assert launches <= 17


def known_orders_flat(terms: int) -> dict[str, list[list[int]]]:
    """The same orders as lists of groups, since nested lists of thousands are too deep for Python."""

    def chain(parts: list[int], groups: list[list[int]]) -> int:
        total = parts[0]
        for part in parts[1:]:
            groups.append([total, part])
            total = terms + len(groups) - 1
        return total

    def pairs(parts: list[int], groups: list[list[int]]) -> int:
        while len(parts) > 1:
            joined = []
            for at in range(0, len(parts) - 1, 2):
                groups.append(parts[at : at + 2])
                joined.append(terms + len(groups) - 1)
            parts = joined + parts[len(parts) // 2 * 2 :]
        return parts[0]

    def fuse(parts: list[int], groups: list[list[int]]) -> int:
        total: list[int] = []
        for at in range(0, len(parts), 16):
            groups.append([*total, *parts[at : at + 16]])
            total = [terms + len(groups) - 1]
        return total[0]

    found: dict[str, list[list[int]]] = {name: [] for name in ("sequential", "reversed", "pairwise", "groups of 16")}
    everything = list(range(terms))
    chain(everything, found["sequential"])
    chain(everything[::-1], found["reversed"])
    pairs(everything, found["pairwise"])
    fuse(everything, found["groups of 16"])
    strides: list[list[int]] = []
    pairs([chain(everything[start::32], strides) for start in range(32)], strides)
    parts: list[list[int]] = []
    pairs([fuse(everything[at : at + terms // 4], parts) for at in range(0, terms, terms // 4)], parts)
    return found | {"strided 32": strides, "split 4 pairwise": parts}


def tree_of(groups: list[list[int]], terms: int) -> Tree:
    return tree(terms, groups)
