"""``repeat``: the same company again."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

TIMES = 3


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Each telling size, run again; of these a few `TIMES` times."""
    few = setting.few
    for m in setting.telling:
        yield from [Comparison(f"first:{m}", f"first:{m}")] * (TIMES if m in few else 1)


RELATION = Relation("repeat", "the same company again", comparisons, order=0)
