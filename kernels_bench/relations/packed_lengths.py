"""``packed_lengths``: the same packed sequences in batches that are all short, all long, or all of one length."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting
from kernels_bench.relations.batch import ALIKE, FIRST_ALIKE, FIRST_WHOLE

# Parts of the universe.
PARTS = (8, 4, 2)
SHORTEST = 2
"""So many of the shortest ones are as short as any, as decode steps are beside a prefill."""


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The shortest and the longest ones at a few sizes, one of these among those, and those of one length or tile."""
    whole = f"first:{setting.universe}"
    for m in setting.few:
        for part in sorted({1 + setting.universe // part for part in PARTS if setting.universe > 1}):
            yield Comparison(whole, f"short:{m}:{part}")
            yield Comparison(whole, f"long:{m}:{part}")
        if m > 1:
            for kind in ("lone", "leading", "trailing"):
                yield Comparison(whole, f"{kind}:{m}:{min(setting.universe, SHORTEST)}")
            yield Comparison(whole, f"twins:{m // 2 * 2}")
        if setting.universe >= ALIKE:
            for first in (FIRST_ALIKE, FIRST_WHOLE):
                yield Comparison(whole, f"every:{m}:{ALIKE}:{first}")


RELATION = Relation(
    "packed_lengths",
    "packed sequences that are all short, all long, of one length, or in pairs of one",
    comparisons,
    19,
    needs="packed",
)
