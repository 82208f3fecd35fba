"""``concurrency``: beside another launch of the same kernel at the same time."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

TIMES = 4


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A few sizes, several times each."""
    for m in setting.few:
        yield from [Comparison(f"first:{m}", f"first:{m}", launch="concurrent")] * TIMES


RELATION = Relation("concurrency", "beside another call, on another stream or thread", comparisons, 13)
