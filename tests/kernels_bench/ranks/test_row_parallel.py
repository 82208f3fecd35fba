"""A linear split over ranks: the same bits at any TP size, or not; seen on processes that are ranks."""

from __future__ import annotations

import os

import pytest
import torch

from kernels_bench.arms import Kernel, Unsupported, arms
from kernels_bench.arms.ranks.kernels import library_kernels
from kernels_bench.operators import operators
from kernels_bench.operators.layers.ranks import SIZES, split
from kernels_bench.order.batch_sweep import Task
from kernels_bench.order.case_order import order_of
from kernels_bench.order.trees.tree import Tree
from kernels_bench.records.cases import Case, Precision, Shape
from kernels_bench.records.results import RelationResult
from kernels_bench.relations import Setting, relations
from kernels_bench.relations.tensor_parallel import comparisons
from kernels_bench.verification.subject.kernel_under_test import KernelUnderTest
from kernels_bench.verification.verifier import Verifier

NAME = "row_parallel_linear"
CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without a name is Linux's")


@pytest.fixture(scope="module")
def ours() -> Kernel:
    """Whose ranks are started once for all tests of this module."""
    return arms()["samebits"].kernels()[NAME]


def shape(ranks: int, n: int = 12, k: int = 96) -> Shape:
    return Shape.of("test", {"ranks": ranks, "n": n, "k": k})


def verified(kernel: Kernel, at: Shape, *names: str) -> dict[str, RelationResult]:
    case = Case(arm="test", operator=NAME, shape=at, precision=Precision.parse("bf16"))
    subject = KernelUnderTest(case, operators()[NAME], kernel, seed=1, universe=9, device=CPU)
    found = Verifier(subject, 1, claims=()).verify([relations()[name] for name in names], Setting(9, (1, 5, 9)), (9,))
    assert not found.wrong
    return {one.relation: one for one in found.relations}


def test_as_engines_do_it_another_tp_size_has_other_bits_and_a_tree_over_k_has_the_same(ours: Kernel) -> None:
    usual = verified(library_kernels()[NAME], shape(2), "repeat", "tensor_parallel")
    assert usual["repeat"].status == "held"
    assert (usual["tensor_parallel"].status, usual["tensor_parallel"].binding) == ("broken", False)
    assert {"tp:9:1", "tp:9:4", "tp:9:8"} <= {*usual["tensor_parallel"].broken}
    assert "tp:9:2" not in usual["tensor_parallel"].broken  # the shape's own
    names = ("repeat", "batch_size", "layout", "history", "tensor_parallel")
    odd = shape(4, n=13, k=99)  # zeros fill K up to 104
    assert {one.status for one in verified(ours, odd, *names).values()} == {"held"}


def test_the_order_is_one_tree_at_every_tp_size(ours: Kernel) -> None:
    """Read out at one, and proven to be that of the others."""
    trees: list[Tree] = []
    digests = set()
    for ranks in SIZES:
        at = shape(ranks, n=16, k=32)
        case = Case(arm="test", operator=NAME, shape=at, precision=Precision.parse("fp32"))
        order, reading = order_of(case, operators()[NAME].for_shape(at), ours, Task((1, 3), guesses=trees), CPU)
        assert (order.status, order.terms) == ("proven", 32), ranks
        digests |= {one.digest for one in order.found}
        trees = [*reading.trees.values()][:1]
    assert len(digests) == 1
    assert order.found[0].words.startswith("8 parts of 4 terms, added pairwise")


def test_ranks_have_the_weight_as_it_is_now_though_they_keep_it(ours: Kernel) -> None:
    x, weight = torch.randn(3, 16), torch.randn(5, 16)
    for _ in range(2):
        assert torch.allclose(ours(split(x, 2), weight), x @ weight.t(), atol=1e-5)
        assert torch.allclose(ours.prepare(split(x, 2), weight)(), x @ weight.t(), atol=1e-5)  # type: ignore[attr-defined]
        weight.mul_(-3)


def test_what_it_has_no_order_for_is_refused_and_more_ranks_than_there_are_gpus_are_not_asked_for(ours: Kernel) -> None:
    with pytest.raises(Unsupported, match=r"one order at 1, 2, 4, 8 ranks, and not at 3"):
        ours(split(torch.ones(2, 24), 3), torch.ones(4, 24))
    asked = {one.company for one in comparisons(Setting(4, (4,), ranks=2))}
    assert asked == {"tp:4:1", "tp:4:2"}
