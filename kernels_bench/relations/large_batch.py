"""``large_batch``: more rows than the universe has, until offsets pass what few bits hold."""

from collections.abc import Iterator

from kernels_bench.relations.base import Comparison, Relation, Setting

# Beyond what 9 to 16 bits count, by more than a tile.
SIZES = tuple((1 << bits) + 64 for bits in range(9, 17))


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """The universe's rows over and over, half again as many."""
    m = setting.universe + setting.universe // 2 + 1
    if m <= setting.most:
        yield Comparison(f"first:{setting.universe}", f"cycled:{m}")


def more(setting: Setting) -> Iterator[Comparison]:
    """Up to 65,600 rows; where memory allows, so many that the result has more than 2^31 elements."""
    whole = f"first:{setting.universe}"
    sizes = {m for m in SIZES if 2 * setting.universe < m <= setting.most}
    for m in sorted(sizes | ({setting.huge} if setting.huge else set())):
        yield Comparison(whole, f"cycled:{m}")
    if setting.far:
        yield Comparison(whole, f"far:{setting.universe}")


RELATION = Relation(
    "large_batch", "more rows than 16 bits count, and more elements than 31", comparisons, 16, more, hazardous=True
)
