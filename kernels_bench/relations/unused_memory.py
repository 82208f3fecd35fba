"""``unused_memory``: what lies beside the rows, and in slots of a KV cache that no token was written to."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import UNUSED


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """NaN before and after the rows in memory, and everything in `UNUSED` in the cache, at telling sizes, or a few."""
    for m in setting.fewest if setting.longest else setting.telling:
        yield Comparison(f"first:{m}", f"first:{m}", launch="padded")
        if setting.longest:
            for number in range(1, len(UNUSED)):
                yield Comparison(f"first:{m}", f"unused:{m}:{number}")


def more(setting: Setting) -> Iterator[Comparison]:
    """NaN beside the rows at sizes between those, and then at every M up to some hundreds."""
    telling = setting.telling
    for m in () if setting.longest else dict.fromkeys((*setting.between, *setting.dense)):
        if m not in telling:
            yield Comparison(f"first:{m}", f"first:{m}", launch="padded")


RELATION = Relation(
    "unused_memory", "other things in memory that no row and no token was written to", comparisons, 10, more
)
