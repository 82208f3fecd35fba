"""``repeat``: the same company again."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

TIMES = 3


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each of a few sizes, run again `TIMES` times."""
    for m in setting.few:
        yield from [Comparison(f"first:{m}", f"first:{m}")] * TIMES


RELATION = Relation("repeat", "the same company again", comparisons, order=0)
