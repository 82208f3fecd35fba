"""Orders of addition: trees, reading them out, and never claiming one that the data contradict."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.arms import Unsupported
from kernels_bench.faults.planted.sums import in_sequence, products
from kernels_bench.operators import operators
from kernels_bench.order import Inconsistent, Questions, Tree, confirm
from kernels_bench.order.batch_sweep import OrderSweep, Task, read_orders
from kernels_bench.order.probing import cancellation_prober as counting
from kernels_bench.order.probing.cancellation_prober import CancellationProber
from kernels_bench.order.reconstruct.cancellation import reveal
from kernels_bench.order.reconstruct.certificate import Left, certificate
from kernels_bench.order.reconstruct.certificate import meeting_sizes as sizes_met
from kernels_bench.order.trees.description import outline, sentence
from kernels_bench.order.trees.tree import Ints, tree
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.relations import make_batch
from kernels_bench.verification.kernel_under_test import KernelUnderTest
from support.known_orders import (
    Nested,
    always,
    built,
    fused,
    known_orders,
    leaves,
    mean_kernel,
    mm_kernel,
    nests,
    one_after_the_other,
    pairwise,
    split,
    strided,
)

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


@settings(max_examples=300)
@given(nests(20), st.integers(1, 30))
def test_units_counted_in_parts_tell_the_size_of_the_node_in_which_two_terms_meet(nested: Nested, most: int) -> None:
    order = built(nested)
    pairs = [sorted(pair) for pair in meeting_sizes(nested)]
    if not pairs:
        return
    first, second = np.array(pairs, dtype=np.int64).T
    found = sizes_met(first, second, order.terms, most, oracle(order))
    assert [meeting_sizes(nested)[frozenset(pair)] for pair in pairs] == found.tolist()


def read(launch: Callable[..., tuple[torch.Tensor, ...]], operator: str, k: int, dtype: str = "fp32") -> OrderSweep:
    """Orders of a launch at 1, 3 and 8 rows."""
    shape = Shape(label="test", k=k, n=None if operator == "mean" else 40)
    precision = Precision.parse(dtype)

    def prober(m: int) -> CancellationProber:
        return CancellationProber(operators()[operator], shape, precision, launch, m=m, device=CPU)

    return read_orders(prober, Task([1, 3, 8]))


# Trees.


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


# Reading them out.


@settings(max_examples=1500)
@given(nests(), st.integers(1, 50), st.integers(1, 64), st.integers(0, 5))
def test_any_tree_is_read_out(nested: Nested, most: int, width: int, seed: int) -> None:
    order = built(nested)
    assert reveal(order.terms, oracle(order), most, width, seed) == order


@settings(max_examples=600)
@given(nests(14), nests(14), st.integers(1, 14))
def test_no_other_tree_passes_the_certificate(one: Nested, other: Nested, most: int) -> None:
    known, asked = built(one), built(other)
    if known.terms != asked.terms:
        return
    found = confirm(known, oracle(asked), most)
    assert (found is None) == (known == asked)
    if found is not None:
        assert found.got == asked.sizes[asked.meeting(np.array([found.first]), np.array([found.second]))][0]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_every_tree_of_five_terms_fails_every_others_certificate(most: int) -> None:
    """All of them, so that the proof in `certificate` is seen to hold where it can be seen whole."""
    trees = {built(nested) for nested in every_nest([0, 1, 2, 3, 4])}
    assert len(trees) == 236  # Schröder's fourth problem, OEIS A000311
    for known in trees:
        asked, expected = certificate(known, most)
        assert [other for other in trees if (oracle(other)(asked) == expected).all()] == [known]


def every_nest(parts: list[Nested]) -> list[Nested]:
    """All ways to group some parts."""
    if len(parts) == 1:
        return [parts[0]]
    found: list[Nested] = []
    for groups in set_partitions(parts):
        if len(groups) > 1:
            choices: list[list[Nested]] = [[]]
            for group in groups:
                choices = [[*chosen, nest] for chosen in choices for nest in every_nest(group)]
            found += choices
    return found


def set_partitions(parts: list[Nested]) -> list[list[list[Nested]]]:
    if not parts:
        return [[]]
    first, *rest = parts
    return [
        new
        for partition in set_partitions(rest)
        for new in (
            [[first], *partition],
            *([[first, *group] if at == place else group for at, group in enumerate(partition)]
              for place in range(len(partition))),
        )
    ]  # fmt: skip


@settings(max_examples=400)
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
    "name", ["sequential", "reversed", "pairwise", "strided 32", "groups of 16", "split 4 pairwise"]
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


# Kernels.


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("terms", [1, 2, 3, 17, 64, 100])
def test_known_orders_are_read_off_a_kernels_results(terms: int, dtype: str) -> None:
    for name, nested in known_orders(terms).items():
        order = built(nested)
        found = read(mm_kernel(always(order)), "mm", terms, dtype)
        assert found.refused == {}, name
        assert set(found.trees.values()) == {order}, name
        assert found.mismatch is None


@settings(max_examples=250)
@given(nests(40), st.sampled_from(["fp32", "bf16"]))
def test_any_order_is_read_off_a_kernels_results(nested: Nested, dtype: str) -> None:
    order = built(nested)
    found = read(mm_kernel(always(order)), "mm", order.terms, dtype)
    assert (set(found.trees.values()), found.refused) == ({order}, {})


@settings(max_examples=100)
@given(nests(24))
def test_any_order_is_read_off_a_row_kernels_results(nested: Nested) -> None:
    order = built(nested)
    found = read(mean_kernel(always(order)), "mean", order.terms)
    assert (set(found.trees.values()), found.refused) == ({order}, {})


def test_a_split_that_depends_on_the_batch_is_seen_and_told() -> None:
    whole = built(fused(range(64), 16))
    in_four = built(split(64, 4, lambda part: fused(part, 16), one_after_the_other))
    found = read(mm_kernel(lambda m, row: in_four if m < 3 else whole), "mm", 64)
    assert found.trees == {1: in_four, 3: whole, 8: whole}
    assert found.mismatch is not None
    assert found.mismatch[0] == 3
    assert sentence(in_four) == "4 parts of 16 terms, added one after the other: each 16 terms at once"
    assert sentence(whole) == "4 groups of 16 terms, each at once, one after the other"


def test_two_rows_of_one_launch_with_different_orders_are_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]
    found = read(mm_kernel(lambda m, row: orders[row == 7]), "mm", 32)
    assert found.trees.keys() == {1, 3}
    assert re.search("row 7 adds in another order than row 0", found.uneven[8])
    assert found.refused == {}


def test_a_dropped_tail_is_no_proof() -> None:
    order = built(fused(range(48), 16))

    def drops(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        kept = weights[0].clone()
        kept[-5:] = 0
        return mm_kernel(always(order))(rows, (kept,))

    found = read(drops, "mm", 48)
    assert found.trees == {}
    assert len(found.refused) == 3


def test_an_order_that_depends_on_the_data_is_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        negative = bool((weights[0] == -1).any())  # as no question is, and every check
        return mm_kernel(always(orders[negative]))(rows, weights)

    found = read(launch, "mm", 32)
    assert found.trees == {}
    assert all("its order depends on its data" in reason for reason in found.refused.values())


def test_a_kernel_that_is_not_repeatable_is_no_proof() -> None:
    orders = [built(known_orders(32)[name]) for name in ("sequential", "pairwise")]
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        return mm_kernel(always(orders[calls % 2]))(rows, weights)

    found = read(launch, "mm", 32)
    assert found.trees == {}
    assert len(found.refused) == 3


def test_sums_that_are_not_swamped_are_no_proof() -> None:
    """An accumulator that holds both the huge terms and the units, as no binary format has."""

    def exact(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        columns = weights[0].double()
        huge = columns.abs() > 2**50
        return ((rows[0].double() @ columns.masked_fill(huge, 0)).float(),)

    found = read(exact, "mm", 32)
    assert found.trees == {}
    assert all("lost" in reason or "meets" in reason for reason in found.refused.values())


def test_a_result_rounded_in_between_is_no_proof() -> None:
    """Parts joined in bf16 lose units that no huge term took."""

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        halves = products(rows[0], weights[0]).tensor_split(2, 1)
        return ((in_sequence(halves[0]).bfloat16() + in_sequence(halves[1]).bfloat16()).float(),)

    found = read(launch, "mm", 1023)
    assert found.trees == {}


def test_what_cannot_be_read_is_unsupported() -> None:
    shape = Shape(label="test", k=64)
    with pytest.raises(Unsupported, match="attention_decode"):
        CancellationProber(
            operators()["attention_decode"],
            shape,
            Precision.parse("fp32"),
            mean_kernel(always(built(0))),
            m=1,
            device=CPU,
        )
    long = Shape(label="test", k=1 << 16, n=8)
    with pytest.raises(Unsupported, match="fp16 has no numbers"):
        CancellationProber(
            operators()["mm"], long, Precision.parse("fp16"), mean_kernel(always(built(0))), m=1, device=CPU
        )


@pytest.mark.parametrize("operator", ["mm", "linear", "linear_bias", "addmm", "bmm", "bmm_heads"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_cpu_arm_is_proven_over_the_batch(operator: str, dtype: str) -> None:
    from kernels_bench.arms import arms

    kernel = arms()["samebits"].kernels()[operator]
    chosen = operators()[operator]
    shape = Shape(label="test", k=33, n=16, b=2 if operator == "bmm_heads" else None)

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return chosen.split_result(kernel(*chosen.arguments(rows, weights)))

    found = read_orders(
        lambda m: CancellationProber(chosen, shape, Precision.parse(dtype), launch, m=m, device=CPU),
        Task([1, 2, 3, 5, 9, 17]),
    )
    assert found.refused == found.uneven == {}
    # Columns may have orders of their own, as the library gives its last tile, but the same ones at every M.
    assert len(found.distinct) == 1
    assert found.layouts.keys() == {1, 2, 3, 5, 9, 17}


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


# Words.


@pytest.mark.parametrize(
    ("nested", "told"),
    [
        (0, "one term"),
        ([0, 1], "2 terms one after the other"),
        (one_after_the_other(range(9)), "9 terms one after the other"),
        (one_after_the_other(range(8, -1, -1)), "9 terms one after the other, last first"),
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


def test_what_cannot_be_done_in_time_is_not_begun() -> None:
    shape, precision = Shape(label="test", k=4096), Precision.parse("fp32")
    calls = 0

    def launch(rows: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        return (rows[0].mean(1),)

    found = read_orders(
        lambda m: CancellationProber(operators()["mean"], shape, precision, launch, m=m, device=CPU),
        Task([1, 2], budget_s=0.1),
    )
    assert calls == 0
    assert found.refused.keys() == {1, 2}
    assert "it takes 6143 launches at least" in found.refused[1]


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


class Seen(Exception):  # noqa: N818 - it ends a launch before there is a result
    """What a kernel was given."""


def form_of(argument: object) -> object:
    """What of an argument a kernel may choose its code by; a cache's number of pages is none of that."""
    if isinstance(argument, tuple):
        return tuple(map(form_of, argument))
    if not isinstance(argument, torch.Tensor):
        return type(argument)
    pages = argument.dim() in (3, 4) and argument.dtype.is_floating_point
    return argument.dtype, tuple(argument.shape)[int(pages) :], argument.stride()


def looks(*arguments: object) -> NoReturn:
    raise Seen(tuple(map(form_of, arguments)), len(arguments[0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(operators()))
@pytest.mark.parametrize("m", [1, 2, 17])
def test_what_is_asked_has_the_form_of_what_is_verified(name: str, m: int) -> None:
    """A proof of another layout would be a proof of another kernel."""
    operator = operators()[name]
    length = 129 if operator.rows_are != "rows" else None
    shape = min(operator.shapes, key=lambda one: one.k * (one.n or 1))
    operator = operator.for_length(length)
    case = Case(arm="planted", operator=name, shape=shape, precision=Precision.parse("bf16"))
    subject = KernelUnderTest(case, operator, looks, seed=0, universe=32, device=torch.device("cpu"))
    with pytest.raises(Seen) as verified:
        subject.run(make_batch(f"first:{m}", 32))
    asked = operators()[name].for_probing(length, "flat")
    terms = torch.ones(asked.probe_sum_count(shape, m), asked.probe_terms(shape), dtype=torch.bfloat16)
    with pytest.raises(Seen) as probed:
        looks(*asked.probe_arguments(*asked.probe_inputs(terms, shape, m)))
    assert probed.value.args == verified.value.args
