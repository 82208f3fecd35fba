"""Certificates: answers that one tree alone gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels_bench.order import confirm
from kernels_bench.order.reconstruct.cancellation import OutOfTime
from kernels_bench.order.reconstruct.certificate import Questions, certificate, certificate_size
from kernels_bench.order.reconstruct.certificate import meeting_sizes as sizes_met
from kernels_bench.order.trees.tree import Ints, Tree
from support.known_orders import Nested, built, nests
from support.read_orders import meeting_sizes, oracle


@settings(max_examples=100)
@given(nests(20), st.integers(1, 30))
def test_units_counted_in_parts_tell_the_size_of_the_node_in_which_two_terms_meet(nested: Nested, most: int) -> None:
    order = built(nested)
    pairs = [sorted(pair) for pair in meeting_sizes(nested)]
    if not pairs:
        return
    first, second = np.array(pairs, dtype=np.int64).T
    found = sizes_met(first, second, order.terms, most, oracle(order))
    assert [meeting_sizes(nested)[frozenset(pair)] for pair in pairs] == found.tolist()


def test_a_wide_sum_that_is_told_few_units_at_a_time_is_asked_about_in_pieces() -> None:
    """Of a vocabulary in bf16 all questions together are 90 million: making them took longer than all there is time."""
    seen: list[int] = []

    def left(asked: Questions) -> Ints:
        seen.append(len(asked))
        if len(seen) == 2:
            raise OutOfTime
        return np.zeros(len(asked), np.int64)

    terms = 151936
    with pytest.raises(OutOfTime):
        sizes_met(np.zeros(terms, np.int64), np.arange(terms), terms, 256, left)
    assert len(seen) == 2
    assert max(seen) <= 1 << 20


@settings(max_examples=100)
@given(nests(20), st.integers(1, 30))
def test_what_comes_of_pieces_is_what_comes_of_all_at_once(nested: Nested, most: int) -> None:
    order = built(nested)
    first, second = (side.ravel() for side in np.meshgrid(np.arange(order.terms), np.arange(order.terms)))
    different = first != second
    first, second = first[different], second[different]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kernels_bench.order.reconstruct.certificate._AT_ONCE", 1)
        in_pieces = sizes_met(first, second, order.terms, most, oracle(order))
    assert in_pieces.tolist() == sizes_met(first, second, order.terms, most, oracle(order)).tolist()


@settings(max_examples=200)
@given(nests(20), st.integers(1, 30))
def test_how_many_questions_a_certificate_has_is_known_before_it_is_made(nested: Nested, most: int) -> None:
    order = built(nested)
    assert certificate_size(order, most) == len(certificate(order, most)[0])


@settings(max_examples=300)
@given(nests(14), nests(14), st.integers(1, 14))
def test_no_other_tree_passes_the_certificate(one: Nested, other: Nested, most: int) -> None:
    known, asked = built(one), built(other)
    if known.terms != asked.terms:
        return
    found = confirm(known, oracle(asked), most)
    assert (found is None) == (known == asked)
    if found is not None:
        assert found.got == asked.sizes[asked.meeting(np.array([found.first]), np.array([found.second]))][0]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_every_tree_of_five_terms_fails_every_others_certificate(most: int) -> None:
    """All of them, so that the proof in `certificate` is seen to hold where it can be seen whole."""
    trees = {built(nested) for nested in every_nest([0, 1, 2, 3, 4])}
    assert len(trees) == 236  # Schröder's fourth problem, OEIS A000311
    certificates = {known: certificate(known, most) for known in trees}
    for together in on_one_line({known: asked for known, (asked, _) in certificates.items()}):
        asked = asked_at_once([certificates[known][0] for known in together])
        ends = np.cumsum([len(certificates[known][0]) for known in together])[:-1]
        answers = {other: np.split(oracle(other)(asked), ends) for other in trees}
        for at, known in enumerate(together):
            expected = certificates[known][1]
            assert [other for other in trees if (answers[other][at] == expected).all()] == [known]


def on_one_line(asked: Mapping[Tree, Questions]) -> list[list[Tree]]:
    """The trees, by the line on which the terms of their certificates stand."""
    found: dict[bytes, list[Tree]] = {}
    for tree, questions in asked.items():
        found.setdefault(questions.place.tobytes(), []).append(tree)
    return [*found.values()]


def asked_at_once(some: Sequence[Questions]) -> Questions:
    """All questions of one line, one after the other: asked one certificate at a time they take ten times as long."""
    first, second, among, but = (
        np.concatenate([getattr(one, name) for one in some]) for name in ("first", "second", "among", "but")
    )
    return Questions(place=some[0].place, first=first, second=second, among=among, but=but)


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
