"""The orders that most matrix products have, so that they need not be read out, but proven only."""

from __future__ import annotations

from functools import lru_cache

from kernels_bench.operators import Operator
from kernels_bench.order.trees.tree import Tree, tree
from kernels_bench.records.cases import Case

AT_ONCE = {"bf16": 16, "fp16": 16, "fp32": 1}
"""Terms of each dtype that are added to a running sum at once: by a matrix unit of a Hopper GPU, or one by one."""


def usual_orders(operator: Operator, case: Case) -> tuple[Tree, ...]:
    """What may well be the order of a case; nothing of operators that are no matrix products."""
    if operator.sums_are_rows or not operator.signed or not operator.probe_sum_count(case.shape, 1):
        return ()
    return (usual_order(operator.probe_terms(case.shape), AT_ONCE[case.precision.input]),)


@lru_cache(16)
def usual_order(terms: int, at_once: int) -> Tree:
    """Groups of terms, each added to the running sum at once; the last one may be smaller.

    Args:
        terms: how many there are.
        at_once: of a group.
    """
    groups: list[list[int]] = []
    total: list[int] = []
    for begin in range(0, terms, at_once):
        joined = [*total, *range(begin, min(begin + at_once, terms))]
        if len(joined) > 1:
            groups.append(joined)
            joined = [terms + len(groups) - 1]
        total = joined
    return tree(terms, groups)
